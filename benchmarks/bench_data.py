"""The data stages on the sample export, several times over: speed against plain Python and orjson, memory, bytes.

Each stage runs as it is run by hand (`python -m stages.NAME`, process start included): with one worker, with more, and
with one worker on more data; then each reader of another messenger's format (benchmarks/bench_readers.py). Prints two
tables and, last, one JSON line of the same figures. About 6 minutes on two cores, and 3 GB of disk. Needs
data/base_model (`dvc repro base_model`) for its tokenizer.

Run: python -m benchmarks.bench_data [--copies 18] [--grow 10] [--workers 2 4] [--no-plain]
The run on 1 GB alone: python -m benchmarks.bench_data --copies 120 --grow 0 --workers 2 --no-plain
"""

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.bench_readers import MEGABYTES, ReaderRow, measure_all
from benchmarks.processes import ROOT, Usage, elsewhere, run_module
from jaegpt.parallel import num_workers
from jaegpt.sample import OWNER_NAME, write_sample

STAGES = ("extract", "filter_language", "merge_turns", "sessionize", "build_dataset", "encode", "block_size")
TOGETHER = "all stages"
COPIES = 18  # of the sample's 8.5 MB: more than 150 MB
PLAIN: dict[str, list[str]] = {"each text once": [], "row by row": ["--row-by-row"]}  # as the seed tokenized, and not
HEADER = (
    f"{'run':<22}{'workers':>8}{'MB':>8}{'seconds':>9}{'CPU s':>8}{'share':>7}"
    f"{'MB/s/core':>11}{'peak MB':>9}{'growth':>8}"
)


@dataclass(frozen=True)
class Row:
    """One line of the table. `share` is of the CPU seconds of all stages, `growth` of memory against less data."""

    run: str
    workers: int
    megabytes: float
    seconds: float
    cpu_seconds: float
    mb_per_s_per_core: float
    share: float | None = None
    peak_mb: float | None = None
    growth: float | None = None

    def __str__(self) -> str:
        share = "" if self.share is None else f"{self.share:.1%}"
        peak = "" if self.peak_mb is None else f"{self.peak_mb:,.0f}"
        growth = "" if self.growth is None else f"{self.growth:.2f}"
        return (
            f"{self.run:<22}{self.workers:>8}{self.megabytes:>8,.0f}{self.seconds:>9.2f}{self.cpu_seconds:>8.2f}"
            f"{share:>7}{self.mb_per_s_per_core:>11,.1f}{peak:>9}{growth:>8}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=COPIES, help="of the sample, which is 8.5 MB")
    parser.add_argument("--grow", type=int, default=10, help="times the data for the memory ratio; 0 leaves it out")
    parser.add_argument("--workers", type=int, nargs="*", default=sorted({2, 4, num_workers()} - {1}))
    parser.add_argument("--no-plain", action="store_true", help="leave out plain Python")
    parser.add_argument("--format-mb", type=float, default=MEGABYTES, help="of each other format; 0 leaves them out")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"times_plain_python": {}, "fingerprints": {}}
    rows: list[Row] = []

    def show(more: list[Row]) -> None:
        rows.extend(more)
        print("\n".join(map(str, more)), flush=True)

    print(HEADER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        megabytes = prepare(folder, arguments.copies)
        parsing = elsewhere(parse_only, folder)
        show([Row("orjson alone", 1, megabytes, parsing, parsing, megabytes / parsing)])
        alone = run_stages(folder, 1)
        show(stage_rows(alone, 1, megabytes))
        figures["fingerprints"]["1"] = fingerprint(folder)
        if arguments.grow:
            show(grown_rows(alone, arguments.copies * arguments.grow))
        for label in () if arguments.no_plain else PLAIN:
            plain = run_plain(folder, PLAIN[label])
            show([_row(f"plain, {label}", 1, megabytes, plain)])
            figures["times_plain_python"][label] = round(plain.cpu_seconds / rows[len(STAGES) + 1].cpu_seconds, 2)
        for workers in arguments.workers:
            show(stage_rows(run_stages(folder, workers), workers, megabytes))
            figures["fingerprints"][str(workers)] = fingerprint(folder)
    figures["same_bytes"] = len(set(figures["fingerprints"].values())) == 1
    for label, ratio in figures["times_plain_python"].items():
        print(f"{ratio:.2f} times the speed per core of the seed's steps in plain Python ({label})")
    same = "the same" if figures["same_bytes"] else "DIFFERENT"
    print(f"{same} bytes whatever the workers: {figures['fingerprints']}")
    if arguments.format_mb:
        figures["readers"] = [_rounded(row) for row in measure_all(arguments.format_mb)]
    print(json.dumps({**figures, "runs": [_rounded(row) for row in rows]}))


def prepare(folder: Path, copies: int) -> float:
    """An export of that many copies of the sample, the parameters and the tokenizer; megabytes of its message files."""
    elsewhere(write_sample, folder / "data/sample_export")
    for path in sorted(folder.rglob("message_*.json")):
        title, number = path.parent.name.rsplit("_", 1)
        for copy in range(1, copies):  # under another thread number: a thread is known by its folder alone
            other = path.parent.with_name(f"{title}_{int(number) + copy}")
            other.mkdir(exist_ok=True)
            shutil.copyfile(path, other / path.name)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "data/base_model").mkdir()
    for path in (ROOT / "data/base_model").iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder / "data/base_model")
    return sum(path.stat().st_size for path in folder.rglob("message_*.json")) / 1e6


def parse_only(folder: Path) -> float:
    """Seconds of what every reader of JSON has to do at least; reading the files is not counted: a strict bound."""
    seconds = 0.0
    for path in sorted(folder.rglob("message_*.json")):
        raw = path.read_bytes()
        began = time.perf_counter()
        orjson.loads(raw)
        seconds += time.perf_counter() - began
    return seconds


def run_stages(folder: Path, workers: int) -> dict[str, Usage]:
    """All stages, one after the other."""
    return {name: run_module([f"stages.{name}"], folder, workers) for name in STAGES}


def run_plain(folder: Path, extra: list[str]) -> Usage:
    """The seed's steps in plain Python on the same files, tokens included."""
    command = ["benchmarks.seed_reference", "data/sample_export", OWNER_NAME, "data/base_model", *extra]
    return run_module(command, folder, 1)


def fingerprint(folder: Path) -> str:
    """One hash over everything the stages wrote."""
    digest = hashlib.sha256()
    written = [path for top in ("data", "metrics", "plots") for path in sorted((folder / top).rglob("*"))]
    for path in written:
        if path.is_file() and not {"sample_export", "base_model"} & set(path.parts):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def stage_rows(
    usages: dict[str, Usage], workers: int, megabytes: float, before: dict[str, Usage] | None = None
) -> list[Row]:
    """A row a stage and one for all; `before` are the same runs on less data."""
    whole = Usage(
        seconds=sum(usage.seconds for usage in usages.values()),
        cpu_seconds=sum(usage.cpu_seconds for usage in usages.values()),
        peak_mb=max(usage.peak_mb for usage in usages.values()),
    )
    return [
        _row(
            name,
            workers,
            megabytes,
            usage,
            share=usage.cpu_seconds / whole.cpu_seconds,
            growth=usage.peak_mb / before[name].peak_mb if before and name in before else None,
        )
        for name, usage in [*usages.items(), (TOGETHER, whole)]
    ]


def grown_rows(before: dict[str, Usage], copies: int) -> list[Row]:
    """All stages with one worker on more data, and extraction with all workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        megabytes = prepare(folder, copies)
        rows = stage_rows(run_stages(folder, 1), 1, megabytes, before)
        usage = run_module(["stages.extract"], folder, num_workers())
        return [*rows, _row("extract", num_workers(), megabytes, usage)]


def _row(
    run: str, workers: int, megabytes: float, usage: Usage, share: float | None = None, growth: float | None = None
) -> Row:
    per_core = megabytes / usage.seconds / workers
    return Row(run, workers, megabytes, usage.seconds, usage.cpu_seconds, per_core, share, usage.peak_mb, growth)


def _rounded(row: Row | ReaderRow) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(row).items()}


if __name__ == "__main__":
    main()
