"""Turns -> sessions: a gap of at least the thread's threshold starts a new one."""

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Bools, Ints
from jaegpt.dialogue.session_gaps import starts_session
from jaegpt.tables import SCHEMAS, column, thread_starts


def sessionize(turns: pa.Table) -> pa.Table:
    """A part of `turns` -> a part of `sessions`: `session_index` counts from 0 within each thread."""
    starts = thread_starts(column(turns, "thread_id"))
    gap_ms = column(turns, "gap_ms").fill_null(-1).to_numpy()
    threshold_ms = column(turns, "threshold_ms").fill_null(np.inf).to_numpy()
    begins = starts_session(gap_ms, threshold_ms)
    begins[starts] = True
    count = np.cumsum(begins)
    lengths = np.diff(starts, append=len(turns))
    index: Ints = count - np.repeat(count[starts], lengths)
    return turns.append_column("session_index", pa.array(index, pa.int32())).cast(SCHEMAS["sessions"])


def places(begins: Bools) -> Ints:
    """Each turn's place in its session: begins [1, 0, 0, 1, 0] -> [0, 1, 2, 0, 1]."""
    rows = np.arange(len(begins))
    return rows - np.maximum.accumulate(np.where(begins, rows, 0)) if len(rows) else rows


def session_begins(sessions: pa.Table) -> Bools:
    """[turns] whether a turn is the first of its session, in a part of `sessions`."""
    begins = np.ones(len(sessions), dtype=bool)
    index = column(sessions, "session_index").to_numpy()
    begins[1:] = index[1:] != index[:-1]
    begins[thread_starts(column(sessions, "thread_id"))] = True
    return begins
