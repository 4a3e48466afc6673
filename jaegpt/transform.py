"""A table into the next table, part by part: read, one pure function, write. What every data stage has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa

from jaegpt.files import writing_folder
from jaegpt.parallel import map_parts
from jaegpt.tables import part_paths, read_part, write_part

Report = TypeVar("Report")


@dataclass(frozen=True, kw_only=True)
class _PartWork(Generic[Report]):
    """What a worker does with one part; picklable when `function` is."""

    function: Callable[[pa.Table], tuple[pa.Table, Report]]
    read_as: str
    write_as: str
    folder: Path

    def __call__(self, path: Path) -> Report:
        table, report = self.function(read_part(path, self.read_as))
        write_part(table, self.folder / path.name, self.write_as)
        return report


def transform_table(
    function: Callable[[pa.Table], tuple[pa.Table, Report]],
    source: tuple[str | Path, str],
    target: tuple[str | Path, str],
    label: str,
    finish: Callable[[list[Report]], None] = lambda reports: None,
) -> list[Report]:
    """Write `target` (folder, schema) with one part for each part of `source`; the parts' reports, in order.

    `function` takes a part and returns the new part and a report (counts, say); it must be picklable. `finish` sees the
    reports before the new table takes its place, so that an error it raises leaves the old one untouched.
    """
    paths = part_paths(source[0])
    with writing_folder(target[0]) as folder:
        work = _PartWork(function=function, read_as=source[1], write_as=target[1], folder=folder)
        reports = map_parts(work, paths, label)
        finish(reports)
    return reports
