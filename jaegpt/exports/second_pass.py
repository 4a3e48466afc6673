"""The second pass: threads put in order, doubles removed, the owner marked, and written as parts of `messages`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Bools, Ints
from jaegpt.exports.first_pass import load_messages
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.rows import END_OF_TIME_MS
from jaegpt.exports.suspects import Suspects, find_suspects
from jaegpt.exports.threads import Sender
from jaegpt.parallel import in_batches
from jaegpt.tables import MAX_PART_MESSAGES, SCHEMAS, write_part


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `start + rows` of a batch, whose sender numbers index `senders`.

    Attributes:
        source: the messenger; a thread may have been read in Messenger's layout and in Instagram's.
        resolution_ms: the step of their times.
        witness: the file that they are from: one holds each message once, another may hold it again.
        may_repeat: whether a text that this copy has twice at one time was said twice. In Messenger's files with times
            exact to the millisecond it was not: they hold some messages twice by mistake.
    """

    source: str
    messages: str | bytes
    start: int
    rows: int
    resolution_ms: int
    senders: tuple[Sender, ...]
    witness: int = 0
    may_repeat: bool = True


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
    """The threads of one part.

    Attributes:
        path: where it is written; None counts without writing.
        samples: how many texts to hand back.
        since_ms: what was written before is left out; None leaves nothing out.
        measure: what else to find out about the part's messages; a function of a module, as workers are sent it.
    """

    threads: tuple[ThreadJob, ...]
    path: str | None
    samples: int = 0
    since_ms: int | None = None
    measure: Callable[[pa.Table], Any] | None = None


@dataclass
class PartNote:
    """What became of one part: messages by source, and by source and reason or year."""

    kept: Counter[str] = field(default_factory=Counter)
    owner: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    years: Counter[tuple[str, int]] = field(default_factory=Counter)
    suspects: Suspects = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    measured: Any = None


def group_into_parts(threads: Sequence[ThreadJob]) -> list[tuple[ThreadJob, ...]]:
    """Whole threads in their order, filled up to MAX_PART_MESSAGES; a larger thread has a part of its own."""
    return in_batches(threads, lambda thread: thread.num_rows, MAX_PART_MESSAGES)


def make_part(job: PartJob) -> PartNote:
    """Write one part of `messages` and count it."""
    note = PartNote()
    table = _part_table(job, note)
    _count(table, note)
    if job.samples and len(table):
        rows = np.unique(np.linspace(0, len(table) - 1, job.samples).astype(int))
        note.samples = table.column("text").take(pa.array(rows)).to_pylist()
    if job.measure:
        note.measured = job.measure(table)
    if job.path:
        write_part(table, job.path, "messages")
    return note


def _count(table: pa.Table, note: PartNote) -> None:
    is_owner = table.column("is_owner").to_numpy()
    years = table.column("sent_at").to_numpy().astype("datetime64[Y]").astype(int) + 1970
    sources = table.column("source").combine_chunks().dictionary_encode()
    numbers = sources.indices.to_numpy()
    for number, source in enumerate(sources.dictionary.to_pylist()):
        here = numbers == number
        note.kept[source] = int(np.count_nonzero(here))
        note.owner[source] = int(np.count_nonzero(here & is_owner))
        for year, count in zip(*(part.tolist() for part in np.unique(years[here], return_counts=True)), strict=True):
            note.years[source, year] = count


@dataclass(frozen=True)
class _Rows:
    """Messages of a part as columns; threads, sources and senders are numbers."""

    thread: Ints
    source: Ints
    sender: Ints
    time: Ints  # ms since 1970
    resolution: Ints  # the step of the time: 1, 1,000 or 60,000
    witness: Ints
    may_repeat: Bools  # see Piece
    text: pa.ChunkedArray

    def take(self, order: Ints) -> "_Rows":
        if len(order) == len(self.time) and _is_sorted(order):
            return self
        text = self.text.take(pa.array(order))
        thread, source, sender, time = (column[order] for column in (self.thread, self.source, self.sender, self.time))
        resolution, witness, may_repeat = self.resolution[order], self.witness[order], self.may_repeat[order]
        return _Rows(thread, source, sender, time, resolution, witness, may_repeat, text)


def _part_table(job: PartJob, note: PartNote) -> pa.Table:
    """The threads' messages, thread by thread, oldest first, without doubles, excluded senders and what is too old."""
    threads = job.threads
    sources = list(dict.fromkeys(piece.source for thread in threads for piece in thread.pieces))

    def without(rows: _Rows, gone: Bools, reason: str) -> _Rows:
        for source, count in enumerate(np.bincount(rows.source[gone]).tolist()):
            if count:
                note.dropped[sources[source], reason] += count
        return rows.take(np.flatnonzero(~gone))

    rows, senders = _joined(threads, sources)
    rows = rows.take(_order(rows.thread, rows.time))
    # First, while the excluded senders' rows are still here: a newer copy may have their messages without a name, and
    # only the copy with the name shows whose they are.
    rows = without(rows, _is_nameless_double(rows, senders), "double")
    is_excluded = np.array([sender.is_excluded for sender in senders], bool)
    rows = without(rows, is_excluded[rows.sender], "excluded")
    rows = without(rows, _is_double(rows), "double")
    for resolution in np.unique(rows.resolution[rows.resolution > 1]).tolist():
        rows = without(rows, _is_coarse_double(rows, resolution), "double")
    if job.since_ms is not None:
        rows = without(rows, rows.time < job.since_ms, "too_old")
    note.suspects = find_suspects(rows.text, rows.thread, rows.sender, senders)
    thread, sender = pa.array(rows.thread), pa.array(rows.sender)
    columns = {
        "source": pa.array(sources, pa.string()).take(pa.array(rows.source)),
        "thread_id": pa.array([thread.thread_id for thread in threads], pa.string()).take(thread),
        "box": pa.array([thread.box for thread in threads], pa.string()).take(thread),
        "is_group": pa.array([thread.is_group for thread in threads], pa.bool_()).take(thread),
        "sender": pa.array([sender.name for sender in senders], pa.string()).take(sender),
        "is_owner": pa.array([sender.is_owner for sender in senders], pa.bool_()).take(sender),
        "sent_at": pa.array(rows.time).cast(pa.timestamp("ms", tz="UTC")),
        "text": rows.text,
    }
    return pa.table(columns, schema=SCHEMAS["messages"])


def _joined(threads: Sequence[ThreadJob], sources: Sequence[str]) -> tuple[_Rows, list[Sender]]:
    """The rows of all pieces in their order, and what their sender numbers mean."""
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
    num_rows = [piece.rows for piece in pieces]
    rows = _Rows(
        thread=np.repeat(np.arange(len(threads)), [thread.num_rows for thread in threads]),
        source=np.repeat(np.array([sources.index(piece.source) for piece in pieces], np.int64), num_rows),
        sender=np.concatenate(senders),
        time=joined.column("sent_at").to_numpy(),
        resolution=np.repeat(np.array([piece.resolution_ms for piece in pieces], np.int64), num_rows),
        witness=np.repeat(np.array([piece.witness for piece in pieces], np.int64), num_rows),
        may_repeat=np.repeat(np.array([piece.may_repeat for piece in pieces], bool), num_rows),
        text=joined.column("text"),
    )
    return rows, list(numbers)


def _order(thread: Ints, time: Ints) -> Ints:
    """The order by thread, then by time; rows of one moment keep theirs. A thread's rows are neighbours already."""
    if _is_sorted(time, thread[1:] != thread[:-1]):
        return np.arange(len(time))
    return np.lexsort((time, thread))


def _is_sorted(values: Ints, may_fall: Bools | bool = False) -> bool:
    return bool(((values[1:] >= values[:-1]) | may_fall).all())


def _is_nameless_double(rows: _Rows, senders: Sequence[Sender]) -> Bools:
    """Rows of a deleted account that another copy of the thread, made before it was deleted, has under a name."""
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
            and (rows.time[other] == rows.time[row] or max(rows.resolution[other], rows.resolution[row]) > 1)
            for other in known.get((second[row], 0, text), ())
        )
    return double


def _is_coarse_double(rows: _Rows, resolution: int) -> Bools:
    """Rows with times in seconds (or minutes) that another row has more exactly: same thread, sender, second and text.

    They are matched one to one: a text that both copies have twice within a second stays twice.
    """
    double = np.zeros(len(rows.time), bool)
    is_coarse, is_fine = rows.resolution == resolution, rows.resolution < resolution
    if not is_fine.any():
        return double
    moment = rows.thread * (END_OF_TIME_MS // resolution) + rows.time // resolution
    near = np.isin(moment, np.intersect1d(moment[is_coarse], moment[is_fine]))
    coarse, fine = np.flatnonzero(near & is_coarse), np.flatnonzero(near & is_fine)
    exact = Counter(_keys(rows, moment, fine))
    for row, key in zip(coarse.tolist(), _keys(rows, moment, coarse), strict=True):
        double[row] = exact[key] > 0
        exact[key] -= 1
    return double


def _is_double(rows: _Rows) -> Bools:
    """Rows that repeat an earlier one's thread, sender, time and text; the rows are sorted by thread and time.

    Within a copy of a thread that holds each message once, a text that is there twice was said twice. Between two
    copies, the one that has it more often decides how often it was said.
    """
    double = np.zeros(len(rows.time), bool)
    same = (rows.time[1:] == rows.time[:-1]) & (rows.thread[1:] == rows.thread[:-1])
    if not same.any():
        return double
    moment = np.cumsum(np.concatenate([[True], ~same]))
    alike = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    seen: set[tuple[tuple[int, int, str], int, int]] = set()
    said: Counter[tuple[tuple[int, int, str], int]] = Counter()
    columns = (column[alike].tolist() for column in (rows.resolution, rows.witness, rows.may_repeat))
    keys = _keys(rows, moment, alike)
    for row, key, resolution, copy, may_repeat in zip(alike.tolist(), keys, *columns, strict=True):
        times = 0
        if may_repeat:
            times = said[key, copy]
            said[key, copy] += 1
        double[row] = (key, resolution, times) in seen
        seen.add((key, resolution, times))
    return double


def _keys(rows: _Rows, moment: Ints, which: Ints) -> Iterator[tuple[int, int, str]]:
    """(moment, sender, text) of some rows."""
    texts = rows.text.take(pa.array(which)).to_pylist()
    return zip(moment[which].tolist(), rows.sender[which].tolist(), texts, strict=True)
