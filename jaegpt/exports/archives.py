"""Folders and zips as lists of files to read, with nothing unpacked to disk and limits on every size."""

import functools
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from jaegpt.errors import JaegptError

# Messenger writes at most 10,000 messages (some 5 MB) per file; the encrypted download a whole thread (some 50 MB).
MAX_FILE_BYTES = 256 * 2**20
# A file of brackets takes 35 times its size once it is parsed; one of messages has at most one value for 10 bytes.
# 12 million values are a million messages, and 2 GB.
MAX_VALUES = 12_000_000
_VALUES_MATTER_FROM = 16 * 2**20
# Chat JSON deflates 10- to 30-fold; deflate itself ends at 1,032-fold, which only a bomb reaches.
MAX_EXPANSION = 200
_EXPANSION_MATTERS_FROM = 2**20
MAX_NAME = 255  # bytes of a file's name; no file system has longer ones, but a zip may
ZIP_DEPTH = 1  # folders below the given one in which zips are still opened
# Others unpack a block whole, whatever size the zip states, and Meta uses none of them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What macOS puts beside the files of zips and of foreign disks.
_MAC_FOLDER, _MAC_PREFIX = "__MACOSX", "._"

# All that zipfile and its decompressors were seen to raise on damaged input.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
)


class BadFileError(Exception):
    """A file that cannot be read: `reason` is a short slug for counting, `detail` is for the user."""

    def __init__(self, path: str, reason: str, detail: str, offset: int | None = None) -> None:
        super().__init__(path, reason, detail, offset)
        self.path, self.reason, self.detail, self.offset = path, reason, detail, offset

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset:,}"
        return printable(f"{self.path}: {self.detail}{where}")


def printable(text: str) -> str:
    """`text` on one line and in valid UTF-8: file names may hold line breaks, control codes and bytes of any kind."""
    shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a download: `name` is its path inside the folder or zip `source`, `index` its place in the zip."""

    source: str
    name: str
    size: int  # bytes, unpacked
    index: int = -1  # -1 outside zips
    fault: tuple[str, str] | None = None  # reason and detail, where it is no file that can be read

    @property
    def path(self) -> str:
        return f"{self.source}/{self.name}"

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass
class Listing:
    """What lies under one path.

    Attributes:
        entries: the wanted files, sorted by name.
        problems: folders and zips that cannot be looked into.
        links: links to folders, which are not followed, as paths below the given one.
        far_zips: zips that lie too deep to be opened, among threads, or in another zip, likewise.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[BadFileError] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    far_zips: list[str] = field(default_factory=list)


def list_entries(path: str, wanted: Callable[[str], bool]) -> Listing:
    """The files of a download whose name is `wanted`, and what stood in the way.

    Zips that lie in a given folder, or in a folder there, are opened too: that is where people put downloads. Those in
    the folder of a thread are attachments. A path that is no folder and no zip is itself the one file.

    Raises:
        JaegptError: there is nothing at `path`, or nothing that can be opened.
    """
    try:
        is_folder = Path(path).is_dir()
        exists = is_folder or Path(path).exists()
    except (OSError, ValueError) as error:
        raise JaegptError(f"export.path: {path!r} cannot be opened ({error}).") from None
    if not exists:
        raise JaegptError(f"export.path: {path} does not exist. Give the folder or the zip of the download.")
    if is_folder:
        return _list_folder(path, wanted)
    if path.lower().endswith(".zip") or (Path(path).is_file() and zipfile.is_zipfile(path)):
        return _list_zip(path, wanted)
    folder, name = os.path.split(path)
    entry = entry_of_file(folder or ".", name)
    if entry.fault:
        raise JaegptError(f"export.path: {path} is {entry.fault[1]}. Give the download itself.")
    return Listing([entry])


def read_bytes(entry: Entry) -> bytes:
    """The whole content of a file.

    Raises:
        BadFileError: it cannot be read, or is larger than any file of a real export.
    """
    if entry.fault:
        raise BadFileError(entry.path, *entry.fault)
    if entry.size == 0:
        raise BadFileError(entry.path, "empty_file", "the file is empty")
    if entry.size > MAX_FILE_BYTES:
        raise BadFileError(entry.path, "too_large", f"{entry.size:,} bytes, more than {MAX_FILE_BYTES:,}")
    raw = _read_member(entry) if entry.index >= 0 else _read_file(entry)
    if len(raw) > MAX_FILE_BYTES:
        raise BadFileError(entry.path, "too_large", f"more than {MAX_FILE_BYTES:,} bytes")
    if len(raw) > _VALUES_MATTER_FROM and raw.count(b",") + raw.count(b"{") + raw.count(b"[") > MAX_VALUES:
        raise BadFileError(entry.path, "too_large", f"more than {MAX_VALUES:,} values, which no real download has")
    return raw


def damaged(entry: Entry, error: BaseException) -> BadFileError:
    if entry.index >= 0:
        return BadFileError(entry.path, "corrupt_zip", f"not readable from its zip ({first_line(error)})")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return BadFileError(entry.path, "unreadable", f"cannot be opened ({reason})")


def _list_folder(folder: str, wanted: Callable[[str], bool]) -> Listing:
    found = Listing()

    def unreadable(error: OSError) -> None:
        found.problems.append(BadFileError(str(error.filename), "unreadable", f"cannot be opened ({error.strerror})"))

    for base, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != _MAC_FOLDER)
        inside = PurePosixPath(Path(base).relative_to(folder).as_posix())
        found.links += [str(inside / name) for name in folders if os.path.islink(os.path.join(base, name))]
        for name in sorted(name for name in files if not name.startswith(_MAC_PREFIX)):
            relative = str(inside / name)
            if name.lower().endswith(".zip") and not _in_a_thread(inside.parts):
                if len(inside.parts) > ZIP_DEPTH or "messages" in inside.parts:
                    found.far_zips.append(relative)
                    continue
                inner = _list_zip(os.path.join(base, name), wanted)
                found.entries += inner.entries
                found.problems += inner.problems
                found.far_zips += [f"{relative}/{far}" for far in inner.far_zips]
            elif wanted(relative):
                found.entries.append(entry_of_file(folder, relative))
    return found


def _in_a_thread(folders: Sequence[str]) -> bool:
    """Whether these folders lead into one of a thread: `messages/bo_1/files`, `messages/inbox/bo_1`."""
    return "messages" in folders and len(folders) - folders.index("messages") > 2


def entry_of_file(folder: str, name: str) -> Entry:
    try:
        status = os.stat(os.path.join(folder, name))
    except OSError as error:
        return Entry(folder, name, 0, fault=("unreadable", f"cannot be opened ({error.strerror})"))
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        return Entry(folder, name, 0, fault=("unreadable", "not a regular file"))
    return Entry(folder, name, status.st_size)


def _list_zip(path: str, wanted: Callable[[str], bool]) -> Listing:
    found = Listing()
    try:
        members = open_zip(path).infolist()
    except DAMAGE as error:
        found.problems.append(BadFileError(path, "corrupt_zip", f"not readable as a zip ({first_line(error)})"))
        return found
    for index, member in enumerate(members):
        name = member.filename.replace("\\", "/")
        parts = name.split("/")
        if parts[0] == _MAC_FOLDER or parts[-1].startswith(_MAC_PREFIX):
            continue
        if name.startswith("/") or ".." in parts or name[1:2] == ":":
            found.problems.append(BadFileError(f"{path}/{name}", "unsafe_name", "a name that leads out of the zip"))
        elif len(parts[-1].encode("utf-8", "surrogateescape")) > MAX_NAME:
            if wanted(name):
                shown = f"{path}/{name[:MAX_NAME]}..."
                found.problems.append(BadFileError(shown, "unsafe_name", f"a name of {len(parts[-1]):,} characters"))
        elif name.lower().endswith(".zip") and not _in_a_thread(parts[:-1]):
            found.far_zips.append(name)
        elif not member.is_dir() and wanted(name):
            found.entries.append(Entry(path, name, member.file_size, index, member_fault(member)))
    found.entries.sort(key=lambda entry: (entry.name, entry.index))
    return found


def member_fault(member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """What is wrong with a member that is no file by the mode it states, if it states one."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link", "a link instead of a file"
    return None if kind in (0, stat.S_IFREG) else ("unreadable", "not a regular file")


def _read_file(entry: Entry) -> bytes:
    try:
        with open(os.path.join(entry.source, entry.name), "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadFileError(entry.path, "unreadable", f"cannot be opened ({error.strerror})") from None


def _read_member(entry: Entry) -> bytes:
    try:
        archive = open_zip(entry.source)
        with archive.open(checked_member(archive, entry)) as file:
            return file.read(MAX_FILE_BYTES + 1)
    except DAMAGE as error:
        raise damaged(entry, error) from None


def checked_member(archive: zipfile.ZipFile, entry: Entry) -> zipfile.ZipInfo:
    """The member, if it can be read and is no bomb."""
    member = archive.infolist()[entry.index]
    if member.flag_bits & 0x1:
        raise BadFileError(entry.path, "encrypted", "protected by a password; unpack it and give the folder")
    if member.compress_type not in _METHODS:
        detail = f"packed by method {member.compress_type}, which no download uses; unpack it and give the folder"
        raise BadFileError(entry.path, "compression", detail)
    if member.file_size > max(_EXPANSION_MATTERS_FROM, MAX_EXPANSION * member.compress_size):
        raise BadFileError(entry.path, "too_large", f"expands more than {MAX_EXPANSION}-fold")
    return member


@functools.lru_cache(maxsize=8)
def opened_zip(path: str, size: int, changed_ns: int) -> zipfile.ZipFile:
    """The zip's table of contents, read once per process; size and time make a replaced file another one."""
    return zipfile.ZipFile(path)


def open_zip(path: str) -> zipfile.ZipFile:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise OSError("not a regular file")
    return opened_zip(path, status.st_size, status.st_mtime_ns)


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
