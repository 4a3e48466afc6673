"""What stands between the messages of a turn: a line break, so that a burst stays several messages, or a space."""

import re
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

Separator = Literal["newline", "space"]  # `session.separator`
JOINTS: dict[str, str] = {"newline": "\n", "space": " "}

_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # what Python's splitlines takes for the end of a line
_BREAK = f"[ \t]*[{_BREAKS}][ \t{_BREAKS}]*"
_BLANK_LINES = re.compile(r"\s*\n\s*")


def one_line(texts: pa.Array) -> pa.Array:
    """Messages with spaces for line breaks, so that a line break is where a message ends: "a\\n\\nb" -> "a b"."""
    broken = pc.match_substring_regex(texts, f"[{_BREAKS}]")
    if not pc.any(broken).as_py():
        return texts
    return pc.if_else(broken, pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, _BREAK, " ")), texts)


def messages_of(text: str) -> list[str]:
    """The messages of a turn whose separator is a line break."""
    return text.split("\n")


def without_blank_lines(text: str) -> str:
    """What somebody typed over several lines, as a turn of so many messages is written: "a \\n\\n b" -> "a\\nb"."""
    return _BLANK_LINES.sub("\n", text)
