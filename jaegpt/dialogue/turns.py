"""Messages -> turns: one sender's consecutive messages become one turn, cut where the conversation paused.

All of it is arithmetic over the columns of a part; the only strings touched are the texts that are joined.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Floats, Ints
from jaegpt.tables import SCHEMAS, column, thread_starts


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Where a conversation is cut.

    Attributes:
        percentile: of the thread's own gaps between consecutive messages, 0 to 100; a gap at least that long cuts.
        fixed_gap_s: the same gap for every thread, in seconds; None uses the percentile.
    """

    percentile: float
    fixed_gap_s: float | None

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile must be between 0 and 100, found {self.percentile:g}.")
        if self.fixed_gap_s is not None and not self.fixed_gap_s > 0:
            raise ValueError(
                f"fixed_gap_s must be seconds above 0, or null to use the percentile; found {self.fixed_gap_s:g}."
            )


@dataclass(frozen=True)
class Timeline:
    """The messages of a part without their texts: what cutting needs. Arrays are [messages] unless said otherwise.

    Attributes:
        starts: [threads] the first row of each thread.
        thread: the thread's number within the part.
        sent_ms: milliseconds since 1970.
        gap_ms: since the message before; -1 for the first of a thread.
        same_sender: whether the message before, in this thread, is by the same sender; the owner is one sender
            whatever the alias.
        is_owner: whether the owner wrote it.
    """

    starts: Ints
    thread: Ints
    sent_ms: Ints
    gap_ms: Ints
    same_sender: Bools
    is_owner: Bools

    @classmethod
    def of(cls, messages: pa.Table) -> "Timeline":
        """The timeline of a part of `messages` or `filtered`."""
        starts = thread_starts(column(messages, "thread_id"))
        first = np.zeros(len(messages), dtype=bool)
        first[starts] = True
        sent_ms = column(messages, "sent_at").cast(pa.int64()).to_numpy()
        gap_ms = np.diff(sent_ms, prepend=0)
        gap_ms[first] = -1
        is_owner = column(messages, "is_owner").to_numpy(zero_copy_only=False)
        senders = column(messages, "sender")
        same = np.zeros(len(messages), dtype=bool)
        same[1:] = pc.equal(senders[1:], senders[:-1]).to_numpy(zero_copy_only=False)
        same[1:] = np.where(is_owner[1:] | is_owner[:-1], is_owner[1:] & is_owner[:-1], same[1:]) & ~first[1:]
        return cls(starts, np.cumsum(first) - 1, sent_ms, gap_ms, same, is_owner)

    def thresholds(self, config: SessionConfig) -> Floats:
        """[threads] the gap in milliseconds that cuts; NaN where a thread of one message has no gap to learn from."""
        if config.fixed_gap_s is not None:
            return np.full(len(self.starts), config.fixed_gap_s * 1000.0)
        return _percentiles(self.gap_ms, self.thread, self.starts, config.percentile)

    def cuts(self, thresholds: Floats) -> Bools:
        """[messages] where a session begins: a gap >= its thread's threshold, but never between equal times."""
        return starts_session(self.gap_ms, thresholds[self.thread])


def starts_session(gap_ms: Ints, threshold_ms: Floats) -> Bools:
    """Where a gap cuts: at its threshold or above, but never between equal times; below 0 a thread begins."""
    begins: Bools = (gap_ms < 0) | ((gap_ms > 0) & (gap_ms >= threshold_ms))
    return begins


def merge_turns(messages: pa.Table, config: SessionConfig) -> pa.Table:
    """A part of `filtered` -> a part of `turns`.

    A turn begins where the sender changes or a gap >= threshold cuts; texts are joined by a space.
    """
    timeline = Timeline.of(messages)
    thresholds = timeline.thresholds(config)
    heads = np.flatnonzero(timeline.cuts(thresholds) | ~timeline.same_sender)  # [turns] the first message of each
    bounds = np.append(heads, len(messages))  # the last message of turn i stands at bounds[i + 1] - 1
    thread = timeline.thread[heads]
    turn_starts = np.flatnonzero(np.diff(thread, prepend=-1))  # [threads] the first turn of each
    first = timeline.gap_ms[heads] < 0
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), column(messages, "text")), " ")
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
        "text": texts,
    }
    return pa.table(columns, schema=SCHEMAS["turns"])


def _percentiles(gap_ms: Ints, thread: Ints, starts: Ints, percentile: float) -> Floats:
    """[threads] the percentile of each thread's gaps, interpolated linearly between the two nearest.

    Gaps 10, 20, 40 and percentile 75: place 0.75 * (3 - 1) = 1.5, half-way between 20 and 40, is 30.
    """
    # Each thread's -1 sorts to its front, and its n gaps follow.
    in_order = gap_ms[np.lexsort((gap_ms, thread))].astype(np.float64)
    num_gaps = np.diff(starts, append=len(gap_ms)) - 1
    place = percentile * np.maximum(num_gaps - 1, 0) / 100
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(num_gaps - 1, 0))
    front = np.minimum(starts + 1, max(len(gap_ms) - 1, 0))  # a thread without gaps points anywhere; it becomes NaN
    low, high = (
        in_order[np.minimum(front + below, len(gap_ms) - 1)],
        in_order[np.minimum(front + above, len(gap_ms) - 1)],
    )
    return np.where(num_gaps > 0, low + (high - low) * (place - below), np.nan)
