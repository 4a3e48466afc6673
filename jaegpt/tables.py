"""The tables between stages: folders of Parquet parts, their schemas, and the only readers and writers of Parquet.

All rows of a thread stand in one part, in time order, so that every data stage is a pure function over one part.
A part is checked when it is read: a wrong column, a null, rows out of order or a thread split over parts is refused by
name, because each of them would give wrong examples without an error.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaegpt.arrays import Ints
from jaegpt.errors import JaegptError

MAX_PART_MESSAGES = 65_536  # a part holds more only where a single thread does

_TIME = pa.timestamp("ms", tz="UTC")
_MESSAGE = [
    ("source", pa.string()),
    ("thread_id", pa.string()),
    ("box", pa.string()),
    ("is_group", pa.bool_()),
    ("sender", pa.string()),
    ("is_owner", pa.bool_()),
    ("sent_at", _TIME),
    ("text", pa.string()),
]
_TURN = [
    ("thread_id", pa.string()),
    ("turn_index", pa.int32()),
    ("sender", pa.string()),
    ("is_owner", pa.bool_()),
    ("started_at", _TIME),
    ("ended_at", _TIME),
    ("num_messages", pa.int32()),
    ("threshold_ms", pa.float64()),
    ("gap_ms", pa.int64()),
    ("text", pa.string()),
]
_HISTORY = pa.list_(pa.struct([("is_owner", pa.bool_()), ("text", pa.string())]))

SCHEMAS: dict[str, pa.Schema] = {
    "messages": pa.schema(_MESSAGE),
    "filtered": pa.schema([*_MESSAGE, ("language", pa.string())]),
    "turns": pa.schema(_TURN),
    "sessions": pa.schema([*_TURN, ("session_index", pa.int32())]),
    "examples": pa.schema(
        [
            ("example_id", pa.string()),
            ("thread_id", pa.string()),
            ("session_index", pa.int32()),
            ("split", pa.string()),
            ("replied_at", _TIME),
            ("history", _HISTORY),
            ("reply", pa.string()),
            ("distractors", pa.list_(pa.string())),
        ]
    ),
    "tokens": pa.schema(
        [
            ("example_id", pa.string()),
            ("split", pa.string()),
            ("history_ids", pa.list_(pa.int32())),
            ("history_roles", pa.list_(pa.int8())),
            ("candidate_ids", pa.list_(pa.list_(pa.int32()))),
        ]
    ),
    "segments": pa.schema(
        [
            ("segment_id", pa.string()),
            ("split", pa.string()),
            ("ids", pa.list_(pa.int32())),
            ("labelled", pa.list_(pa.int8())),  # 1: a token of the owner's that is learned
        ]
    ),
    "replies": pa.schema([("example_id", pa.string()), ("reply", pa.string())]),  # what a model said, for fidelity
}

# Null where there is nothing to measure: the first turn of a thread has no gap, a thread of one message no threshold.
_NULLABLE = {"gap_ms", "threshold_ms"}
# The columns that must rise within a thread, and whether two rows may share a value.
_ORDER = {
    "messages": ("sent_at", True),
    "filtered": ("sent_at", True),
    "turns": ("turn_index", False),
    "sessions": ("turn_index", False),
    "examples": ("example_id", False),
}


def part_name(index: int) -> str:
    """`part_name(7)` -> `part-00007.parquet`."""
    return f"part-{index:05d}.parquet"


def part_paths(folder: str | Path) -> list[Path]:
    """The parts of a table in order.

    Raises:
        JaegptError: the folder is missing or holds no part, or a thread stands in two parts.
    """
    paths = sorted(Path(folder).glob("part-*.parquet"))
    if not paths:
        raise JaegptError(f"{folder}: no table here (no part-*.parquet). Run `dvc repro`.")
    _refuse_split_threads(paths)
    return paths


def read_part(path: str | Path, name: str) -> pa.Table:
    """One part as an Arrow table of the schema `name`.

    Raises:
        JaegptError: the part is unreadable, its columns or types are not those of the schema, a value is missing, or
            its rows are not in order (a thread's rows together, in time order).
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    _check_schema(table.schema, name, path)
    table = table.combine_chunks()
    _check_rows(table, name, path)
    return table


def write_part(table: pa.Table, path: str | Path, name: str) -> None:
    """Write one part; the same rows always give the same bytes.

    No reader sees half a part: the folder itself is written under a temporary name (`files.writing_folder`), and a try
    that was killed on a cluster is overwritten by the next.
    """
    _check_schema(table.schema, name, path)
    # One chunk, because Parquet's pages follow the chunks.
    whole = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(whole, path, compression="zstd", store_schema=False)


def read_table(folder: str | Path, name: str) -> pa.Table:
    """A whole table; for stages that need all rows at once (training, evaluation)."""
    return pa.concat_tables(list(iterate_parts(folder, name)))


def iterate_parts(folder: str | Path, name: str) -> Iterator[pa.Table]:
    """The parts of a table, one at a time, in order."""
    for path in part_paths(folder):
        yield read_part(path, name)


def thread_starts(threads: pa.Array) -> Ints:
    """The rows at which a thread begins: thread_id [a, a, b] -> [0, 2]."""
    if len(threads) == 0:
        return np.zeros(0, dtype=np.int64)
    changes = pc.not_equal(threads[1:], threads[:-1]).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.concatenate([[True], changes]))


def column(table: pa.Table, name: str) -> pa.Array:
    """A column as one array."""
    chunks = table.column(name).combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(chunks.chunks)


def _refuse_split_threads(paths: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths if len(paths) > 1 else []:
        try:
            if "thread_id" not in pq.read_schema(path).names:
                return  # a table without threads, or a broken one that read_part refuses
            # As a dictionary, because a part repeats a few threads thousands of times.
            with pq.ParquetFile(path, read_dictionary=["thread_id"]) as file:
                threads = file.read(columns=["thread_id"])["thread_id"].unique().to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None
        for thread in threads:
            if thread in seen:
                raise JaegptError(
                    f"{path}: thread {thread} also stands in {seen[thread].name}; a thread belongs in one part. "
                    "Remove the folder and run `dvc repro`."
                )
            seen[thread] = path


def _check_rows(table: pa.Table, name: str, path: str | Path) -> None:
    for field in table.schema:
        if field.name not in _NULLABLE and table.column(field.name).null_count:
            raise JaegptError(f"{path}: column `{field.name}` of table `{name}` holds nulls. {_REMAKE}")
    if name not in _ORDER or table.num_rows == 0:
        return
    threads = column(table, "thread_id")
    starts = thread_starts(threads)
    if len(starts) != len(threads.unique()):
        raise JaegptError(f"{path}: the rows of a thread do not stand together in table `{name}`. {_REMAKE}")
    key, may_repeat = _ORDER[name]
    values = column(table, key)
    rises = (pc.greater_equal if may_repeat else pc.greater)(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    rises[starts[1:] - 1] = True  # the step from one thread to the next
    if not rises.all():
        row = int(np.flatnonzero(~rises)[0]) + 1
        raise JaegptError(f"{path}: table `{name}` is not sorted by `{key}` within its threads (row {row}). {_REMAKE}")
    if "gap_ms" in table.schema.names and (pc.min(table.column("gap_ms")).as_py() or 0) < 0:
        raise JaegptError(f"{path}: column `gap_ms` of table `{name}` holds a negative gap. {_REMAKE}")


_REMAKE = "Remove the folder and run `dvc repro`."


def _unreadable(path: str | Path, error: Exception) -> JaegptError:
    return JaegptError(f"{path}: not readable as Parquet ({error}). {_REMAKE}")


def _check_schema(found: pa.Schema, name: str, path: str | Path) -> None:
    expected = SCHEMAS[name]
    for field in expected:
        if field.name not in found.names:
            raise JaegptError(f"{path}: table `{name}` needs column `{field.name}`, found {', '.join(found.names)}.")
        if found.field(field.name).type != field.type:
            raise JaegptError(
                f"{path}: column `{field.name}` of table `{name}` must be {field.type}, "
                f"found {found.field(field.name).type}."
            )
    if found.names != expected.names:
        raise JaegptError(f"{path}: columns of table `{name}` must be {expected.names}, found {found.names}.")
