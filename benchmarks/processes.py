"""Commands run as processes of their own, and what each took: seconds by the clock, of all cores, and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

ROOT = Path(__file__).parent.parent
POLL_S = 0.05


@dataclass(frozen=True)
class Usage:
    """What one command took, its start and all its workers included."""

    seconds: float  # by the clock
    cpu_seconds: float  # of all cores together: says the same when other work shares the machine
    peak_mb: float  # of the process and its workers together, pages they share counted once


def run_module(arguments: list[str], folder: Path, workers: int) -> Usage:
    """`python -m ARGUMENTS` in `folder`, with so many workers; what it prints goes to log.txt there."""
    environment = os.environ | {"JAEGPT_WORKERS": str(workers), "PYTHONPATH": str(ROOT)}
    environment |= {"TOKENIZERS_PARALLELISM": "false"} if workers == 1 else {}
    peak_mb = 0.0
    began = time.perf_counter()
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
        status = 0
        while not (ended := os.wait4(process.pid, os.WNOHANG if workers > 1 else 0))[0]:
            peak_mb = max(peak_mb, _family_mb(process.pid))
            time.sleep(POLL_S)
        _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    # A process alone has its peak from the kernel, which misses none; looking at intervals is for several.
    return Usage(seconds, used.ru_utime + used.ru_stime, max(peak_mb, used.ru_maxrss / 1024))


def elsewhere(function: Callable[..., Result], *arguments: object) -> Result:
    """`function(*arguments)` in another process: a child's peak counts from what its parent held when it started."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _family_mb(pid: int) -> float:
    """Memory of a process and all its children now (Linux; elsewhere 0)."""
    kilobytes, family = 0, [pid]
    while family:
        one = family.pop()
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return kilobytes / 1024
