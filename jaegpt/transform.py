"""A table into the next table, part by part: read, one pure function, write. What every data stage has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa

from jaegpt.files import writing_folder
from jaegpt.parallel import map_parts
from jaegpt.tables import part_paths, read_part, write_part

Counts = TypeVar("Counts")


@dataclass(frozen=True, kw_only=True)
class _PartWork(Generic[Counts]):
    """What a worker does with one part; picklable when `function` is."""

    function: Callable[[pa.Table], tuple[pa.Table, Counts]]
    read_as: str
    write_as: str
    folder: Path

    def __call__(self, path: Path) -> Counts:
        table, counts = self.function(read_part(path, self.read_as))
        write_part(table, self.folder / path.name, self.write_as)
        return counts


def transform_table(
    function: Callable[[pa.Table], tuple[pa.Table, Counts]],
    source: tuple[str | Path, str],
    target: tuple[str | Path, str],
    label: str,
    finish: Callable[[list[Counts]], None] = lambda counts: None,
) -> list[Counts]:
    """Write `target` (folder, schema) with one part for each part of `source`; the parts' counts, in order.

    `function` takes a part and returns the new part and what was counted; it must be picklable. `finish` sees the
    counts of all parts before the new table takes its place, so that an error it raises leaves the old one untouched.
    """
    paths = part_paths(source[0])
    with writing_folder(target[0]) as folder:
        work = _PartWork(function=function, read_as=source[1], write_as=target[1], folder=folder)
        counts = map_parts(work, paths, label)
        finish(counts)
    return counts
