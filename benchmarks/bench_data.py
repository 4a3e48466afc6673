"""Speed and memory of the data stages on the sample export, several times over: `python -m benchmarks.bench_data`.

Each stage runs in a process of its own, with one worker and with all, while this one adds up the memory of the whole
family. Prints one table and, last, one JSON line. Beside extraction stands what orjson takes to parse the same bytes.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import orjson

from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import read_export
from jaegpt.files import writing_folder
from jaegpt.parallel import num_workers
from jaegpt.sample import write_sample

WORK = Path("data/.bench")
POLL_S = 0.05
MIN_COPIES = 14  # 170 MB


@dataclass(frozen=True)
class Result:
    """One measured run; `rows` are messages, turns, examples, whatever the stage hands on."""

    stage: str
    copies: int
    workers: int
    megabytes: float
    rows: int
    seconds: float  # by the clock
    cpu_seconds: float  # of the stage's process and all its workers: says the same when other work shares the machine
    mb_per_s_per_core: float  # by the clock
    mb_per_cpu_s: float
    peak_memory_mb: float


def extract(work: Path) -> int:
    """The export -> messages."""
    config = ExportConfig(
        path=str(work / "export"), owner="auto", exclude=[], on_error="stop", system_patterns=[], redact=False
    )
    with writing_folder(work / "messages") as folder:
        return read_export(config, folder).messages_kept


# In order: each reads what the ones before wrote under the same folder, and returns its number of rows.
STAGES: list[tuple[str, Callable[[Path], int]]] = [("extract", extract)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, nargs="+", default=[MIN_COPIES], help="sizes, in copies of the sample")
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, num_workers()}))
    arguments = parser.parse_args()
    results: list[Result] = []
    try:
        for copies in arguments.copies:
            shutil.rmtree(WORK, ignore_errors=True)
            write_sample(WORK / "export", copies)
            megabytes = sum(path.stat().st_size for path in (WORK / "export").rglob("message_*.json")) / 1e6
            results.append(_measure("orjson alone", _parse_only, copies, 1, megabytes))
            for name, function in STAGES:
                results += [_measure(name, function, copies, workers, megabytes) for workers in arguments.workers]
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    _print_table(results)
    print(json.dumps([asdict(result) for result in results]))


def _parse_only(work: Path) -> int:
    """What every reader of JSON has to do at least; reading the files is not counted, so this bound is strict."""
    seconds, num_messages = 0.0, 0
    for path in sorted((work / "export").rglob("message_*.json")):
        raw = path.read_bytes()
        began = time.perf_counter()
        content = orjson.loads(raw)
        seconds += time.perf_counter() - began
        num_messages += len(content["messages"])
    _parse_only.seconds = seconds  # type: ignore[attr-defined]
    return num_messages


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _measure(name: str, function: Callable[[Path], int], copies: int, workers: int, megabytes: float) -> Result:
    os.environ["JAEGPT_WORKERS"] = str(workers)
    context = get_context("spawn")
    answer: SimpleQueue[tuple[float, float, int]] = context.SimpleQueue()
    process = context.Process(target=_timed, args=(function, WORK, answer))
    process.start()
    assert process.pid
    peak = 0.0
    while process.is_alive():
        peak = max(peak, _memory_mb(process.pid))
        time.sleep(POLL_S)
    if process.exitcode:
        raise SystemExit(f"{name} ended with exit code {process.exitcode}")
    seconds, cpu_seconds, rows = answer.get()
    return Result(
        stage=name,
        copies=copies,
        workers=workers,
        megabytes=round(megabytes, 1),
        rows=rows,
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
        mb_per_s_per_core=round(megabytes / seconds / workers, 1),
        mb_per_cpu_s=round(megabytes / cpu_seconds, 1),
        peak_memory_mb=round(peak, 1),
    )


def _timed(function: Callable[[Path], int], work: Path, answer: "SimpleQueue[tuple[float, float, int]]") -> None:
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    rows = function(work)
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu_began
    if hasattr(function, "seconds"):
        seconds = cpu_seconds = function.seconds
    answer.put((seconds, cpu_seconds, rows))


def _memory_mb(pid: int) -> float:
    """Memory of a process and all its children, pages they share counted once (Linux; elsewhere 0)."""
    total, family = 0, [pid]
    while family:
        one = family.pop()
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return total / 1024


def _print_table(results: list[Result]) -> None:
    print(
        f"{'stage':<14}{'workers':>8}{'MB':>9}{'rows':>12}{'seconds':>9}{'cpu s':>8}{'MB/s/core':>11}{'MB/cpu s':>10}"
        f"{'peak MB':>9}"
    )
    for result in results:
        print(
            f"{result.stage:<14}{result.workers:>8}{result.megabytes:>9,.0f}{result.rows:>12,}{result.seconds:>9.2f}"
            f"{result.cpu_seconds:>8.2f}{result.mb_per_s_per_core:>11,.0f}{result.mb_per_cpu_s:>10,.0f}"
            f"{result.peak_memory_mb:>9,.0f}"
        )


if __name__ == "__main__":
    main()
