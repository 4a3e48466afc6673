"""The first pass over files of other messengers: their threads go one by one into one Arrow file per batch of files.

What is in memory is a thread and the few rows that wait to be written, however large a file is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints
from jaegpt.exports.archives import BadFileError, Entry
from jaegpt.exports.first_pass import BatchNote, FileNote
from jaegpt.exports.message_files import MessageFile
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.reader import DateOrder, Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.registry import reader_named
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS
from jaegpt.exports.sniffing import Sniffed
from jaegpt.exports.system_lines import find_own_lines
from jaegpt.exports.zones import zone_of

NOT_THIS_FORMAT = "not_this_format"  # the reason of a reader that opened a database and found no table of its own
BLOCK_ROWS = 65_536  # rows that are written at a time, unless one thread has more

_SCHEMA = pa.schema([("sender", pa.int32()), ("sent_at", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True)
class SourceJob:
    """Files to read in one go; `scratch` is where their messages go."""

    files: tuple[Sniffed, ...]
    scratch: str
    timezone: str
    date_order: DateOrder
    system_patterns: tuple[str, ...]
    redact: bool
    reactions: bool = False

    @property
    def num_bytes(self) -> int:
        return sum(file.entry.size for file in self.files)


def read_sources(job: SourceJob) -> BatchNote:
    """Read the files of a job; a bad one becomes a problem, and nothing of it is used."""
    options = ReadOptions(timezone=zone_of(job.timezone), date_order=job.date_order, reactions=job.reactions)
    whole = BatchNote(messages=job.scratch)
    with pa.OSFile(job.scratch, "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        block = _Block(job, whole.senders, writer)
        notes = [_read_file(file, options, block) for file in job.files]
        block.write()
    for note in notes:
        whole.files += note.files
        whole.problems += note.problems
        whole.faults += note.faults
        whole.strangers += note.strangers
        whole.said += note.said
        whole.dropped.update(note.dropped)
        whole.redacted += note.redacted
        whole.newest_ms = max(whole.newest_ms, note.newest_ms)
    return whole


def _read_file(file: Sniffed, options: ReadOptions, block: "_Block") -> BatchNote:
    """What the first of its readers that knows a file finds there."""
    for name in file.readers:
        note = BatchNote()
        try:
            _read(file.entry, reader_named(name), options, block, note)
        except BadFileError as problem:
            # What is written already stays in the Arrow file, where no note leads to it.
            block.forget(note)
            if problem.reason != NOT_THIS_FORMAT:
                return BatchNote(problems=[problem])
        else:
            return note
    return BatchNote(strangers=[file.entry.path])


def _read(entry: Entry, reader: Reader, options: ReadOptions, block: "_Block", note: BatchNote) -> None:
    faults: list[str] = []
    num_malformed = 0
    for thread in reader.read(source_file(entry), options, lambda line: note.said.append((entry.path, line))):
        block.add(note, _noted(entry, reader, thread), thread)
        num_malformed += thread.dropped["malformed"]
        faults += [thread.fault] if thread.fault else []
    if not any(thread.read for thread in note.files) and not note.said:
        note.said.append((entry.path, f"taken for {reader.name}, and no message is in it"))
    if faults:
        detail = f"{num_malformed:,} messages malformed, the first: {faults[0]}"
        note.faults.append(BadFileError(entry.path, "malformed_messages", detail))


def source_file(entry: Entry) -> SourceFile:
    """The file as readers are given it."""
    return SourceFile(entry.source, entry.name) if entry.index >= 0 else SourceFile(entry.path)


class _Block:
    """The rows that wait to be written, by thread; each thread's file has a note of its own."""

    def __init__(self, job: SourceJob, senders: list[str], writer: pa.ipc.RecordBatchFileWriter) -> None:
        self._job, self._senders, self._writer = job, senders, writer
        self._numbers: dict[str, int] = {}  # by sender: the place in `senders`
        self._written = 0
        self._waiting: list[tuple[BatchNote, FileNote, SourceThread]] = []
        self._num_waiting = 0

    def add(self, note: BatchNote, file_note: FileNote, thread: SourceThread) -> None:
        note.files.append(file_note)
        note.dropped.update({(file_note.file.source, reason): count for reason, count in thread.dropped.items()})
        self._waiting.append((note, file_note, thread))
        self._num_waiting += file_note.rows
        if self._num_waiting >= BLOCK_ROWS:
            self.write()

    def forget(self, note: BatchNote) -> None:
        """Do not write what waits of a file that turned out bad."""
        self._waiting = [waiting for waiting in self._waiting if waiting[0] is not note]
        self._num_waiting = sum(file_note.rows for _, file_note, _ in self._waiting)

    def write(self) -> None:
        """Write what waits, without the lines that no human wrote; each note gets the place of its rows."""
        texts = _texts([text for *_, thread in self._waiting for text in thread.texts])
        times = _times([time for *_, thread in self._waiting for time in thread.sent_at])
        gone = find_own_lines(texts, self._job.system_patterns)
        out_of_range = np.flatnonzero((times < BEGIN_OF_TIME_MS) | (times >= END_OF_TIME_MS))
        gone |= dict.fromkeys(out_of_range.tolist(), "malformed")
        keep = np.ones(len(times), bool)
        keep[list(gone)] = False
        row = 0
        for note, file_note, _ in self._waiting:
            end = row + file_note.rows
            for lost in np.flatnonzero(~keep[row:end]).tolist():
                note.dropped[file_note.file.source, gone[row + lost]] += 1
            note.newest_ms = max(note.newest_ms, int(times[row:end].max(initial=0, where=keep[row:end])))
            file_note.start, file_note.rows = self._written, int(np.count_nonzero(keep[row:end]))
            self._written += file_note.rows
            row = end
        if keep.any():
            self._store(texts, times, keep)
        self._waiting, self._num_waiting = [], 0

    def _store(self, texts: pa.Array, times: Ints, keep: Bools) -> None:
        names = [name for *_, thread in self._waiting for name in thread.senders]
        of_name = {name: self._number(plain_name(name)) for name in dict.fromkeys(names)}
        columns = [pa.array([of_name[name] for name in names], pa.int32()), pa.array(times), texts]
        table = pa.table(columns, schema=_SCHEMA)
        if not keep.all():
            table = table.filter(pa.array(keep))
        if self._job.redact:
            from jaegpt.exports.redaction import redact  # loads the telephone plans of the world: only when asked for

            redacted, count = redact(table.column("text").combine_chunks())
            table = table.set_column(2, "text", redacted)
            self._waiting[0][0].redacted += count
        self._writer.write_table(table.combine_chunks())

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._senders)
            self._senders.append(name)
        return self._numbers[name]


def _noted(entry: Entry, reader: Reader, thread: SourceThread) -> FileNote:
    file = MessageFile(
        entry, sys.intern(thread.source or reader.source), thread.box, _plain(thread.key), 0, reader=reader.name
    )
    people, senders, owner = (
        tuple(sys.intern(name) for name in dict.fromkeys(map(plain_name, names)))
        for names in (thread.people, thread.senders, thread.owner)
    )
    return FileNote(
        file,
        people,
        _plain(thread.title),
        thread.is_group,
        thread.resolution_ms,
        senders,
        thread.num_read,
        0,
        len(thread.texts),
        owner,
        thread.owner_is_marked,
    )


def plain_name(name: str) -> str:
    """A name in one line of valid UTF-8; one that is empty is nobody's in particular."""
    return " ".join(_plain(name).split()) or NAMELESS


def _plain(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _texts(texts: Sequence[str]) -> pa.Array:
    try:
        found = pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair somewhere
        found = pa.array(map(_plain, texts), pa.string())
    return pc.replace_substring(found, "\0", "") if pc.any(pc.match_substring(found, "\0")).as_py() else found


def _times(times: Sequence[int]) -> Ints:
    try:
        return np.array(times, np.int64)
    except OverflowError:
        return np.array([time if BEGIN_OF_TIME_MS <= time < END_OF_TIME_MS else 0 for time in times], np.int64)
