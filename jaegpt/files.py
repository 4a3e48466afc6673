"""Whole files or none: outputs are written under a temporary name and renamed, byte-stable and sorted.

Two processes never write one output at the same time, and a disk that takes no more is one clear line.
"""

import csv
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError, disk_refusal

# The call that locks a file: fcntl's on Unix, msvcrt's on Windows.
fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

_PLACE = 1 << 30  # Windows locks bytes, and nobody else can read them: one beyond the end of every file locked here
_WAIT_S = 0.05


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8; a reader sees the old file or the new one, never half.

    Raises:
        JaegptError: the disk does not take it; as of everything here.
    """
    with writing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in its own key order, indented; NaN and infinity are refused (null says "no figure")."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write one header line and the rows; floats in their shortest exact form."""
    with writing_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


@contextmanager
def writing_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Of two processes that write the same file the second waits: it takes no longer than the writing of one file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with _named_if_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _hold(temporary, folder=False, wait=True)
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(lock)


@contextmanager
def writing_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    No other process can open it meanwhile. Open it before the work that fills it, so that a second process is refused
    at once, and not after that work.

    Raises:
        JaegptError: another process writes it now, or the disk does not take it.
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{ending}") for ending in ("tmp", "old"))
    with _named_if_refused(path):
        lock = _hold_alone(temporary, path)
        try:
            _empty(temporary)  # of what a killed process has left
            yield temporary
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                os.replace(path, old)  # whole: deleting it takes a while
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(lock)


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder for one process at a time, which vanishes with the block; what a killed process left goes first.

    Raises:
        JaegptError: another process has it now, or the disk does not take it.
    """
    path = Path(path)
    with _named_if_refused(path):
        lock = _hold_alone(path, path)
        try:
            _empty(path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def lock_file(descriptor: int, wait: bool) -> None:
    """Hold the lock of an open file until it is closed, and so also with this process, however that ends.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: there are no locks here, as on some network disks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    if msvcrt is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    while True:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            if not wait:
                raise BlockingIOError(error.errno, "another process holds the lock") from error
        time.sleep(_WAIT_S)


def _hold(path: Path, folder: bool, wait: bool) -> int:
    """Open and lock a temporary file or folder that others would write as well, and make it where there is none.

    Returns:
        A descriptor; closing it ends the lock.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    if fcntl is None:
        return _hold_by_name(path, folder, wait)
    flags = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT
    while True:
        if folder:
            path.mkdir(exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
        if not _locked(descriptor, wait):
            return descriptor
        # Whoever held it may have renamed it meanwhile: the lock is then on the finished file, and another is needed.
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _hold_alone(folder: Path, output: Path) -> int:
    """As `_hold`, of a folder for `output`; the error of a second process names that."""
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _hold(folder, folder=True, wait=False)
    except BlockingIOError:
        raise JaegptError(
            f"{output}: another process is writing it now. Wait until it has ended, or end it, and run this again."
        ) from None


def _hold_by_name(path: Path, folder: bool, wait: bool) -> int:
    """As `_hold`, on a file of the system's temporary folder that is named after `path`.

    Windows opens no folders, and renames nothing that is open.
    """
    name = hashlib.blake2b(str(path.absolute()).encode(), digest_size=16).hexdigest()
    descriptor = os.open(Path(tempfile.gettempdir()) / f"jaegpt-{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    _locked(descriptor, wait)
    if folder:
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    return descriptor


def _locked(descriptor: int, wait: bool) -> bool:
    """Whether the lock is held now; not where there are none. The file is closed where another process holds it."""
    try:
        lock_file(descriptor, wait)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        return False
    return True


@contextmanager
def _named_if_refused(path: Path) -> Iterator[None]:
    """An error line with the output's name where the disk does not take it."""
    try:
        yield
    except JaegptError:
        raise
    except Exception as error:
        reason = disk_refusal(error, path)
        if reason is None:
            raise
        raise JaegptError(
            f"{path}: cannot be written ({reason}). It is as it was before; make room there, and run it again."
        ) from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
