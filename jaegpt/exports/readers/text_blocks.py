"""A text file of any size in blocks of whole messages, whatever their line ends and however long a message is."""

import codecs
import re
from collections.abc import Generator, Iterator
from contextlib import closing

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile

PIECE = 100_000  # messages; what a longer chat has comes in pieces of about that many
READ_BYTES = 2**18  # read at a time; what is made of it stays in the processor's cache
MIN_BLOCK = 2**17  # letters; a small file is one block
MAX_MESSAGE = 64 * 2**20  # characters; a longer stretch without the start of a message is no chat


def blocks(file: SourceFile, start: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """(text, number of its first line) of each block; every line of `text` has a line break before it, and none behind.

    Args:
        file: UTF-8, or UTF-16 with its byte order mark.
        start: matches at the line break before the first line of a message. Blocks are cut there only.

    Raises:
        BadFileError: bytes that are no text, or no start of a message where one must be.
    """
    kept, line = "\n", 1
    with closing(_decoded(file)) as texts:
        searched = 0
        for text in texts:
            cut = _last_start(kept, start, searched) if len(kept) > MIN_BLOCK else 0
            if cut:
                yield kept[:cut], line
                line += kept.count("\n", 0, cut)
                kept = kept[cut:]
            searched = max(len(kept) - 1, 0)
            kept += text
            if len(kept) > MAX_MESSAGE and not cut:
                raise BadFileError(
                    file.name, "too_large", f"line {line:,}: a message of more than {MAX_MESSAGE:,} letters"
                )
    yield kept.removesuffix("\n"), line


def _last_start(text: str, start: re.Pattern[str], searched: int) -> int:
    """Where the last message of `text` starts, or 0. Of the first `searched` letters only the last line is looked at.

    That line was perhaps half read when it was looked at before.
    """
    lowest = max(text.rfind("\n", 0, searched), 1)
    at = text.rfind("\n", lowest)
    while at > 0:
        if start.match(text, at):
            return at
        at = text.rfind("\n", lowest, at)
    return 0


def decoder_of(head: bytes) -> str:
    """The encoding by the byte order mark."""
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _decoded(file: SourceFile) -> Generator[str, None, None]:
    """The file's text, piece by piece, with line feeds as line ends."""
    offset, held = 0, ""
    decoder = None
    with file.open() as stream:
        while True:
            raw = stream.read(READ_BYTES)
            if decoder is None:
                encoding = decoder_of(raw)
                decoder = codecs.getincrementaldecoder(encoding)()
            waiting = len(decoder.getstate()[0])
            try:
                text = held + decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                place = offset - waiting + error.start
                name = "UTF-16" if encoding == "utf-16" else "UTF-8"
                raise BadFileError(file.name, "not_utf8", f"not {name} text ({error.reason})", place) from None
            offset += len(raw)
            held = "\r" if raw and text.endswith("\r") else ""  # its line feed may come with the next piece
            if "\r" in text:
                text = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n")
            if text:
                yield text
            if not raw:
                return
