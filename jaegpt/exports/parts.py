"""The second pass: threads put in order, doubles removed, the owner marked, and written as parts of `messages`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaegpt.exports.reading import load_messages
from jaegpt.tables import MAX_PART_MESSAGES, SCHEMAS, write_part

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `start + rows` of a batch; `senders[code]` is (name, is_owner, is_excluded)."""

    messages: str | bytes
    start: int
    rows: int
    senders: tuple[tuple[str, bool, bool], ...]


@dataclass(frozen=True)
class ThreadJob:
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
    kept: int = 0
    owner: int = 0
    owner_threads: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    years: Counter[int] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)


def group_into_parts(threads: Sequence[ThreadJob]) -> list[tuple[ThreadJob, ...]]:
    """Whole threads by thread_id, filled up to MAX_PART_MESSAGES; a larger thread has a part of its own."""
    parts: list[list[ThreadJob]] = []
    size = 0
    for thread in sorted(threads, key=lambda thread: thread.thread_id):
        if not parts or size + thread.num_rows > MAX_PART_MESSAGES:
            parts.append([])
            size = 0
        parts[-1].append(thread)
        size += thread.num_rows
    return [tuple(part) for part in parts]


def make_part(job: PartJob) -> PartNote:
    """Write one part of `messages` and count it."""
    note = PartNote()
    tables = [table for table in (_thread_table(thread, note) for thread in job.threads) if len(table)]
    if not tables:
        return note
    table = pa.concat_tables(tables).combine_chunks()
    note.kept = len(table)
    note.owner = int(table.column("is_owner").to_numpy().sum())
    years = table.column("sent_at").to_numpy().astype("datetime64[Y]").astype(int) + 1970
    note.years = Counter(dict(zip(*(part.tolist() for part in np.unique(years, return_counts=True)), strict=True)))
    if job.samples:
        rows = np.unique(np.linspace(0, len(table) - 1, job.samples).astype(int))
        note.samples = table.column("text").take(pa.array(rows)).to_pylist()
    if job.path:
        write_part(table, job.path, "messages")
    return note


def _thread_table(thread: ThreadJob, note: PartNote) -> pa.Table:
    """One thread's messages, oldest first, without doubles and excluded senders."""
    names: dict[tuple[str, bool, bool], int] = {}
    codes, times, texts = [], [], []
    for piece in thread.pieces:
        rows = load_messages(piece.messages).slice(piece.start, piece.rows)
        local = np.array([names.setdefault(sender, len(names)) for sender in piece.senders], np.int64)
        codes.append(local[rows.column("sender").to_numpy()] if piece.rows else np.zeros(0, np.int64))
        times.append(rows.column("sent_at").to_numpy())
        texts += rows.column("text").chunks
    people = list(names)
    code, time, text = np.concatenate(codes), np.concatenate(times), pa.chunked_array(texts, pa.string())
    order = np.argsort(time, kind="stable")
    order = order[np.array([not excluded for _, _, excluded in people], bool)[code[order]]] if people else order
    note.dropped["excluded"] += len(time) - len(order)
    kept = order[~_is_double(time[order], code[order], text.take(pa.array(order)))]
    note.dropped["double"] += len(order) - len(kept)
    code = code[kept]
    is_owner = np.array([is_owner for _, is_owner, _ in people], bool)[code] if people else np.zeros(0, bool)
    num = len(kept)
    columns = {
        "thread_id": pa.repeat(thread.thread_id, num),
        "box": pa.repeat(thread.box, num),
        "is_group": pa.repeat(thread.is_group, num),
        "sender": pa.array([name for name, _, _ in people], pa.string()).take(pa.array(code)),
        "is_owner": pa.array(is_owner),
        "sent_at": pa.array(time[kept]).cast(pa.timestamp("ms", tz="UTC")),
        "text": text.take(pa.array(kept)),
    }
    note.owner_threads += bool(is_owner.any())
    return pa.table(columns, schema=SCHEMAS["messages"])


def _is_double(time: Ints, code: Ints, text: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Rows that repeat an earlier one's sender, time and text; `time` is sorted, so only equal neighbours can."""
    double = np.zeros(len(time), bool)
    same = time[1:] == time[:-1]
    if not same.any():
        return double
    rows = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    seen: set[tuple[int, int, str]] = set()
    for row, key in zip(
        rows, zip(time[rows], code[rows], text.take(pa.array(rows)).to_pylist(), strict=True), strict=True
    ):
        double[row] = key in seen
        seen.add(key)
    return double
