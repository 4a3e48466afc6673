"""Work over parts on all cores, or on a Dask cluster: the results, and so the bytes, are the same whatever does it.

JAEGPT_WORKERS limits the processes on this machine. With DASK_SCHEDULER_ADDRESS set, the same functions run on the
workers of that cluster instead: they need the same environment, and the project's folder under the same path. A Dask
scheduler runs whatever code those who reach it send: it listens on this machine alone, or asks for TLS certificates.
"""

import ipaddress
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa

from jaegpt.errors import JaegptError

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 30

# Arrow's own pool keeps freed memory for each of its threads, a third more than the parts need; the system's does not.
pa.set_memory_pool(pa.system_memory_pool())

_ENCRYPTED = ("tls", "wss")
_warned: set[str] = set()  # schedulers that a warning has named

# The pool of the open `one_pool` block, if there is a block and if it has needed one.
_pools: list[list[ProcessPoolExecutor]] = []


def num_workers() -> int:
    """Processes to use: JAEGPT_WORKERS, or as many as this process may run on."""
    text = os.environ.get("JAEGPT_WORKERS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise JaegptError(f"JAEGPT_WORKERS must be a whole number of at least 1, found {text!r}.")
    return int(text)


def in_batches(items: Iterable[Item], size_of: Callable[[Item], int], limit: int) -> list[tuple[Item, ...]]:
    """Neighbours together up to a total size of `limit`; a larger item is alone. No number of workers changes that."""
    batches: list[list[Item]] = []
    size = 0
    for item in items:
        if not batches or size + size_of(item) > limit:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += size_of(item)
    return [tuple(batch) for batch in batches]


def map_parts(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> list[Result]:
    """`[function(item) for item in items]`, over processes when there is more than one item and worker.

    `function` must be picklable (a module's function, or functools.partial of one) and give the same result, and write
    the same files, when it is called again: a part whose worker died is done once more. The progress bar counts bytes
    when the items have a `num_bytes`, and parts otherwise.

    Raises:
        JaegptError: JAEGPT_WORKERS is no number of workers, or the cluster cannot be reached, has no workers, loses
            them, or they have not this environment or folder.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS", "")
    if address:
        return _map_on_cluster(function, items, label, address)
    workers = min(num_workers(), len(items))
    if workers <= 1:
        return list(_progress(map(function, items), items, label))
    try:
        with one_pool():
            if not _pools[-1]:
                context = get_context("spawn")
                _pools[-1].append(ProcessPoolExecutor(num_workers(), context, initializer=_end_by_signal))
            return list(_progress(_pools[-1][0].map(partial(_part, function), items), items, label))
    except BrokenProcessPool:
        raise JaegptError(
            f"{label}: a worker process was ended from outside, most likely for want of memory. "
            f"Set JAEGPT_WORKERS below {workers}."
        ) from None


@contextmanager
def one_pool() -> Iterator[None]:
    """Within this block calls of `map_parts` share their processes, which take half a second each to start."""
    if _pools:
        yield  # an outer block owns the processes
        return
    _pools.append([])
    try:
        yield
    except BaseException:  # also by SIGTERM: nobody waits for parts whose results nobody takes
        for pool in _pools[-1]:
            for process in list((pool._processes or {}).values()):
                process.terminate()
        raise
    finally:
        for pool in _pools.pop():
            pool.shutdown(cancel_futures=True)


def _end_by_signal() -> None:
    """In a worker process: SIGTERM ends it through every `with` and `finally`, as in its parent."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _part(function: Callable[[Item], Result], item: Item) -> Result:
    try:
        return function(item)
    except SystemExit:  # the pool would take this for the part's error, and give the process the next part
        os._exit(1)


@dataclass(frozen=True)
class _InFolder(Generic[Item, Result]):
    """`function` with its relative paths meant from `folder`, wherever the cluster's worker was started."""

    function: Callable[[Item], Result]
    folder: str

    def __call__(self, item: Item) -> Result:
        if os.getcwd() != self.folder:
            os.chdir(self.folder)  # not restored: other threads of the worker do parts of the same project
        return self.function(item)


def _map_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], label: str, address: str
) -> list[Result]:
    _warn_of_strangers(address)
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise JaegptError(
            f"DASK_SCHEDULER_ADDRESS is set ({address}), but Dask is not installed. "
            "Install it with `pip install -e '.[cluster]'`, or unset the variable."
        ) from None
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise JaegptError(
            f"DASK_SCHEDULER_ADDRESS: no Dask scheduler answers at {address} ({type(error).__name__}). "
            "Start one (`dask scheduler`), or unset the variable."
        ) from None
    folder = os.getcwd()
    with client:
        _wait_for_a_worker(client, address)
        try:
            # `pure=False`: a part is computed again in each run, even if the cluster still has the last run's result.
            futures = client.map(_InFolder(function, folder), items, pure=False)
            return list(_progress((future.result() for future in futures), items, label))
        except JaegptError:
            raise
        except KilledWorker as error:
            raise JaegptError(
                f"{label}: a part ended one worker of the Dask cluster after the other ({error}). "
                "Give the workers more memory."
            ) from None
        except CancelledError as error:
            raise JaegptError(
                f"{label}: the Dask scheduler at {address} went away ({error}). Start it again, and then this stage."
            ) from None
        except Exception as error:
            # What a worker says can be anything that was raised there; most often it is not set up like this machine.
            raise JaegptError(
                f"{label}: a worker of the Dask cluster failed ({type(error).__name__}: {error}). Workers need the "
                f"environment of this machine and the folder {folder} under the same path, writable; if they have "
                "both, run the stage without DASK_SCHEDULER_ADDRESS to see whether it fails here too."
            ) from error


def _warn_of_strangers(address: str) -> None:
    """Once on standard error, where messages travel to another machine in the clear, and anyone there can join."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")  # as Dask has it
        safe = parts.scheme in (*_ENCRYPTED, "inproc") or _is_this_machine(parts.hostname or "")
    except ValueError:  # no address: connecting to it says so
        return
    if safe or address in _warned:
        return
    _warned.add(address)
    print(
        f"warning: DASK_SCHEDULER_ADDRESS: {address} is another machine, reached without TLS. Messages travel there "
        "unencrypted, and whoever reaches the scheduler can read them and run code on every worker. Give a tls:// "
        "address and certificates (Dask's `distributed.comm.tls`), or a tunnel to localhost.",
        file=sys.stderr,
    )


def _is_this_machine(host: str) -> bool:
    try:
        return host.rstrip(".") == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wait_for_a_worker(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
    except TimeoutError:
        raise JaegptError(
            f"DASK_SCHEDULER_ADDRESS: the Dask scheduler at {address} has no workers. "
            f"Start some (`dask worker {address}`), or unset the variable."
        ) from None


def _progress(results: Iterable[Result], items: Sequence[object], label: str) -> Iterator[Result]:
    """A bar that shows itself on a terminal only, and only when the work takes more than two seconds."""
    if not sys.stderr.isatty():
        yield from results
        return
    from tqdm import tqdm  # here, because a stage starts faster without it

    sizes = [getattr(item, "num_bytes", 1) for item in items]
    in_bytes = any(hasattr(item, "num_bytes") for item in items)
    unit = "B" if in_bytes else "part"
    with tqdm(desc=label, total=sum(sizes), unit=unit, unit_scale=in_bytes, delay=2, disable=None) as bar:
        for result, size in zip(results, sizes, strict=True):
            yield result
            bar.update(size)
