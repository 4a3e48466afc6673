"""Messages -> turns: one sender's consecutive messages become one turn, cut where the conversation paused.

All of it is arithmetic over the columns of a part; the only strings touched are the texts that are joined.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.dialogue.separators import JOINTS, one_line
from jaegpt.dialogue.session_gaps import SessionConfig, Timeline
from jaegpt.tables import SCHEMAS, column


def merge_turns(messages: pa.Table, config: SessionConfig) -> pa.Table:
    """A part of `filtered` -> a part of `turns`.

    A turn begins where the sender changes or a gap >= threshold cuts; texts are joined by the separator. `threshold_ms`
    is the gap that cuts in fact, so that sessions need to know no more.
    """
    timeline = Timeline.of(messages)
    thresholds = timeline.thresholds(config)
    heads = np.flatnonzero(timeline.cuts(thresholds) | ~timeline.same_sender)  # [turns] the first message of each
    bounds = np.append(heads, len(messages))  # the last message of turn i stands at bounds[i + 1] - 1
    thread = timeline.thread[heads]
    turn_starts = np.flatnonzero(np.diff(thread, prepend=-1))  # [threads] the first turn of each
    first = timeline.gap_ms[heads] < 0
    texts = column(messages, "text")
    if config.separator == "newline":
        texts = one_line(texts)
    turns = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), texts)
    columns = {
        "thread_id": column(messages, "thread_id").take(heads),
        "turn_index": pa.array(np.arange(len(heads)) - turn_starts[thread], pa.int32()),
        "sender": column(messages, "sender").take(heads),
        "is_owner": column(messages, "is_owner").take(heads),
        "started_at": column(messages, "sent_at").take(heads),
        "ended_at": column(messages, "sent_at").take(bounds[1:] - 1),
        "num_messages": pa.array(np.diff(bounds), pa.int32()),
        "threshold_ms": pa.array(thresholds[thread], from_pandas=True),
        # The message before a turn is the last of the turn before it.
        "gap_ms": pa.array(timeline.gap_ms[heads], mask=first),
        "text": pc.binary_join(turns, JOINTS[config.separator]),
    }
    return pa.table(columns, schema=SCHEMAS["turns"])
