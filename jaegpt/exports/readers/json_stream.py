"""A JSON file of any size read from front to back, in memory that is bounded by the largest value asked for.

The file is cut at its brackets, which numpy finds a window at a time, and the pieces go to orjson:

    with open_json(file) as json:
        for key in json.members():            # of the object at the root
            if key == "messages":
                for batch in json.batches():  # lists of parsed elements, some MB of them at a time
                    ...
            elif key == "name":
                name = json.value()           # whatever is not asked for is skipped
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import orjson

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.text import BYTE_ORDER_MARK, replace_lone_surrogates

WINDOW_BYTES = 2**18  # of the sizes tried, from 128 kB to 4 MB, the small ones were fastest: they stay in the cache
# orjson's objects take some ten times the bytes of a value that is parsed whole; the largest message has some 100 kB.
MAX_VALUE_BYTES = 32 * 2**20

_WHITE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\r\n,:"\[\]{}]+')
_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"n": "null", b"t": "true", b"f": "false"}
_KINDS |= {bytes([sign]): "a number" for sign in b"-0123456789"}
_MARKS = bytes(sign in b'"[]{}' for sign in range(256))
_STEPS = np.array([{"[": 1, "{": 1, "]": -1, "}": -1}.get(chr(sign), 0) for sign in range(256)], np.int32)

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
Depths = np.ndarray[tuple[int], np.dtype[np.int32]]
Mend = Callable[[bytes], bytes]


@contextmanager
def open_json(file: SourceFile, mend: Mend = replace_lone_surrogates) -> Iterator["JsonStream"]:
    """A JSON file at its start. What follows the root value is checked when the `with` ends.

    Args:
        file: the file.
        mend: what makes JSON of pieces that orjson refuses; it is called for those alone.

    Raises:
        BadFileError: it is no JSON, is cut off, or has a value of more than MAX_VALUE_BYTES.
    """
    with file.open() as stream:
        json = JsonStream(stream, file.name, mend)
        yield json
        json.finish()


def brackets(window: bytes) -> tuple[Positions, Depths]:
    """Where the brackets of `window` are that stand in no string, and how deep it is behind each.

    `window` has to begin outside of strings: `{"a": ["}"]}` -> ([0, 6, 10, 11], [1, 2, 1, 0]).
    """
    # Without escapes, every quotation mark begins or ends a string. `\\` goes first: in `"\\"` the last mark is one.
    plain = window.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in window else window
    positions = np.flatnonzero(np.frombuffer(plain.translate(_MARKS), np.bool_))
    signs = np.frombuffer(plain, np.uint8)[positions]
    is_quote = signs == ord('"')
    is_outside = (np.cumsum(is_quote, dtype=np.int32) & 1) == 0
    is_outside &= ~is_quote
    return positions[is_outside], np.cumsum(_STEPS[signs[is_outside]], dtype=np.int32)


class JsonStream:
    """A cursor in a JSON file, which always stands at the beginning or the end of a value."""

    def __init__(self, stream: BinaryIO, path: str, mend: Mend) -> None:
        self._stream, self.path, self._mend = stream, path, mend
        self._window, self._at, self._offset = b"", 0, 0  # the window's bytes, the cursor in it, where it begins
        self._ends_here = False
        self._index: tuple[Positions, Depths] | None = None
        while len(self._window) < len(BYTE_ORDER_MARK) and self._more():
            pass
        if self._window.startswith(BYTE_ORDER_MARK):
            self._at = len(BYTE_ORDER_MARK)

    @property
    def position(self) -> int:
        """The byte of the file at which the cursor stands; `seek` brings it back there."""
        return self._offset + self._at

    def seek(self, position: int) -> None:
        """Go to the beginning of a value that was passed before."""
        self._stream.seek(position)
        self._window, self._at, self._offset, self._ends_here = b"", 0, position, False
        self._more()

    def kind(self) -> bytes:
        """The first byte of the value ahead: b"{", b"[", b'"' or that of a number or a word."""
        while True:
            self._at = _WHITE.match(self._window, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._window):
                return self._window[self._at : self._at + 1]
            if not self._more():
                raise self._truncated()

    def value(self) -> Any:
        """The value ahead, whole."""
        start = self.position
        raw = self._raw_value()
        return self._parsed(raw, start)

    def skip(self) -> None:
        """Pass the value ahead, whatever its size."""
        if self.kind() not in (b"{", b"["):
            self._raw_value()
            return
        depth = 0
        while True:
            positions, depths = self._brackets_ahead()
            ends = np.flatnonzero(depths <= -depth)
            if ends.size:
                self._at = int(positions[ends[0]]) + 1
                return
            if positions.size:
                depth, self._at = depth + int(depths[-1]), int(positions[-1]) + 1
            if not self._more():
                raise self._truncated()

    def members(self) -> Iterator[str]:
        """The keys of the object ahead, the cursor at each one's value; a value that is not taken is skipped."""
        self._enter(b"{")
        for _ in self._entries(b"}"):
            start = self.position
            if self.kind() != b'"':
                raise self._error("a key in quotation marks was expected", start)
            key = self._parsed(self._raw_value(), start)
            if self.kind() != b":":
                raise self._error("a colon was expected behind a key", self.position)
            self._at += 1
            self.kind()
            start = self.position
            yield key
            if self.position == start:
                self.skip()

    def elements(self) -> Iterator[None]:
        """The cursor at each element of the list ahead in turn; an element that is not taken is skipped."""
        self._enter(b"[")
        for _ in self._entries(b"]"):
            self.kind()
            start = self.position
            yield
            if self.position == start:
                self.skip()

    def batches(self) -> Iterator[list[Any]]:
        """The elements of the list ahead, parsed, as many at a time as lie in a window."""
        self._enter(b"[")
        is_first = True
        while self.kind() != b"]":
            if not is_first:
                self._pass_comma(b"]")
            while not (end := self._end_of_batch()):
                if not self._more():
                    raise self._truncated()
            raw, start, self._at = self._window[self._at : end], self.position, end
            is_first = False
            yield self._parsed(b"[" + raw + b"]", start - 1)
        self._at += 1

    def finish(self) -> None:
        """Check that nothing follows the root value."""
        while True:
            self._at = _WHITE.match(self._window, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._window):
                raise self._error("something follows the end of the JSON value", self.position)
            if not self._more():
                return

    def _end_of_batch(self) -> int:
        """Behind the last element of the list at the cursor that lies whole in the window; 0 where none does."""
        positions, depths = self._brackets_ahead()
        closing = np.flatnonzero(depths < 0)
        if closing.size:
            return int(positions[closing[0]])
        # Brackets that close an element bring the depth back to that of the list.
        ends = np.flatnonzero(depths == 0)
        return int(positions[ends[-1]]) + 1 if ends.size else 0

    def _entries(self, closing: bytes) -> Iterator[None]:
        """The places where an entry of the object or list begins in which the cursor is."""
        is_first = True
        while self.kind() != closing:
            if not is_first:
                self._pass_comma(closing)
            is_first = False
            yield
        self._at += 1

    def _enter(self, opening: bytes) -> None:
        if self.kind() != opening:
            found = _KINDS.get(self.kind())
            if not found:
                raise self._error("a value was expected", self.position)
            detail = f"found {found} where {_KINDS[opening]} was expected"
            raise BadFileError(self.path, "wrong_structure", detail, self.position)
        self._at += 1

    def _pass_comma(self, closing: bytes) -> None:
        if self.kind() != b",":
            raise self._error(f"a comma or {closing.decode()} was expected", self.position)
        self._at += 1
        if self.kind() == closing:
            raise self._error("a value was expected behind a comma", self.position)

    def _raw_value(self) -> bytes:
        kind = self.kind()
        if kind in (b"{", b"["):
            while not (end := self._end_of_brackets()):
                if not self._more():
                    raise self._truncated()
        else:
            pattern = _STRING if kind == b'"' else _SCALAR
            # A number at the window's end may go on behind it.
            while not (match := pattern.match(self._window, self._at)) or match.end() == len(self._window):
                if not self._more():
                    if match:
                        break
                    raise self._truncated() if kind == b'"' else self._error("a value was expected", self.position)
            end = match.end()
        raw, self._at = self._window[self._at : end], end
        return raw

    def _end_of_brackets(self) -> int:
        """Behind the bracket that closes the one at the cursor; 0 where it is not in the window."""
        positions, depths = self._brackets_ahead()
        start, step = 0, 64  # most values are small: the search reaches further each time
        while start < depths.size:
            ends = np.flatnonzero(depths[start : start + step] <= 0)
            if ends.size:
                return int(positions[start + ends[0]]) + 1
            start, step = start + step, step * 8
        return 0

    def _brackets_ahead(self) -> tuple[Positions, Depths]:
        """The brackets from the cursor on, and how deep it is behind each compared with the cursor."""
        if self._index is None:
            self._index = brackets(self._window)
        positions, depths = self._index
        first = int(np.searchsorted(positions, self._at))
        return positions[first:], depths[first:] - depths[first - 1] if first else depths

    def _more(self) -> bool:
        """Read on, and forget what lies behind the cursor; False at the end of the file."""
        rest = self._window[self._at :]
        if len(rest) > MAX_VALUE_BYTES:
            detail = f"a value of more than {MAX_VALUE_BYTES:,} bytes, which no export has"
            raise BadFileError(self.path, "too_large", detail, self.position)
        if self._ends_here:
            return False
        # A value that does not fit gets twice the room each time, since its brackets are looked for again.
        block = self._stream.read(max(WINDOW_BYTES, len(rest)))
        self._offset += self._at
        self._window, self._at, self._index, self._ends_here = rest + block, 0, None, not block
        return bool(block)

    def _parsed(self, raw: bytes, start: int) -> Any:
        """The value of `raw`, which stands at byte `start`."""
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            problem = error
        mended = self._mend(raw)
        if mended != raw:
            try:
                return orjson.loads(mended)
            except orjson.JSONDecodeError as error:
                problem = error  # its place is that in the mended piece, a few bytes off
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as bad_byte:
            detail = f"not UTF-8 (byte 0x{raw[bad_byte.start]:02x})"
            raise BadFileError(self.path, "not_utf8", detail, start + bad_byte.start) from None
        place = start + len(problem.doc[: problem.pos].encode("utf-8", "replace"))
        raise BadFileError(self.path, "not_json", f"not JSON ({problem.msg})", place)

    def _error(self, detail: str, place: int) -> BadFileError:
        return BadFileError(self.path, "not_json", f"not JSON: {detail}", place)

    def _truncated(self) -> BadFileError:
        end = self._offset + len(self._window)
        return BadFileError(self.path, "truncated", "cut off: the file ends in the middle of a value", end)
