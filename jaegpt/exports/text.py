"""Text as its writer saw it: Meta's double encoding undone, string by string, and nothing that UTF-8 cannot hold."""

import re

import orjson

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# An escaped backslash, a whole surrogate pair, or a half: only the last must go, and only these three can be mistaken
# for one another. `\\ud83d` is a backslash and letters; `\ud83d\ude00` is an emoji; `\ud83d` alone is nothing.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def repair(text: str) -> str:
    """`"cafÃ©"` -> `"café"`; a string that is not double-encoded comes back unchanged.

    Meta writes each UTF-8 byte as one character. That is undone only when every character is a byte and the bytes are
    valid UTF-8, so that a correct "é" or a curly quote comes to no harm.
    """
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON bytes in which each half of a surrogate pair that lacks the other half is U+FFFD."""
    return _SURROGATES.sub(lambda match: rb"\ufffd" if match[1] else match[0], raw)


def load_json(raw: bytes) -> object:
    """The JSON value in `raw`; a byte order mark is skipped and lone surrogates become U+FFFD.

    Raises:
        orjson.JSONDecodeError: not JSON, or nested more than 1,024 deep; its position counts from behind the mark.
    """
    raw = raw.removeprefix(BYTE_ORDER_MARK)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        mended = replace_lone_surrogates(raw)
        if mended == raw:
            raise
        return orjson.loads(mended)
