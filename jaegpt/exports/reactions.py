"""Emoji reactions as messages of those who gave them, where `export.reactions` asks for it."""

import unicodedata

from jaegpt.exports.reader import SourceThread

REASON = "reaction"  # under which those are counted of which nobody knows who gave them, or that are no emoji
_LONGEST = 16  # code points: a family of four with skin tones has 11
_SIGNS = "\u203c\u2049\u20e3\u3030\u303d"  # emoji that Unicode counts as punctuation, and what makes a key of a digit


def is_emoji(text: object) -> bool:
    """Whether a text is one emoji, as a reaction is: signs, what joins and colours them, and no letters."""
    if type(text) is not str or not 0 < len(text) <= _LONGEST:
        return False
    kinds = [unicodedata.category(letter) for letter in text]
    joins = all(kind[0] not in "LZC" or kind == "Cf" for kind in kinds)
    signs = [letter for kind, letter in zip(kinds, text, strict=True) if kind in ("So", "Sm") or letter in _SIGNS]
    return joins and any(not letter.isascii() for letter in signs)


def add_reaction(thread: SourceThread, sender: str | None, sent_at_ms: int, emoji: object) -> None:
    """Add a reaction as a message, or count it as left out."""
    if sender and isinstance(emoji, str) and is_emoji(emoji):
        thread.add(sender, sent_at_ms, emoji)
    else:
        thread.dropped[REASON] += 1
