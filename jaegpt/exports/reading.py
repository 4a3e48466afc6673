"""The first pass: each batch of files becomes one Arrow file of messages, and a note a file on what was in it.

Whose messages are the owner's is known only when all files have been seen, so this pass keeps names as numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa

from jaegpt.exports.discovery import MessageFile
from jaegpt.exports.encrypted import ENCRYPTED, is_encrypted_download
from jaegpt.exports.messenger import shape_of, thread_of
from jaegpt.exports.rows import Rows, clean_name, read_rows
from jaegpt.exports.sources import BadFileError, read_bytes
from jaegpt.exports.text import load_json

BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Batch:
    """Files to read in one go; `scratch` is where their messages go, or None to hand them back in memory."""

    files: tuple[MessageFile, ...]
    scratch: str | None
    strict: bool  # a file with malformed messages is a bad file
    system_patterns: tuple[str, ...]
    redact: bool

    @property
    def num_bytes(self) -> int:
        return sum(file.entry.size for file in self.files)


@dataclass
class FileNote:
    """What one file held; its messages are rows `start` to `start + rows` of its batch, senders indexing `senders`."""

    file: MessageFile
    participants: list[str]
    title: str
    is_group: bool | None  # None: the file does not say
    senders: list[str]
    read: int
    dropped: Counter[str]
    redacted: int
    start: int
    rows: int


@dataclass
class BatchNote:
    """The files of a batch; `messages` is an Arrow IPC file, as a path or as its bytes."""

    files: list[FileNote] = field(default_factory=list)
    problems: list[BadFileError] = field(default_factory=list)
    messages: str | bytes = b""


def batches(
    files: Sequence[MessageFile], scratch: Path | None, strict: bool, system_patterns: Sequence[str], redact: bool
) -> list[Batch]:
    """Neighbouring files together until a batch has BATCH_BYTES; the cut does not depend on the number of workers."""
    groups: list[list[MessageFile]] = [[]]
    size = 0
    for file in files:
        if groups[-1] and size + file.entry.size > BATCH_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.entry.size
    return [
        Batch(
            tuple(group), str(scratch / f"{index}.arrow") if scratch else None, strict, tuple(system_patterns), redact
        )
        for index, group in enumerate(groups)
        if group
    ]


def read_batch(batch: Batch) -> BatchNote:
    """Read the files of a batch; a bad file becomes a problem and does not end the others."""
    note = BatchNote()
    tables: list[pa.Table] = []
    num_rows = 0
    for file in batch.files:
        try:
            read = _read_file(file, batch)
        except BadFileError as problem:
            note.problems.append(problem)
            continue
        if read is None:
            continue
        file_note, rows = read
        if rows.fault and batch.strict:
            note.problems.append(BadFileError(file.entry.path, "malformed_messages", rows.fault))
        file_note.start = num_rows
        num_rows += file_note.rows
        tables.append(rows.table)
        note.files.append(file_note)
    if tables:
        note.messages = _store(pa.concat_tables(tables).combine_chunks(), batch.scratch)
    return note


def load_messages(messages: str | bytes) -> pa.Table:
    """The rows behind a BatchNote; a file is mapped, not read."""
    source = pa.memory_map(messages) if isinstance(messages, str) else pa.BufferReader(messages)
    return pa.ipc.open_file(source).read_all()


def _read_file(file: MessageFile, batch: Batch) -> tuple[FileNote, Rows] | None:
    """The messages of one file, or None when it is none of messages after all."""
    path = file.entry.path
    raw = read_bytes(file.entry)
    encrypted = file.format == "encrypted"
    if encrypted and not file.certain and not is_encrypted_download(raw):
        return None
    try:
        content = load_json(raw)
    except orjson.JSONDecodeError as error:
        raise _not_json(path, raw, error) from None
    if encrypted and not (isinstance(content, dict) and "participants" in content and "messages" in content):
        return None
    names, title, is_group, messages = thread_of(content, path)
    people = [clean_name(name) for name in names]
    shape = ENCRYPTED if encrypted else shape_of(messages)
    rows = read_rows(messages, shape, people, batch.system_patterns)
    redacted = 0
    if batch.redact:
        from jaegpt.exports.redaction import redact  # loads the telephone plans of the world: only when asked for

        texts, redacted = redact(rows.table.column("text"))
        rows.table = rows.table.set_column(2, "text", texts)
    note = FileNote(
        file, people, clean_name(title), is_group, rows.senders, rows.read, rows.dropped, redacted, 0, len(rows.table)
    )
    return note, rows


def _not_json(path: str, raw: bytes, error: orjson.JSONDecodeError) -> BadFileError:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as bad_byte:
        return BadFileError(path, "not_utf8", f"not UTF-8 (byte 0x{raw[bad_byte.start]:02x})", bad_byte.start)
    offset = len(error.doc[: error.pos].encode("utf-8", "replace"))
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
