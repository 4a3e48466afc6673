"""The rule that cuts a session: a gap between messages at least as long as its thread's threshold.

All of it is arithmetic over the columns of a part; no text is touched.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Floats, Ints
from jaegpt.dialogue.separators import Separator
from jaegpt.tables import column, thread_starts

MINUTE_MS = 60_000
# Their exports write whole minutes (WhatsApp's on Android does): where all times of a thread are, that is why.
MINUTE_SOURCES = ("kakaotalk", "line", "whatsapp")
MIN_MINUTES = 20  # messages of any other source that have to be at whole minutes before that is no coincidence


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Where a conversation is cut.

    Attributes:
        percentile: of the thread's own gaps between consecutive messages, 0 to 100; a gap at least that long cuts.
        fixed_gap_s: the same gap for every thread, in seconds; None uses the percentile.
        separator: what keeps the messages of a turn apart.
    """

    percentile: float
    fixed_gap_s: float | None
    separator: Separator = "space"

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
        in_minutes: [threads] whether times are known to the minute only, so that a gap of one minute may be a second.
    """

    starts: Ints
    thread: Ints
    sent_ms: Ints
    gap_ms: Ints
    same_sender: Bools
    is_owner: Bools
    in_minutes: Bools

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
        return cls(
            starts, np.cumsum(first) - 1, sent_ms, gap_ms, same, is_owner, _in_minutes(messages, sent_ms, starts)
        )

    def thresholds(self, config: SessionConfig) -> Floats:
        """[threads] the gap in milliseconds that cuts; NaN where a thread of one message has no gap to learn from.

        A change of minute is no pause: in threads whose times are known to the minute, two minutes cut at the earliest.
        Steps of a second or a millisecond get no such protection, as two messages a second apart may well be two
        thoughts; there only equal times are never cut.
        """
        if config.fixed_gap_s is not None:
            thresholds = np.full(len(self.starts), config.fixed_gap_s * 1000.0)
        else:
            thresholds = _percentiles(self.gap_ms, self.thread, self.starts, config.percentile)
        # Gaps are whole minutes there, so that "more than one" and "at least two" are the same.
        return np.where(self.in_minutes, np.maximum(thresholds, 2 * MINUTE_MS), thresholds)

    def cuts(self, thresholds: Floats) -> Bools:
        """[messages] where a session begins: a gap >= its thread's threshold, but never between equal times."""
        return starts_session(self.gap_ms, thresholds[self.thread])


def starts_session(gap_ms: Ints, threshold_ms: Floats) -> Bools:
    """Where a gap cuts: at its threshold or above, never between equal times; -1 begins a thread."""
    begins: Bools = (gap_ms < 0) | ((gap_ms > 0) & (gap_ms >= threshold_ms))
    return begins


def _in_minutes(messages: pa.Table, sent_ms: Ints, starts: Ints) -> Bools:
    """[threads] whether all times of a thread are whole minutes, and its source or their number says why."""
    if not len(starts):
        return np.zeros(0, dtype=bool)
    all_whole = np.logical_and.reduceat(sent_ms % MINUTE_MS == 0, starts)
    sources = column(messages, "source").take(starts)
    by_source = pc.is_in(sources, pa.array(MINUTE_SOURCES)).to_numpy(zero_copy_only=False)
    many = np.diff(starts, append=len(sent_ms)) >= MIN_MINUTES
    whole: Bools = all_whole & (by_source | many)
    return whole


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
