"""The second pass: threads put in order, doubles removed, the owner marked, and written as parts of `messages`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaegpt.exports.reading import load_messages
from jaegpt.exports.suspects import Suspect, find_suspects
from jaegpt.tables import MAX_PART_MESSAGES, SCHEMAS, write_part

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a number stands for: all names of the owner are one sender."""

    name: str
    is_owner: bool = False
    is_excluded: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `start + rows` of a batch, whose sender numbers index `senders`."""

    messages: str | bytes
    start: int
    rows: int
    senders: tuple[Sender, ...]


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
    suspects: dict[str, Suspect] = field(default_factory=dict)
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


def _part_table(threads: Sequence[ThreadJob], note: PartNote) -> pa.Table:
    """The threads' messages, thread by thread, oldest first, without doubles and excluded senders."""
    numbers: dict[Sender, int] = {}
    batches: dict[str | bytes, tuple[pa.Table, Ints]] = {}  # its rows, and its sender numbers as those of the part
    tables, codes, lengths = [], [np.zeros(0, np.int64)], []
    for thread in threads:
        for piece in thread.pieces:
            if piece.messages not in batches:
                part_numbers = [numbers.setdefault(sender, len(numbers)) for sender in piece.senders]
                batches[piece.messages] = load_messages(piece.messages), np.array(part_numbers, np.int64)
            table, part_number_of = batches[piece.messages]
            rows = table.slice(piece.start, piece.rows)
            codes.append(part_number_of[rows.column("sender").to_numpy()])
            tables.append(rows)
        lengths.append(thread.num_rows)
    joined = pa.concat_tables(tables).combine_chunks()
    thread_of = np.repeat(np.arange(len(threads)), lengths)
    code, time = np.concatenate(codes), joined.column("sent_at").to_numpy()
    order = _order(thread_of, time)
    senders = list(numbers)
    is_excluded = np.array([sender.is_excluded for sender in senders], bool)
    order = _count_out(order, is_excluded[code[order]], note.dropped, "excluded")
    texts = joined.column("text")
    if len(order) < len(time) or not _is_sorted(order):
        texts = texts.take(pa.array(order))
    double = _is_double(thread_of[order], time[order], code[order], texts)
    order = _count_out(order, double, note.dropped, "double")
    texts = texts.filter(pa.array(~double)) if double.any() else texts
    note.suspects = find_suspects(texts, thread_of[order], code[order], [sender.name for sender in senders])
    thread_of, code = pa.array(thread_of[order]), pa.array(code[order])
    columns = {
        "thread_id": pa.array([thread.thread_id for thread in threads], pa.string()).take(thread_of),
        "box": pa.array([thread.box for thread in threads], pa.string()).take(thread_of),
        "is_group": pa.array([thread.is_group for thread in threads], pa.bool_()).take(thread_of),
        "sender": pa.array([sender.name for sender in senders], pa.string()).take(code),
        "is_owner": pa.array([sender.is_owner for sender in senders], pa.bool_()).take(code),
        "sent_at": pa.array(time[order]).cast(pa.timestamp("ms", tz="UTC")),
        "text": texts,
    }
    return pa.table(columns, schema=SCHEMAS["messages"])


def _order(thread: Ints, time: Ints) -> Ints:
    """The rows by thread, then by time, those of one moment as they stand; threads stand together already."""
    if _is_sorted(time, thread[1:] != thread[:-1]):
        return np.arange(len(time))
    return np.lexsort((time, thread))


def _is_sorted(values: Ints, may_fall: Bools | bool = False) -> bool:
    return bool(((values[1:] >= values[:-1]) | may_fall).all())


def _count_out(order: Ints, gone: Bools, dropped: Counter[str], reason: str) -> Ints:
    dropped[reason] += int(np.count_nonzero(gone))
    return order[~gone] if gone.any() else order


def _is_double(thread: Ints, time: Ints, code: Ints, texts: pa.ChunkedArray) -> Bools:
    """Rows that repeat an earlier one's thread, sender, time and text; the rows are sorted by thread and time."""
    double = np.zeros(len(time), bool)
    same = (time[1:] == time[:-1]) & (thread[1:] == thread[:-1])
    if not same.any():
        return double
    rows = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    seen: set[tuple[int, int, int, str]] = set()
    columns = (thread[rows].tolist(), time[rows].tolist(), code[rows].tolist(), texts.take(pa.array(rows)).to_pylist())
    for row, key in zip(rows.tolist(), zip(*columns, strict=True), strict=True):
        double[row] = key in seen
        seen.add(key)
    return double
