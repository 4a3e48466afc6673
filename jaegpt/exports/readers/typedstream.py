"""The text in iMessage's `attributedBody`: a typed stream of NeXTSTEP's, or a keyed archive in a binary plist."""

import plistlib
from typing import Any

ATTACHMENT, APP = "\ufffc", "\ufffd"  # what stands in the text for a picture, and for what an app sent
_CLASS = b"NSString"  # also in NSMutableString's stream, which names the class that it derives from
# How many bytes of length follow each of these; any other byte below 0x80 is the length.
_WIDTHS = {0x81: 2, 0x82: 4, 0x83: 8}
_ARCHIVE = b"bplist"
# What plistlib was seen to raise on damaged archives.
_DAMAGE = (plistlib.InvalidFileException, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)


def text_of(body: bytes) -> str:
    """The text, placeholders included.

    Raises:
        ValueError: none can be found in it.
    """
    if body.startswith(_ARCHIVE):
        return _text_of_archive(body)
    start = body.find(_CLASS)
    # `+` marks that the bytes of a string follow: `NSString 01 94 84 01 2B 05 h e l l o`.
    at = body.find(b"+", start + len(_CLASS)) + 1
    if start < 0 or at == 0 or at >= len(body):
        raise ValueError("`attributedBody` holds no text")
    length = body[at]
    at += 1
    if length >= 0x80:
        width = _WIDTHS.get(length)
        if width is None:
            raise ValueError(f"`attributedBody` has a length of an unknown kind (0x{length:02x})")
        length = int.from_bytes(body[at : at + width], "little")
        at += width
    if at + length > len(body):
        raise ValueError("`attributedBody` ends before its text does")
    return body[at : at + length].decode()


def _text_of_archive(body: bytes) -> str:
    try:
        archive: Any = plistlib.loads(body, fmt=plistlib.FMT_BINARY)
        objects = archive["$objects"]
        found = objects[objects[archive["$top"]["root"].data]["NSString"].data]
        found = found["NS.string"] if isinstance(found, dict) else found
    except (*_DAMAGE, RecursionError, MemoryError):
        raise ValueError("`attributedBody` is a damaged archive") from None
    if not isinstance(found, str):
        raise ValueError("`attributedBody` holds no text")
    return found
