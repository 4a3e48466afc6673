"""JSON lines: a value per line, of which only one is in memory at a time."""

from collections.abc import Iterator
from typing import Any

import orjson

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.text import BYTE_ORDER_MARK, load_json

MAX_LINE_BYTES = 32 * 2**20  # the longest message has some 100 kB


def json_lines(file: SourceFile, comment: bytes = b"") -> Iterator[tuple[int, Any]]:
    """(number of the line, its value) for all lines that are not empty; those that begin with `comment` are skipped.

    Raises:
        BadFileError: a line is no JSON (the last one of a file that was cut short), or endless.
    """
    number = 0
    with file.open() as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise BadFileError(file.name, "too_large", f"line {number:,}: more than {MAX_LINE_BYTES:,} bytes")
            try:
                yield number, orjson.loads(line)
                continue
            except orjson.JSONDecodeError as error:
                problem = error.msg
            line = line.removeprefix(BYTE_ORDER_MARK).strip()
            if not line or (comment and line.startswith(comment)):
                continue
            try:
                value = load_json(line)
            except orjson.JSONDecodeError:
                is_cut = "; the file seems to be cut off there" if not stream.read(1) else ""
                raise BadFileError(file.name, "not_json", f"line {number:,}: not JSON ({problem}){is_cut}") from None
            yield number, value
