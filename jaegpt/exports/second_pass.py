"""The second pass: threads put in order, doubles removed, the owner marked, and written as parts of `messages`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Bools, Ints
from jaegpt.exports.first_pass import load_messages
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.rows import END_OF_TIME_MS
from jaegpt.exports.suspects import Suspects, find_suspects
from jaegpt.exports.threads import Sender
from jaegpt.tables import MAX_PART_MESSAGES, SCHEMAS, write_part


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `start + rows` of a batch, whose sender numbers index `senders`.

    `witness` is the copy of the thread that they are from: one holds each message once, another may hold it again.
    """

    messages: str | bytes
    start: int
    rows: int
    in_seconds: bool
    senders: tuple[Sender, ...]
    witness: int = 0


@dataclass(frozen=True, slots=True)
class ThreadJob:
    """One thread, its pieces in reading order."""

    thread_id: str
    box: str
    is_group: bool
    pieces: tuple[Piece, ...]

    @property
    def num_rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


@dataclass(frozen=True)
class PartJob:
    """The threads of one part; `path` None counts without writing. `samples` is how many texts to hand back."""

    threads: tuple[ThreadJob, ...]
    path: str | None
    samples: int = 0


@dataclass
class PartNote:
    """What became of one part."""

    kept: int = 0
    owner: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    years: Counter[int] = field(default_factory=Counter)
    suspects: Suspects = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def group_into_parts(threads: Sequence[ThreadJob]) -> list[tuple[ThreadJob, ...]]:
    """Whole threads in their order, filled up to MAX_PART_MESSAGES; a larger thread has a part of its own."""
    parts: list[list[ThreadJob]] = []
    size = 0
    for thread in threads:
        if not parts or size + thread.num_rows > MAX_PART_MESSAGES:
            parts.append([])
            size = 0
        parts[-1].append(thread)
        size += thread.num_rows
    return [tuple(part) for part in parts]


def make_part(job: PartJob) -> PartNote:
    """Write one part of `messages` and count it."""
    note = PartNote()
    table = _part_table(job.threads, note)
    note.kept = len(table)
    note.owner = int(np.count_nonzero(table.column("is_owner").to_numpy()))
    years = table.column("sent_at").to_numpy().astype("datetime64[Y]").astype(int) + 1970
    note.years = Counter(dict(zip(*(part.tolist() for part in np.unique(years, return_counts=True)), strict=True)))
    if job.samples and len(table):
        rows = np.unique(np.linspace(0, len(table) - 1, job.samples).astype(int))
        note.samples = table.column("text").take(pa.array(rows)).to_pylist()
    if job.path:
        write_part(table, job.path, "messages")
    return note


@dataclass(frozen=True)
class _Rows:
    """Messages of a part as columns; threads and senders are numbers."""

    thread: Ints
    sender: Ints
    time: Ints  # ms since 1970
    in_seconds: Bools  # whether the time is known to the second only
    witness: Ints
    text: pa.ChunkedArray

    def take(self, order: Ints) -> "_Rows":
        if len(order) == len(self.time) and _is_sorted(order):
            return self
        text = self.text.take(pa.array(order))
        thread, sender, time = self.thread[order], self.sender[order], self.time[order]
        return _Rows(thread, sender, time, self.in_seconds[order], self.witness[order], text)


def _part_table(threads: Sequence[ThreadJob], note: PartNote) -> pa.Table:
    """The threads' messages, thread by thread, oldest first, without doubles and excluded senders."""
    rows, senders = _joined(threads)
    rows = rows.take(_order(rows.thread, rows.time))
    # Before the excluded leave: theirs are the messages too that a newer copy has without a name.
    rows = _without(rows, _is_nameless_double(rows, senders), "double", note)
    is_excluded = np.array([sender.is_excluded for sender in senders], bool)
    rows = _without(rows, is_excluded[rows.sender], "excluded", note)
    rows = _without(rows, _is_double(rows), "double", note)
    rows = _without(rows, _is_coarse_double(rows), "double", note)
    note.suspects = find_suspects(rows.text, rows.thread, rows.sender, senders)
    thread, sender = pa.array(rows.thread), pa.array(rows.sender)
    columns = {
        "thread_id": pa.array([thread.thread_id for thread in threads], pa.string()).take(thread),
        "box": pa.array([thread.box for thread in threads], pa.string()).take(thread),
        "is_group": pa.array([thread.is_group for thread in threads], pa.bool_()).take(thread),
        "sender": pa.array([sender.name for sender in senders], pa.string()).take(sender),
        "is_owner": pa.array([sender.is_owner for sender in senders], pa.bool_()).take(sender),
        "sent_at": pa.array(rows.time).cast(pa.timestamp("ms", tz="UTC")),
        "text": rows.text,
    }
    return pa.table(columns, schema=SCHEMAS["messages"])


def _joined(threads: Sequence[ThreadJob]) -> tuple[_Rows, list[Sender]]:
    """The rows of all pieces as they stand, and what their sender numbers mean."""
    numbers: dict[Sender, int] = {}
    batches: dict[str | bytes, pa.Table] = {}
    part_numbers: dict[int, Ints] = {}  # by the tuple of senders: the sender numbers of a batch as those of the part
    tables, senders, pieces = [], [np.zeros(0, np.int64)], [piece for thread in threads for piece in thread.pieces]
    for piece in pieces:
        if piece.messages not in batches:
            batches[piece.messages] = load_messages(piece.messages)
        if id(piece.senders) not in part_numbers:
            of_batch = [numbers.setdefault(sender, len(numbers)) for sender in piece.senders]
            part_numbers[id(piece.senders)] = np.array(of_batch, np.int64)
        tables.append(batches[piece.messages].slice(piece.start, piece.rows))
        senders.append(part_numbers[id(piece.senders)][tables[-1].column("sender").to_numpy()])
    joined = pa.concat_tables(tables).combine_chunks()
    rows = _Rows(
        thread=np.repeat(np.arange(len(threads)), [thread.num_rows for thread in threads]),
        sender=np.concatenate(senders),
        time=joined.column("sent_at").to_numpy(),
        in_seconds=np.repeat(np.array([piece.in_seconds for piece in pieces], bool), [piece.rows for piece in pieces]),
        witness=np.repeat(np.array([piece.witness for piece in pieces], np.int64), [piece.rows for piece in pieces]),
        text=joined.column("text"),
    )
    return rows, list(numbers)


def _order(thread: Ints, time: Ints) -> Ints:
    """The rows by thread, then by time, those of one moment as they stand; threads stand together already."""
    if _is_sorted(time, thread[1:] != thread[:-1]):
        return np.arange(len(time))
    return np.lexsort((time, thread))


def _is_sorted(values: Ints, may_fall: Bools | bool = False) -> bool:
    return bool(((values[1:] >= values[:-1]) | may_fall).all())


def _without(rows: _Rows, gone: Bools, reason: str, note: PartNote) -> _Rows:
    note.dropped[reason] += int(np.count_nonzero(gone))
    return rows.take(np.flatnonzero(~gone))


def _is_nameless_double(rows: _Rows, senders: Sequence[Sender]) -> Bools:
    """Rows of a deleted account that another copy of the thread has under a name: its author was deleted since."""
    double = np.zeros(len(rows.time), bool)
    is_nameless = np.array([sender.name == NAMELESS for sender in senders], bool)[rows.sender]
    if not is_nameless.any() or is_nameless.all() or not rows.witness.any():
        return double
    second = rows.thread * (END_OF_TIME_MS // 1000) + rows.time // 1000
    nameless = np.flatnonzero(is_nameless)
    named = np.flatnonzero(~is_nameless & np.isin(second, second[nameless]))
    named = named[~np.array([sender.is_owner for sender in senders], bool)[rows.sender[named]]]
    known: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for row, text in zip(named.tolist(), rows.text.take(pa.array(named)).to_pylist(), strict=True):
        known[second[row], 0, text].append(row)
    for row, text in zip(nameless.tolist(), rows.text.take(pa.array(nameless)).to_pylist(), strict=True):
        double[row] = any(
            rows.witness[other] != rows.witness[row]
            and (rows.time[other] == rows.time[row] or rows.in_seconds[other] or rows.in_seconds[row])
            for other in known.get((second[row], 0, text), ())
        )
    return double


def _is_coarse_double(rows: _Rows) -> Bools:
    """Rows known to the second that stand there to the millisecond too: same thread, sender, second and text.

    Of a word said twice in a second, two are the same as two.
    """
    double = np.zeros(len(rows.time), bool)
    if not rows.in_seconds.any() or rows.in_seconds.all():
        return double
    moment = rows.thread * (END_OF_TIME_MS // 1000) + rows.time // 1000
    near = np.isin(moment, np.intersect1d(moment[rows.in_seconds], moment[~rows.in_seconds]))
    coarse, fine = np.flatnonzero(near & rows.in_seconds), np.flatnonzero(near & ~rows.in_seconds)
    exact = Counter(_keys(rows, moment, fine))
    for row, key in zip(coarse.tolist(), _keys(rows, moment, coarse), strict=True):
        double[row] = exact[key] > 0
        exact[key] -= 1
    return double


def _is_double(rows: _Rows) -> Bools:
    """Rows that repeat an earlier one's thread, sender, time and text; the rows are sorted by thread and time.

    Where times are whole seconds, a word that stands twice in one copy of a thread was said twice; in two copies of
    the thread it is as many as in the one that has more.
    """
    double = np.zeros(len(rows.time), bool)
    same = (rows.time[1:] == rows.time[:-1]) & (rows.thread[1:] == rows.thread[:-1])
    if not same.any():
        return double
    moment = np.cumsum(np.concatenate([[True], ~same]))
    alike = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    seen: set[tuple[tuple[int, int, str], bool, int]] = set()
    said: Counter[tuple[tuple[int, int, str], int]] = Counter()
    in_seconds, witness = rows.in_seconds[alike].tolist(), rows.witness[alike].tolist()
    keys = _keys(rows, moment, alike)
    for row, key, is_coarse, copy in zip(alike.tolist(), keys, in_seconds, witness, strict=True):
        times = 0
        if is_coarse:
            times = said[key, copy]
            said[key, copy] += 1
        double[row] = (key, is_coarse, times) in seen
        seen.add((key, is_coarse, times))
    return double


def _keys(rows: _Rows, moment: Ints, which: Ints) -> Iterator[tuple[int, int, str]]:
    """(moment, sender, text) of some rows."""
    texts = rows.text.take(pa.array(which)).to_pylist()
    return zip(moment[which].tolist(), rows.sender[which].tolist(), texts, strict=True)
