"""The readers of chat formats one by one, each on a made-up file: MB/s and messages/s of one core, and peak memory.

The files come from `write_large` in tests/helpers/reader_fixtures_*.py. Part of `python -m benchmarks.bench_data`.
Alone: python -m benchmarks.bench_readers [--megabytes 100] [NAME ...]   (NAME as in reader_fixtures_NAME)
"""

import argparse
import importlib
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.processes import ROOT, elsewhere
from jaegpt.exports.archives import BadFileError, Entry, list_entries
from jaegpt.exports.reader import ReadOptions
from jaegpt.exports.registry import reader_named
from jaegpt.exports.sniffing import sniff
from jaegpt.exports.source_pass import NOT_THIS_FORMAT, source_file

HELPERS = ROOT / "tests"
MEGABYTES = 100
HEADER = f"{'reader':<46}{'MB':>7}{'messages':>12}{'CPU s':>9}{'MB/s':>8}{'messages/s':>12}{'peak MB':>9}"


@dataclass(frozen=True)
class ReaderRow:
    """What reading one file took: seconds of one core; `peak_mb` is of the process, 90 of which are libraries."""

    reader: str
    megabytes: float
    messages: int
    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        speed, rate = self.megabytes / self.seconds, self.messages / self.seconds
        return (
            f"{self.reader[:45]:<46}{self.megabytes:>7,.0f}{self.messages:>12,}{self.seconds:>9.2f}{speed:>8,.1f}"
            f"{rate:>12,.0f}{self.peak_mb:>9,.0f}"
        )


def fixture_names() -> list[str]:
    """The formats for which large files can be made up."""
    paths = sorted((HELPERS / "helpers").glob("reader_fixtures_*.py"))
    return [path.stem.removeprefix("reader_fixtures_") for path in paths if "def write_large(" in path.read_text()]


def measure(name: str, megabytes: float) -> list[ReaderRow]:
    """A row for each reader that takes part of the file or the folder that `write_large` of one fixture makes."""
    with tempfile.TemporaryDirectory() as folder:
        elsewhere(_write, name, Path(folder) / name, round(megabytes * 1e6))
        return elsewhere(_read, folder)


def _write(name: str, path: Path, num_bytes: int) -> None:
    sys.path.insert(0, str(HELPERS))
    importlib.import_module(f"helpers.reader_fixtures_{name}").write_large(path, num_bytes)


def _read(folder: str) -> list[ReaderRow]:
    megabytes: dict[str, float] = defaultdict(float)
    messages: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for entry in list_entries(folder, lambda name: True).entries:
        sniffed = sniff(entry).sniffed
        if not sniffed:
            continue
        began = time.process_time()
        name, count = _read_one(entry, sniffed.readers)
        megabytes[name] += entry.size / 1e6
        messages[name] += count
        seconds[name] += time.process_time() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert messages, "no reader took the file"
    return [ReaderRow(name, megabytes[name], messages[name], seconds[name], peak_mb) for name in messages]


def _read_one(entry: Entry, readers: Sequence[str]) -> tuple[str, int]:
    """The first reader that knows a file, and how many messages it finds."""
    options = ReadOptions(timezone=ZoneInfo("UTC"))
    for name in readers:
        try:
            threads = reader_named(name).read(source_file(entry), options, lambda line: None)
            return name, sum(thread.num_read for thread in threads)
        except BadFileError as problem:
            if problem.reason != NOT_THIS_FORMAT:
                raise
    raise AssertionError(f"{entry.path}: none of {readers} reads it")


def measure_all(megabytes: float, names: Sequence[str] = ()) -> list[ReaderRow]:
    """Print the table line by line as it grows; its rows."""
    print(HEADER)
    rows: list[ReaderRow] = []
    for name in names or fixture_names():
        for row in measure(name, megabytes):
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=MEGABYTES, help="of each made-up file")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(fixture_names())}; all by default")
    arguments = parser.parse_args()
    measure_all(arguments.megabytes, arguments.names)


if __name__ == "__main__":
    main()
