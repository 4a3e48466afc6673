"""The tables between stages: folders of Parquet parts, their schemas, and the only readers and writers of Parquet.

All rows of a thread stand in one part, in time order, so that every data stage is a pure function over one part.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jaegpt.errors import JaegptError

MAX_PART_MESSAGES = 65_536  # a part holds more only where a single thread does

_TIME = pa.timestamp("ms", tz="UTC")
_MESSAGE = [
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
}


def part_name(index: int) -> str:
    """`part_name(7)` -> `part-00007.parquet`."""
    return f"part-{index:05d}.parquet"


def part_paths(folder: str | Path) -> list[Path]:
    """The parts of a table in order.

    Raises:
        JaegptError: the folder is missing or holds no part.
    """
    paths = sorted(Path(folder).glob("part-*.parquet"))
    if not paths:
        raise JaegptError(f"{folder}: no table here (no part-*.parquet). Run `dvc repro`.")
    return paths


def read_part(path: str | Path, name: str) -> pa.Table:
    """One part as an Arrow table of the schema `name`.

    Raises:
        JaegptError: the part is unreadable, or its columns or types are not those of the schema.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise JaegptError(
            f"{path}: not readable as Parquet ({error}). Remove the folder and run `dvc repro`."
        ) from None
    _check_schema(table.schema, name, path)
    return table


def write_part(table: pa.Table, path: str | Path, name: str) -> None:
    """Write one part; the same rows always give the same bytes."""
    _check_schema(table.schema, name, path)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", store_schema=False)


def read_table(folder: str | Path, name: str) -> pa.Table:
    """A whole table; for stages that need all rows at once (training, evaluation)."""
    return pa.concat_tables(list(iterate_parts(folder, name)))


def iterate_parts(folder: str | Path, name: str) -> Iterator[pa.Table]:
    """The parts of a table, one at a time, in order."""
    for path in part_paths(folder):
        yield read_part(path, name)


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
