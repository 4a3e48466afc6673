"""The one error that speaks to the user, and the wrapper that every command and stage runs in.

The wrapper prints that error as a single line with exit code 1, and settles what must hold for the whole process: files
that only their owner reads, temporary folders that end with the process, and output that every terminal can show. Of a
stage it notes how long it took.
"""

import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# Where people's messages lie, and what remembers them. DVC makes some of these itself, open to everybody.
_PRIVATE = ("data", "models", "sweeps", "report", "dvc_plots", ".dvc")
# Where DVC notes the hash of every file of every project, an export's folders by name, in a place that all users share.
_DVC_NOTES = ("/var/tmp/dvc", "/Library/Caches/dvc")
STAGE_TIMES = Path(".dvc/tmp/stage_times.jsonl")  # a line for each stage that ran: its name, when it began, seconds
_BEGAN = time.time()  # stages import this before torch, so that loading it counts


class JaegptError(ValueError):
    """Something the user can mend: the text names the file or key, what was found and what to do."""


def run(main: Callable[[], None]) -> None:
    """Call `main`; a JaegptError becomes `error: ...` on standard error and exit code 1, without a traceback.

    So do a full disk, which any write may meet, and a reader of the output that has gone (`jaegpt table | head`).
    """
    _prepare_process()
    try:
        main()
        _note_time()
        sys.stdout.flush()  # a full disk shows here, while it can still be reported
    except JaegptError as error:
        _end(f"error: {error}")
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except Exception as error:
        reason = disk_refusal(error)
        if reason is None:
            raise
        name = getattr(error, "filename", None) or "standard output, or a file"
        _drop_output()
        _end(f"error: {name}: {reason}. Make room there, or check its permissions, and run it again.")


def disk_refusal(error: BaseException, path: Path | None = None) -> str | None:
    """What the system says of a disk that is full or over quota, or of a file that may not be used; None of the rest.

    Libraries wrap what the system said in errors of their own, of which the text is all that is left.

    Args:
        path: only where this, or something beside it, is what may not be used.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FORBIDDEN:
            name = Path(str(cause.filename)).absolute() if cause.filename else None
            if name and (path is None or name.is_relative_to(path.absolute().parent)):
                return os.strerror(cause.errno)
        for number in _FULL:
            if (isinstance(cause, OSError) and cause.errno == number) or os.strerror(number) in str(cause):
                return os.strerror(number)
        cause = cause.__cause__ or cause.__context__
    return None


def make_private() -> None:
    """Close the project's private folders to everybody else: a folder of mode 0700 closes all that is in it.

    DVC makes data/, models/ and its cache by the user's umask, and copies outputs into them under modes of its own. Its
    notes on the project's files lie elsewhere, in a folder per project.
    """
    if not hasattr(os, "getuid"):
        return  # Windows: a user's files are closed to others as they are
    if not (Path("dvc.yaml").is_file() and Path(".dvc").is_dir()):
        return  # `jaegpt inspect` may be typed in any folder, where these names may be somebody's own folders
    shared = [os.environ["DVC_SITE_CACHE_DIR"]] if os.environ.get("DVC_SITE_CACHE_DIR") else _DVC_NOTES
    notes = [path for place in shared for path in Path(place).glob("repo/*")]
    for path in [*map(Path, _PRIVATE), *notes]:
        try:
            if path.is_dir() and path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
                path.chmod(0o700)
        except OSError:  # a disk that knows no modes
            continue


def signals(*names: str) -> list[signal.Signals]:
    """Those of the named signals that this system has; Windows has no SIGHUP."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _note_time() -> None:
    """Of a stage that DVC has called; beside the project's files, since no two runs take equally long."""
    stage = os.environ.get("DVC_STAGE")
    if stage and STAGE_TIMES.parent.is_dir():
        line = json.dumps({"stage": stage, "began": round(_BEGAN, 1), "seconds": round(time.time() - _BEGAN, 1)})
        with contextlib.suppress(OSError), STAGE_TIMES.open("a") as file:  # what the stage made is not lost for that
            file.write(line + "\n")


def _prepare_process() -> None:
    os.umask(0o077)
    make_private()
    for stream in (sys.stdout, sys.stderr):  # names and messages hold characters that not every terminal can show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Python would end at once and leave its temporary files; SIGHUP stays ignored where nohup has seen to that.
    if threading.current_thread() is threading.main_thread():
        for number in signals("SIGTERM", "SIGHUP"):
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Exit through every `with` and `finally`, which remove temporary files."""
    raise SystemExit(128 + number)


def _drop_output() -> None:
    """Python flushes once more at its end, and would say that it cannot."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(1)
