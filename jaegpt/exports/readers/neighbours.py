"""Files that lie near a given one, in a folder or in the same zip: lists of people, descriptions of threads."""

import functools
import os
import posixpath
import re
import zipfile
from pathlib import Path
from typing import Any

import orjson

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.text import load_json

MAX_BYTES = 64 * 2**20  # a list of people has some kB each


def near(file: SourceFile, relative: str) -> SourceFile:
    """The file at `relative`, such as `../users.json`, seen from the folder of `file`; it need not exist."""
    own = file.path if file.member is None else file.member
    path = posixpath.normpath(posixpath.join(posixpath.dirname(own), relative))
    return SourceFile(path) if file.member is None else SourceFile(file.path, path)


def matching(file: SourceFile, up: str, pattern: str) -> list[SourceFile]:
    """The files at `pattern`, such as `*/info.json`, in the folder `up`, such as `../..`; a star is one name."""
    folder = near(file, up)
    if folder.member is None:
        try:
            return [SourceFile(str(path)) for path in sorted(Path(folder.path).glob(pattern))]
        except OSError:
            return []
    whole = posixpath.normpath(posixpath.join(folder.member, pattern))
    fits = re.compile("[^/]*".join(map(re.escape, whole.split("*")))).fullmatch
    return [SourceFile(file.path, name) for name in _members(file.path, *_stamp(file.path)) if fits(name)]


def stamp_of(file: SourceFile) -> tuple[int, int] | None:
    """What changes when the file does, for caches: its size and time, or those of its zip; None if it is missing."""
    return _stamp(file.path) if file.exists() else None


def content_of(file: SourceFile) -> Any:
    """What a small JSON file holds; None if it does not exist.

    Raises:
        BadFileError: it is no JSON, or is too large.
    """
    if not file.exists():
        return None
    with file.open() as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise BadFileError(file.name, "too_large", f"more than {MAX_BYTES:,} bytes")
    try:
        return load_json(raw)
    except orjson.JSONDecodeError as error:
        place = len(error.doc[: error.pos].encode("utf-8", "replace"))
        raise BadFileError(file.name, "not_json", f"not JSON ({error.msg})", place) from None


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _members(path: str, size: int, changed_ns: int) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(sorted(archive.namelist()))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadFileError(path, "corrupt_zip", f"not readable as a zip ({error})") from None
