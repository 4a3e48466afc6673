"""Work over parts on all cores: the results, and so the bytes, are the same for any number of workers."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

from jaegpt.errors import JaegptError

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_workers() -> int:
    """Processes to use: JAEGPT_WORKERS, or as many as this process may run on."""
    text = os.environ.get("JAEGPT_WORKERS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise JaegptError(f"JAEGPT_WORKERS must be a whole number of at least 1, found {text!r}.")
    return int(text)


def map_parts(
    function: Callable[[Item], Result], items: Sequence[Item], label: str, num_bytes: Sequence[int] | None = None
) -> list[Result]:
    """`[function(item) for item in items]`, over processes when there is more than one item and worker.

    Args:
        function: picklable (a module's function, or functools.partial of one).
        num_bytes: the size of each item, for a bar in megabytes; without it the bar counts parts.
    """
    workers = min(num_workers(), len(items))
    if workers <= 1:
        return _collect(map(function, items), len(items), label, num_bytes)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return _collect(pool.map(function, items), len(items), label, num_bytes)


def _collect(results: Iterable[Result], total: int, label: str, num_bytes: Sequence[int] | None) -> list[Result]:
    """The results, under a bar that shows itself on a terminal only, and only when the work takes over two seconds."""
    if num_bytes is None:
        return list(tqdm(results, desc=label, total=total, unit="part", delay=2, disable=None))
    collected = []
    with tqdm(desc=label, total=sum(num_bytes), unit="B", unit_scale=True, delay=2, disable=None) as bar:
        for result, size in zip(results, num_bytes, strict=True):
            collected.append(result)
            bar.update(size)
    return collected
