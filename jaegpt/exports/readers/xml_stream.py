"""XML as Android programs write it, from front to back: invalid references mended, entities and DTDs refused."""

import re
import struct
from collections.abc import Callable, Iterator
from xml.parsers import expat

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile

READ_BYTES = 2**20
MAX_TAG_BYTES = 256 * 2**20  # a tag holds a whole picture or video as text

# Halves of surrogate pairs, written as a reference each, which XML forbids. A neighbour in 55000 to 57999 that is none
# is a character of its own, and stays one when the run is taken as UTF-16.
_HALF = rb"(?:5[5-7]\d{3}|x[dD][89a-fA-F][\da-fA-F]{2});"
# References to what no XML may hold: control codes but for tab and line breaks, and U+FFFE and U+FFFF.
_FORBIDDEN = rb"(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|x0*(?:[0-8bcefBCEF]|1[\da-fA-F])|6553[45]|x[fF]{3}[efEF]);"
_TO_MEND = re.compile(rb"&#(?:%s|(%s(?:&#%s)*))" % (_FORBIDDEN, _HALF, _HALF))
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r")
# The references that a block ends in, the last perhaps in the middle: they wait for the next block.
_TAIL = re.compile(rb"(?:&#[\dxa-fA-F]{1,8};)*(?:&[#\dxa-fA-F]{0,9})?\Z")
_LONGEST_TAIL = 2**14  # bytes

Attributes = dict[str, str]


def mended(block: bytes) -> bytes:
    """`block` with pairs of surrogate references as one character: `&#55357;&#56832;` -> the bytes of U+1F600.

    Every other reference is left alone: a `&#10;` that is written out is a space by XML's rules.
    """
    block = block.translate(None, _CONTROLS)
    return _TO_MEND.sub(_as_text, block) if b"&#" in block else block


def _as_text(match: re.Match[bytes]) -> bytes:
    if not match[1]:
        return b""
    # b"&#55357;&#56832;" -> [55357, 56832]
    codes = [int(code[1:], 16) if code.startswith(b"x") else int(code) for code in match[1][:-1].split(b";&#")]
    return struct.pack(f"<{len(codes)}H", *codes).decode("utf-16-le", "replace").encode()


class Elements:
    """What is to be done with the elements inside the outermost one; `line` is where the parser is."""

    line: Callable[[], int]

    def start(self, name: str, attributes: Attributes) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""


def parse(file: SourceFile, root: str, elements: Elements) -> Iterator[None]:
    """Parse a file in UTF-8 whose outermost element is called `root`, and yield after each block of it.

    Raises:
        BadFileError: it is no XML of that root, is cut off, or declares entities.
    """
    parser = expat.ParserCreate("UTF-8")  # whatever it declares: all these programs write UTF-8

    def started(name: str, attributes: Attributes) -> None:
        if name != root:
            raise BadFileError(file.name, "not_this_format", f"the outermost element is <{name[:40]}>, not <{root}>")
        parser.StartElementHandler = elements.start

    def refused(*_: object) -> None:
        raise BadFileError(file.name, "entities", "it declares a document type or entities, which no export does")

    elements.line = lambda: parser.CurrentLineNumber
    parser.StartElementHandler, parser.EndElementHandler = started, elements.end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refused
    fed, waiting, rest = 0, 0, b""
    with file.open() as stream:
        try:
            # A tag that is not complete is looked at again with each block, so that these grow with it.
            while block := stream.read(max(READ_BYTES, waiting)):
                block = rest + block
                tail = _TAIL.search(block, max(len(block) - _LONGEST_TAIL, 0))
                cut = tail.start() if tail else len(block)
                rest, block = block[cut:], mended(block[:cut])
                parser.Parse(block)
                fed += len(block)
                waiting = fed - parser.CurrentByteIndex
                if waiting > MAX_TAG_BYTES:
                    detail = f"line {parser.CurrentLineNumber:,}: a tag of more than {MAX_TAG_BYTES:,} bytes"
                    raise BadFileError(file.name, "too_large", detail)
                yield
            parser.Parse(mended(rest), True)
        except expat.ExpatError as error:
            raise BadFileError(file.name, *_what_is_wrong(error)) from None


def _what_is_wrong(error: expat.ExpatError) -> tuple[str, str]:
    reason = expat.ErrorString(error.code) or "not well-formed"
    if reason in ("no element found", "unclosed token", "partial character"):
        return "truncated", f"line {error.lineno:,}: cut off ({reason}); copy the file again"
    return "not_xml", f"line {error.lineno:,}: not XML ({reason})"
