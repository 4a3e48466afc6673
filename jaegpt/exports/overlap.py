"""What two copies of conversations have in common: the only proof that they are one, whatever names they go by."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Ints
from jaegpt.exports.first_pass import BatchNote, FileNote, load_messages
from jaegpt.exports.people import NAMELESS

Pieces = Sequence[tuple[FileNote, BatchNote]]
MIN_SHARE = 0.5  # of the messages that both could have; what was unsent or taken down since lowers it


@dataclass(frozen=True)
class Messages:
    """Messages of one thread or of a part of it; `resolution_ms`: the step in which the least exact times are known."""

    times: Ints  # ms since 1970
    senders: list[str]
    texts: pa.ChunkedArray
    resolution_ms: int


@dataclass(frozen=True)
class Overlap:
    """What two have in common: messages by (sender in the one, sender in the other), and their share.

    It is a share of what could be in common: the shorter side's messages within the time that both cover.
    """

    pairs: Counter[tuple[str, str]]
    share: float

    @property
    def shows_one_thread(self) -> bool:
        return bool(self.pairs) and self.share >= MIN_SHARE


def messages_of(pieces: Pieces) -> Messages:
    """The messages of some pieces of a thread, in the order of the pieces."""
    tables, senders = [], []
    for note, batch in pieces:
        rows = load_messages(batch.messages).slice(note.start, note.rows)
        tables.append(rows)
        senders += [batch.senders[number] for number in rows.column("sender").to_pylist()]
    joined = pa.concat_tables(tables)
    resolution_ms = max((note.resolution_ms for note, _ in pieces if note.rows), default=1)
    return Messages(joined.column("sent_at").to_numpy().astype(np.int64), senders, joined.column("text"), resolution_ms)


def compare(one: Messages, other: Messages) -> Overlap:
    """What two have in common, by time and text; who sent it may have another name in the other."""
    unit = max(one.resolution_ms, other.resolution_ms)
    sides = [(side, side.times // unit) for side in (one, other)]
    if not all(len(times) for _, times in sides):
        return Overlap(Counter(), 0)
    first, last = max(int(times.min()) for _, times in sides), min(int(times.max()) for _, times in sides)
    in_both = min(int(((times >= first) & (times <= last)).sum()) for _, times in sides)
    common = np.intersect1d(sides[0][1], sides[1][1])
    senders: list[dict[tuple[int, str], str]] = []
    for side, times in sides:
        rows = np.flatnonzero(np.isin(times, common))
        keys = zip(times[rows].tolist(), side.texts.take(pa.array(rows)).to_pylist(), strict=True)
        names = (side.senders[row] for row in rows.tolist())
        senders.append(dict(zip(keys, names, strict=True)))
    pairs = Counter((name, senders[1][key]) for key, name in senders[0].items() if key in senders[1])
    # A word said twice in one such moment is one key here, and two messages there.
    return Overlap(
        pairs, pairs.total() / max(1, min(in_both, len(senders[0]), len(senders[1])) if unit > 1 else in_both)
    )


def renames(pairs: Iterable[tuple[str, str]], people: set[str], other_people: set[str]) -> set[tuple[str, str]] | None:
    """Of pairs of senders of the same messages, those with two names; None when they cannot be the same people.

    The name of deleted accounts can stand for several people, any other for one only. So a pair is refused if each of
    its names also occurs with a third one.
    """
    named = {(name, other) for name, other in pairs if NAMELESS not in (name, other)}
    forth, back = Counter(name for name, _ in named), Counter(other for _, other in named)
    if any(forth[name] > 1 and back[other] > 1 for name, other in named):
        return None
    found = {(name, other) for name, other in named if name != other}
    if any(name in other_people and other in people for name, other in found):
        return None  # both names are there on both sides: two people
    return found
