"""Files of any size as streams, from a folder or out of a zip, with the same guards as files that are read whole."""

import functools
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from jaegpt.exports.archives import (
    DAMAGE,
    BadFileError,
    Entry,
    checked_member,
    damaged,
    entry_of_file,
    first_line,
    member_fault,
    open_zip,
    opened_zip,
)

STREAM_BYTES = 2**20  # of a file that are taken at a time


@contextmanager
def open_entry(entry: Entry, block: int = STREAM_BYTES) -> Iterator[BinaryIO]:
    """The content of a file of any size as a stream that can be sought; a zip's member is unpacked as it is read.

    Args:
        entry: the file.
        block: bytes that are taken from the file at a time.

    Raises:
        BadFileError: it cannot be opened, or, also while it is read, its zip is damaged or expands too far.
    """
    if entry.fault:
        raise BadFileError(entry.path, *entry.fault)
    try:
        if entry.index >= 0:
            archive = open_zip(entry.source)
            opened: IO[bytes] = archive.open(checked_member(archive, entry))
        else:
            opened = open(os.path.join(entry.source, entry.name), "rb", buffering=0)  # noqa: SIM115
    except DAMAGE as error:
        raise damaged(entry, error) from None
    with opened, io.BufferedReader(_Stream(opened, entry), block) as stream:
        yield cast(BinaryIO, stream)


def find_entry(path: str, member: str | None) -> Entry | None:
    """The file at `path`, or the member of that name in the zip at `path`; None where there is none."""
    if member is None:
        folder, name = os.path.split(path)
        return entry_of_file(folder or ".", name) if os.path.lexists(path) else None
    try:
        number = _numbers_by_name(path).get(member)
        info = None if number is None else open_zip(path).infolist()[number]
    except DAMAGE as error:
        raise BadFileError(path, "corrupt_zip", f"not readable as a zip ({first_line(error)})") from None
    if number is None or info is None:
        return None
    return Entry(path, member, info.file_size, number, member_fault(info))


class _Stream(io.RawIOBase):
    """A file in which damage is a BadFileError whenever it shows."""

    def __init__(self, opened: IO[bytes], entry: Entry) -> None:
        self._opened, self._entry = opened, entry

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._opened.seek(offset, whence)
        except DAMAGE as error:
            raise damaged(self._entry, error) from None

    def tell(self) -> int:
        return self._opened.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            read: int = self._opened.readinto(buffer)  # type: ignore[attr-defined]
            return read
        except DAMAGE as error:
            raise damaged(self._entry, error) from None


@functools.lru_cache(maxsize=8)
def _numbers(path: str, size: int, changed_ns: int) -> dict[str, int]:
    members = opened_zip(path, size, changed_ns).infolist()
    return {member.filename.replace("\\", "/"): number for number, member in enumerate(members)}


def _numbers_by_name(path: str) -> dict[str, int]:
    """The members of a zip by their names as `list_entries` gives them, each with its place; the last of a name."""
    open_zip(path)
    status = os.stat(path)
    return _numbers(path, status.st_size, status.st_mtime_ns)
