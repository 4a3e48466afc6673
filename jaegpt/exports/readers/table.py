"""Anything else: a table of messages as CSV, JSON lines or Parquet, which a user can make from any chat there is.

Columns: thread, sender, sent_at, text, and perhaps is_owner and source; docs/exports.md describes them.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.message_files import RESERVED_SOURCES
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.collecting import malformed
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS, kind_of
from jaegpt.exports.text import BYTE_ORDER_MARK

NEEDED = ("thread", "sender", "sent_at", "text")
COLUMNS = (*NEEDED, "is_owner", "source")
BLOCK_ROWS = 100_000  # rows that are held at a time; a thread's later rows come as another piece of it
DELIMITERS = ",;\t"
# The largest Unix time in seconds (the year 2100) lies far below the smallest in milliseconds (the year 1990).
_MILLISECONDS_FROM = 10**11
_SOURCE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no", "")
_PARQUET = b"PAR1"
_MINUTES_FROM = 20  # messages at whole minutes before that is no coincidence

Row = Sequence[Any]  # in the order of COLUMNS; None where a value is missing
_NUMBER = re.compile(r"\d{9,14}(?:\.\d+)?")


def sniff(name: str, head: bytes) -> float:
    """Sure where the first line names the columns; a Parquet file's columns stand at its end."""
    if head.startswith(_PARQUET):
        return 0.6
    line = head.lstrip().partition(b"\n")[0]
    if line.startswith(b"{"):
        return 0.9 if all(re.search(rb'"%s"\s*:' % column.encode(), line) for column in NEEDED) else 0.0
    header = _header(line.decode("utf-8", "replace"))
    return 0.9 if header and set(NEEDED) <= set(header[1]) else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The threads of a table, in pieces where their rows lie scattered.

    Raises:
        BadFileError: a line is no CSV or JSON, a needed column is missing, or the file is damaged.
    """
    table = _Table(file.name, options.timezone, say)
    with file.open() as stream:
        start = stream.read(len(BYTE_ORDER_MARK) + 1)
        if start == _PARQUET:
            rows = _parquet_rows(file)
        else:
            stream.seek(len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0)
            rows = _json_rows(file, stream) if _first_sign(start) == b"{" else _csv_rows(file, stream)
        for number, row in rows:
            table.add(number, row)
            if table.num_rows == BLOCK_ROWS:
                yield from table.take()
    yield from table.take()


@dataclass
class _Table:
    """The rows of a block by thread, and what was decided once for the whole file."""

    path: str
    timezone: ZoneInfo
    say: Callable[[str], None]
    unit_ms: int | None = None  # of numbers in sent_at, once one was seen
    num_rows: int = 0
    threads: dict[tuple[str, str], SourceThread] = field(default_factory=dict)

    def add(self, number: int, row: Row) -> None:
        """Take one row; `number` is its line, or its place in a Parquet file."""
        title, sender, source = _name(row[0]), _name(row[1]), _name(row[5])
        source = source.lower() if source else ""
        knows_source = not source or (_SOURCE.fullmatch(source) is not None and source not in RESERVED_SOURCES)
        key = (source if knows_source else "", title or "")
        thread = self.threads.get(key)
        if thread is None:
            thread = self.threads[key] = SourceThread(key[1], title=key[1], source=key[0])
        self.num_rows += 1
        try:
            if not title or not sender:
                raise ValueError(f"`{'sender' if title else 'thread'}` is missing")
            if not knows_source:
                raise ValueError(f"`source` {source[:40]!r} is not one short word of a-z, 0-9, _, . and -")
            time = self._time(row[2], thread.sent_at[-1] if thread.sent_at else None)
            writes_as_owner, text = _truth(row[4]), row[3]
            if text is not None and not isinstance(text, str):
                raise ValueError(f"`text` is {type(text).__name__} instead of a text")
        except ValueError as error:
            malformed(thread, f"line {number:,}", error)
            return
        if writes_as_owner and sender not in thread.owner:
            thread.owner, thread.owner_is_marked = (*thread.owner, sender), True
        if text and text.strip():
            thread.add(sender, time, text)
        else:
            thread.dropped["empty"] += 1
            if sender not in thread.people:
                thread.people = (*thread.people, sender)

    def take(self) -> Iterator[SourceThread]:
        """Hand over what was read, and begin again."""
        for thread in self.threads.values():
            thread.resolution_ms = _resolution_ms(thread.sent_at)
            yield thread
        self.threads, self.num_rows = {}, 0

    def _time(self, value: Any, before_ms: int | None) -> int:
        """ms since 1970; `before_ms`, the thread's last time, decides in the doubled hour of daylight saving."""
        if isinstance(value, str):
            value = _number_or_clock(value)
        if isinstance(value, datetime):
            time = self._of_clock(value, before_ms)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time = self._of_number(value)
        else:
            raise ValueError(f"`sent_at` is {kind_of(value)}")
        if not BEGIN_OF_TIME_MS <= time < END_OF_TIME_MS:
            raise ValueError("`sent_at` lies outside the years 1990 to 2099")
        return time

    def _of_number(self, value: float) -> int:
        if not 0 <= value < 10**15:  # NaN too
            raise ValueError("`sent_at` lies outside the years 1990 to 2099")
        if self.unit_ms is None:
            self.unit_ms = 1 if value >= _MILLISECONDS_FROM else 1000
            self.say(f"its times were read as Unix {'milliseconds' if self.unit_ms == 1 else 'seconds'}, by their size")
        return round(value * self.unit_ms)

    def _of_clock(self, value: datetime, before_ms: int | None) -> int:
        if value.tzinfo is not None:
            return round(value.timestamp() * 1000)
        first, second = (round(value.replace(tzinfo=self.timezone, fold=fold).timestamp() * 1000) for fold in (0, 1))
        return second if before_ms is not None and first < before_ms <= second else first


def _number_or_clock(text: str) -> float | datetime:
    try:
        if text[4:5] == "-":
            return datetime.fromisoformat(text)
        text = text.strip()
        if _NUMBER.fullmatch(text):
            return float(text) if "." in text else int(text)
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`sent_at` {text[:40]!r} is neither a time by ISO 8601 nor a number") from None


def _name(value: Any) -> str | None:
    """A thread's, a person's or a messenger's name: ids may be numbers."""
    if type(value) is str:
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).strip() or None


def _truth(value: Any) -> bool:
    if value is None or value == "":
        return False
    word = str(value).strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"`is_owner` {word[:20]!r} is neither true nor false")


def _resolution_ms(times: Sequence[int]) -> int:
    if len(times) >= _MINUTES_FROM and all(time % 60_000 == 0 for time in times):
        return 60_000
    return 1000 if times and all(time % 1000 == 0 for time in times) else 1


def _first_sign(start: bytes) -> bytes:
    return start.removeprefix(BYTE_ORDER_MARK).lstrip()[:1]


def _header(line: str) -> tuple[str, list[str]] | None:
    """(delimiter, column names) of a header, by the delimiter that gives most columns."""
    found = []
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
        except csv.Error:
            continue
        found.append((delimiter, [name.strip().lower() for name in names]))
    return max(found, key=lambda row: len(row[1]), default=None)


def _places(names: Sequence[str], path: str) -> list[int | None]:
    """Where each of COLUMNS stands among the names of a file's columns."""
    missing = [column for column in NEEDED if column not in names]
    if missing:
        listed = ", ".join(f"`{column}`" for column in missing)
        raise BadFileError(path, "not_this_format", f"no table of messages: column {listed} is missing")
    return [names.index(column) if column in names else None for column in COLUMNS]


def _csv_rows(file: SourceFile, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    csv.field_size_limit(2**26)
    try:
        line = text.readline()
        found = _header(line)
        places = _places(found[1] if found else [], file.name)
        lines = csv.reader(text, delimiter=found[0] if found else ",", strict=True)
        for row in lines:
            if row:
                values = [row[place] if place is not None and place < len(row) else None for place in places]
                yield lines.line_num + 1, values
    except UnicodeDecodeError as error:
        raise BadFileError(file.name, "not_utf8", f"not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
    except csv.Error as error:
        raise BadFileError(file.name, "not_csv", f"line {lines.line_num + 1:,}: no CSV ({error})") from None
    finally:
        text.detach()


def _json_rows(file: SourceFile, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadFileError(file.name, "not_json", f"line {number:,}: not JSON ({error.msg})") from None
        yield number, [row.get(column) if isinstance(row, dict) else None for column in COLUMNS]


def _parquet_rows(file: SourceFile) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        with file.copied() as path, pq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            places = _places([name.lower() for name in names], file.name)
            wanted = [names[place] for place in places if place is not None]
            for batch in parquet.iter_batches(BLOCK_ROWS, columns=wanted):
                columns: list[Iterable[Any]] = [
                    _values(batch.column(parquet.schema_arrow.names[place]))
                    if place is not None
                    else [None] * len(batch)
                    for place in places
                ]
                for row in zip(*columns, strict=True):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFileError(file.name, "not_parquet", f"not readable as Parquet ({reason})") from None


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):  # Python's have no nanoseconds
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


READER = Reader(
    source="other",
    name="table of messages (CSV, JSON lines, Parquet)",
    sniff=sniff,
    read=read,
    how="A table with the columns thread, sender, sent_at, text, and perhaps is_owner and source; see docs/exports.md.",
)
