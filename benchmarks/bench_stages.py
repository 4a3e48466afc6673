"""The data stages as they are run, against the seed's way: speed a core, shares, memory, and the same bytes.

Writes the sample export several times over, runs `python -m stages.NAME` for each stage (process start included), and
the plain-Python reference on the same files. Needs data/base_model (`dvc repro base_model`) for its tokenizer.

Run: python -m benchmarks.bench_stages [--copies 12] [--grow 10] [--workers 1 2 4]
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from jaegpt.sample import write_sample

STAGES = (
    "extract",
    "filter_language",
    "merge_turns",
    "sessionize",
    "build_dataset",
    "encode",
    "block_size",
)
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """One process: seconds of the clock, seconds of all cores together, and megabytes at its peak."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def run(arguments: list[str], folder: Path, workers: int) -> Run:
    """`python -m ...` in `folder`."""
    environment = os.environ | {"JAEGPT_WORKERS": str(workers), "PYTHONPATH": str(ROOT)}
    environment |= {"TOKENIZERS_PARALLELISM": "false"} if workers == 1 else {}
    began = time.perf_counter()
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    return Run(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def prepare(folder: Path, copies: int) -> float:
    """An export of that many copies of the sample, the parameters and the tokenizer; megabytes of its message files."""
    # In a process of its own: a child's peak counts from what its parent held when it started.
    writer = get_context("spawn").Process(target=write_sample, args=(folder / "data/sample_export", copies))
    writer.start()
    writer.join()
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "data/base_model").mkdir()
    for path in (ROOT / "data/base_model").iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder / "data/base_model")
    return sum(path.stat().st_size for path in folder.rglob("message_*.json")) / 1e6


def run_stages(folder: Path, workers: int) -> dict[str, Run]:
    """All stages, one after the other."""
    return {name: run([f"stages.{name}"], folder, workers) for name in STAGES}


def fingerprint(folder: Path) -> str:
    """One hash over everything the stages wrote."""
    digest = hashlib.sha256()
    written = [path for top in ("data", "metrics", "plots") for path in sorted((folder / top).rglob("*"))]
    for path in written:
        if path.is_file() and "sample_export" not in path.parts and "base_model" not in path.parts:
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def compare_speed(copies: int, workers: list[int]) -> dict[str, Run]:
    """Print each stage's share, the ratio to the seed's way, and the fingerprint for each number of workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        megabytes = prepare(folder, copies)
        stages = run_stages(folder, 1)
        total = sum(stage.cpu_s for stage in stages.values())
        print(f"{megabytes:,.0f} MB, one core:")
        for stage, figures in stages.items():
            print(f"  {stage:<16}{figures.cpu_s:>7.2f} s {figures.cpu_s / total:>6.1%} {figures.peak_mb:>8,.0f} MB")
        print(f"  {'together':<16}{total:>7.2f} s {megabytes / total:.1f} MB/s")
        owner = "Maëlle Tarvén"
        tokenizer = ["data/base_model"]
        for label, extra in (("row by row", tokenizer), ("each text once", [*tokenizer, "--once"]), ("no tokens", [])):
            reference = run(["benchmarks.seed_reference", "data/sample_export", owner, *extra], folder, 1)
            if extra:
                print(f"  seed, {label}: {reference.cpu_s:.2f} s, ratio {reference.cpu_s / total:.2f}")
            else:
                data = total - stages["encode"].cpu_s - stages["block_size"].cpu_s
                print(f"  seed, {label}: {reference.cpu_s:.2f} s, ratio to build_dataset {reference.cpu_s / data:.2f}")
        print(f"  fingerprint, 1 worker : {fingerprint(folder)}")
        for number in workers:
            if number > 1:
                wall = sum(stage.wall_s for stage in run_stages(folder, number).values())
                print(f"  fingerprint, {number} workers: {fingerprint(folder)} ({wall:.1f} s by the clock)")
    return stages


def compare_memory(small: dict[str, Run], copies: int) -> None:
    """Print each stage's peak on more data against its peak on less."""
    with tempfile.TemporaryDirectory() as name:
        megabytes = prepare(Path(name), copies)
        large = run_stages(Path(name), 1)
    print(f"{megabytes:,.0f} MB, one core:")
    for stage, figures in large.items():
        ratio = figures.peak_mb / small[stage].peak_mb
        print(f"  {stage:<16}{figures.cpu_s:>7.2f} s {figures.peak_mb:>8,.0f} MB, {ratio:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=12, help="of the sample; 12 are 150 MB")
    parser.add_argument("--grow", type=int, default=10, help="times the data for the memory ratio; 0 leaves it out")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    arguments = parser.parse_args()
    stages = compare_speed(arguments.copies, arguments.workers)
    if arguments.grow:
        compare_memory(stages, arguments.copies * arguments.grow)


if __name__ == "__main__":
    main()
