"""Emoji reactions as messages of those who gave them, where `export.reactions` asks for it."""

import unicodedata

from jaegpt.exports.reader import SourceThread

REASON = "reaction"  # why one is left out: no emoji, no giver, taken back, or its message is left out
_LONGEST = 16  # code points: a family of four with skin tones has 11
# Pictures by code point, as Python's tables do not know the youngest: U+1FAE8 is unassigned to Python 3.11.
_PICTURES = range(0x1F000, 0x1FB00)
_SIGNS = "\u203c\u2049\u20e3\u3030\u303d\u2139"  # emoji that are no symbols to Unicode, and what makes a key of a digit


def is_emoji(text: object) -> bool:
    """Whether a text is one emoji, as a reaction is: signs, what joins and colours them, and no letters."""
    if type(text) is not str or not 0 < len(text) <= _LONGEST:
        return False
    kinds = ["So" if ord(one) in _PICTURES or one in _SIGNS else unicodedata.category(one) for one in text]
    joins = all(kind[0] not in "LZC" or kind == "Cf" for kind in kinds)
    signs = [letter for kind, letter in zip(kinds, text, strict=True) if kind in ("So", "Sm")]
    return joins and any(not letter.isascii() for letter in signs)


def add_reaction(thread: SourceThread, sender: str | None, sent_at_ms: int, emoji: object) -> None:
    """Add a reaction as a message, or count it as left out."""
    if sender and isinstance(emoji, str) and is_emoji(emoji):
        thread.add(sender, sent_at_ms, emoji)
    else:
        thread.dropped[REASON] += 1
