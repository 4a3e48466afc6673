"""The first pass: each batch of files becomes one Arrow file of messages, and a note per file on what was in it.

Whose messages are the owner's is known only when all files have been seen, so this pass keeps names as numbers.
"""

import gc
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.exports.archives import BadFileError, read_bytes
from jaegpt.exports.conversations import conversations_of, is_conversations
from jaegpt.exports.encrypted import encrypted_dialect_of, is_encrypted_download
from jaegpt.exports.message_files import MessageFile
from jaegpt.exports.messenger import dialect_of, is_thread, thread_of
from jaegpt.exports.people import clean, clean_name
from jaegpt.exports.reactions import REASON
from jaegpt.exports.rows import Rows, read_rows
from jaegpt.exports.system_lines import find_system_lines
from jaegpt.exports.text import BYTE_ORDER_MARK, load_json
from jaegpt.parallel import in_batches

BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class MetaJob:
    """Files of Meta's to read in one go; `scratch` is where their messages go, None to hand them back in memory."""

    files: tuple[MessageFile, ...]
    scratch: str | None
    system_patterns: tuple[str, ...]
    redact: bool
    reactions: bool = False

    @property
    def num_bytes(self) -> int:
        return sum(file.entry.size for file in self.files)


@dataclass(slots=True)
class FileNote:
    """What one file held; its messages are rows `start` to `start + rows` of its batch.

    A large download has tens of thousands of these at a time, so that they are kept small.
    """

    file: MessageFile
    participants: tuple[str, ...]
    title: str
    is_group: bool | None  # None: the file does not say
    resolution_ms: int  # the step of its times: 1, 1,000 or 60,000
    senders: tuple[str, ...]
    read: int
    start: int
    rows: int
    owner: tuple[str, ...] = ()  # the owner's names in it, where the format marks them or a reader found evidence
    owner_is_marked: bool = False

    @property
    def has_partial_people(self) -> bool:
        """Early in 2018 Messenger's participants came without the owner."""
        return self.resolution_ms > 1 and not self.file.reader


@dataclass
class BatchNote:
    """What a batch held.

    Attributes:
        files: its readable files.
        problems: its bad ones.
        faults: what is malformed in readable ones, one for each such file.
        doubtful: files that have the name of an encrypted thread and nothing in them that shows it.
        strangers: databases of a kind that no reader knows.
        said: (file, line for people) of the readers.
        dropped: messages by source and reason.
        newest_ms: when the newest message was written, ms since 1970; 0 without any.
        messages: an Arrow IPC file, as a path or as its bytes: sender int32 (an index into `senders`), sent_at int64
            (ms since 1970), text string.
    """

    files: list[FileNote] = field(default_factory=list)
    problems: list[BadFileError] = field(default_factory=list)
    faults: list[BadFileError] = field(default_factory=list)
    doubtful: list[MessageFile] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    newest_ms: int = 0
    messages: str | bytes = b""
    redacted: int = 0


def meta_jobs(
    files: Sequence[MessageFile], scratch: Path | None, system_patterns: Sequence[str], redact: bool, reactions: bool
) -> list[MetaJob]:
    """The files in batches of at most BATCH_BYTES."""
    return [
        MetaJob(batch, str(scratch / f"{index}.arrow") if scratch else None, tuple(system_patterns), redact, reactions)
        for index, batch in enumerate(in_batches(files, lambda file: file.entry.size, BATCH_BYTES))
    ]


def read_batch(batch: MetaJob) -> BatchNote:
    """Read the files of a batch; a bad file becomes a problem and does not end the others."""
    with _no_cycle_search():
        return _read_batch(batch)


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Parsed JSON has no cycles, so that Python's search for them, a quarter of the parsing time, is switched off."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_batch(batch: MetaJob) -> BatchNote:
    note = BatchNote()
    rows: list[Rows] = []
    reacting: list[int] = []  # the places of reactions among all rows
    num_rows = 0
    for file in batch.files:
        try:
            threads = _read_file(file, batch.reactions)
        except BadFileError as problem:
            note.problems.append(problem)
            continue
        if threads is None:
            note.doubtful.append(file)
            continue
        for file_note, read in threads:
            note.files.append(file_note)
            rows.append(read)
            reacting += [num_rows + place for place in read.reacting]
            num_rows += len(read.texts)
            note.dropped.update({(file.source, reason): count for reason, count in read.dropped.items()})
            if read.fault:
                note.faults.append(BadFileError(file.entry.path, "malformed_messages", read.fault))
    table, note.senders = _as_table(rows)
    table = _without_system_lines(table, note, batch.system_patterns, reacting)
    if batch.redact:
        from jaegpt.exports.redaction import redact  # loads the telephone plans of the world: only when asked for

        texts, note.redacted = redact(table.column("text").combine_chunks())
        table = table.set_column(2, "text", texts)
    note.newest_ms = pc.max(table.column("sent_at")).as_py() or 0
    note.messages = _store(table.combine_chunks(), batch.scratch)
    return note


def load_messages(messages: str | bytes) -> pa.Table:
    """The rows behind a BatchNote; a file is mapped, not read."""
    source = pa.memory_map(messages) if isinstance(messages, str) else pa.BufferReader(messages)
    return pa.ipc.open_file(source).read_all()


def fault_of(file: MessageFile) -> BadFileError | None:
    """What is wrong with a file once it is clear that it should hold messages; None when nothing is."""
    try:
        raw = read_bytes(file.entry)
        *_, messages = _thread_of(file, raw)
    except BadFileError as problem:
        return problem
    if not messages:
        return None
    return BadFileError(file.entry.path, "wrong_structure", "none of its messages has a `senderName`")


def _read_file(file: MessageFile, reactions: bool) -> list[tuple[FileNote, Rows]] | None:
    """The messages of one file by thread, or None when nothing shows that it is one of messages."""
    try:
        raw = read_bytes(file.entry)
    except BadFileError:
        if file.format == "encrypted" or file.number == 0:
            return None
        raise
    if file.format == "conversations":
        return _conversations(file, raw) if is_conversations(raw) else None
    encrypted = file.format == "encrypted"
    if encrypted and not is_encrypted_download(raw):
        return None
    if file.number == 0 and not encrypted and not is_thread(raw):
        return None
    names, title, is_group, messages = _thread_of(file, raw)
    dialect = encrypted_dialect_of(messages) if encrypted else dialect_of(messages)
    return [_noted(file, names, title, is_group, read_rows(messages, dialect, reactions))]


def _conversations(file: MessageFile, raw: bytes) -> list[tuple[FileNote, Rows]]:
    """The threads of a file that holds all of a download, each as if it had a file of its own."""
    path = file.entry.path
    return [
        _noted(replace(file, thread=thread), names, "", len(names) > 2, read_rows(messages, dialect))
        for names, thread, dialect, messages in conversations_of(_parsed(raw, path), path)
    ]


def _noted(
    file: MessageFile, names: Sequence[str], title: str, is_group: bool | None, rows: Rows
) -> tuple[FileNote, Rows]:
    # The same few names in file after file: `intern` keeps one copy of each.
    people = tuple(sys.intern(clean_name(name)) for name in names)
    writers = tuple(sys.intern(clean_name(name)) for name in rows.writers)
    title = sys.intern(clean(title))
    resolution_ms = 1000 if rows.in_seconds else 1
    return FileNote(file, people, title, is_group, resolution_ms, writers, rows.read, 0, len(rows.texts)), rows


def _thread_of(file: MessageFile, raw: bytes) -> tuple[list[str], str, bool | None, list[Any]]:
    return thread_of(_parsed(raw, file.entry.path), file.entry.path)


def _parsed(raw: bytes, path: str) -> object:
    try:
        return load_json(raw)
    except orjson.JSONDecodeError as error:
        raise _not_json(path, raw, error) from None


def _as_table(files: list[Rows]) -> tuple[pa.Table, list[str]]:
    """All rows of a batch, and the names that its sender numbers mean."""
    senders = pa.array(list(chain.from_iterable(rows.senders for rows in files)), pa.string()).dictionary_encode()
    texts = pa.array(list(chain.from_iterable(rows.texts for rows in files)), pa.string())
    if pc.any(pc.match_substring(texts, "\0")).as_py():
        texts = pc.replace_substring(texts, "\0", "")
    times = pa.array(list(chain.from_iterable(rows.times for rows in files)), pa.int64())
    table = pa.table({"sender": senders.indices, "sent_at": times, "text": texts})
    return table, [clean_name(name) for name in senders.dictionary.to_pylist()]


def _without_system_lines(
    table: pa.Table, batch: BatchNote, system_patterns: Sequence[str], reacting: Sequence[int]
) -> pa.Table:
    """The rows that people wrote; the note counts the others, and each file's note gets the place of its rows.

    reacting: the rows that are reactions, which go with what they are a reaction to.
    """
    files = batch.files
    ends = list(accumulate(note.rows for note in files))

    def people_of(row: int) -> list[str]:
        note = files[bisect_right(ends, row)]
        return [*note.participants, *note.senders]

    senders = table.column("sender").to_numpy()
    texts = table.column("text").combine_chunks()
    lines = find_system_lines(texts, people_of, system_patterns, lambda row: batch.senders[senders[row]])
    for row in reacting:
        if row - 1 in lines:
            lines.setdefault(row, REASON)
    for row, kind in lines.items():
        note = files[bisect_right(ends, row)]
        batch.dropped[note.file.source, kind] += 1
        note.rows -= 1
    for note, end in zip(files, accumulate(note.rows for note in files), strict=True):
        note.start = end - note.rows
    return table.take(pa.array([row for row in range(len(table)) if row not in lines], pa.int64())) if lines else table


def _not_json(path: str, raw: bytes, error: orjson.JSONDecodeError) -> BadFileError:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as bad_byte:
        return BadFileError(path, "not_utf8", f"not UTF-8 (byte 0x{raw[bad_byte.start]:02x})", bad_byte.start)
    offset = len(error.doc[: error.pos].encode("utf-8", "replace"))
    if raw.startswith(BYTE_ORDER_MARK):
        offset += len(BYTE_ORDER_MARK)
    return BadFileError(path, "not_json", f"not JSON ({error.msg})", offset)


def _store(table: pa.Table, path: str | None) -> str | bytes:
    """An Arrow IPC file: plain on disk, where it is mapped later; packed in memory, where it has to stay."""
    if path:
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        return path
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
