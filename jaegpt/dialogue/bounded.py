"""Runs a chat template within bounds: it is a program that came with a model, and may loop or grow without end."""

import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable

from jaegpt.errors import signals

MOST_S = 10.0
_MORE_MEMORY = 512 * 2**20  # bytes, beside what this process has
_MOST_TEXT = 2**20


class WorkFailed(Exception):
    """The work raised an error, whose text this is, or did not end within its bounds."""


def bounded(work: Callable[[], str]) -> str:
    """What `work` gives, computed in a child process that is killed when it takes too long or too much memory.

    It could not be stopped inside this process: a single expression, such as 10**10**10, takes endless time and memory.
    Windows makes no such children: there only the time is bounded, and what does not end goes on with this process.

    Raises:
        WorkFailed: it did, or it failed.
    """
    if not hasattr(os, "fork"):
        return _in_a_thread(work)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forking a process that has threads: their locks stay held in the child. This child only runs
        # plain Python, and exits without cleaning up.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _work(work, writing)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + MOST_S)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None or answer[:1] not in (b"=", b"!"):
        raise WorkFailed(f"it does not end within {MOST_S:.0f} s and {_MORE_MEMORY / 1e6:,.0f} MB of memory")
    text = answer[1:].decode("utf-8", "replace")
    if answer[:1] == b"!":
        raise WorkFailed(text)
    return text


def _in_a_thread(work: Callable[[], str]) -> str:
    results: list[str | Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # a template may raise anything
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(MOST_S)
    if not results:
        raise WorkFailed(f"it does not end within {MOST_S:.0f} s")
    (result,) = results
    if isinstance(result, Exception):
        raise WorkFailed(" ".join(str(result).split())[:200] or type(result).__name__)
    return result


def _work(work: Callable[[], str], writing: int) -> None:
    try:
        for number in signals("SIGTERM", "SIGINT", "SIGHUP"):
            signal.signal(number, signal.SIG_DFL)
        _limit_memory()
        try:
            answer = b"=" + work().encode()
            if len(answer) > _MOST_TEXT:
                answer = f"!it writes {len(answer):,} bytes".encode()
        except MemoryError:
            answer = b"?"
        except Exception as error:  # a template may raise anything
            answer = b"!" + (" ".join(str(error).split())[:200] or type(error).__name__).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _limit_memory() -> None:
    import resource  # Unix alone has it, as it has children made by forking

    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return  # not Linux: only the time is bounded
    resource.setrlimit(resource.RLIMIT_AS, (now + _MORE_MEMORY,) * 2)


def _read(reading: int, until: float) -> bytes | None:
    """Everything that comes until the other end is closed, or None when the time is over."""
    answer = b""
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        if not (piece := os.read(reading, 65_536)):
            return answer
        answer += piece
