"""Reactions that arrive as texts, because the other side's messenger could not show them: Loved “see you at nine”."""

import re

from jaegpt.exports.reactions import is_emoji

# What Apple's own six show, in the order of their numbers in chat.db.
SIGNS = {"Loved": "❤️", "Liked": "👍", "Disliked": "👎", "Laughed at": "😂", "Emphasized": "‼️", "Questioned": "❓"}
# Apple's words in English; other languages have other words, and the quotation of the message is what they share.
_VERBS = r"Loved|Liked|Disliked|Laughed at|Emphasi[sz]ed|Questioned|Reacted \S{1,8} to"
_REMOVED = r"Removed (?:an? (?:heart|like|dislike|laugh|exclamation|question mark)|\S{1,8}) from"
_THINGS = r"an? (?:image|photo|video|movie|audio message|attachment|sticker|link|location|contact)"
# Google's: an emoji with marks that show nothing around it, then the message.
_GOOGLES = r"[\u200a-\u200f\s]*[^\w\s]{1,8}[\u200a-\u200f\s]* to [\u200a-\u200f\s]*"
_MARKS = " \t\n\u00a0\u200a\u200b\u200c\u200d\u200e\u200f\u202f"
_NO_WORDS = "”\ufffc\ufffd"  # the end of the quotation, and what stands for a picture or an app in it
_TAPBACK = re.compile(rf"(?:(?:{_VERBS}|{_REMOVED}) (?:“.*”|{_THINGS})|{_GOOGLES}“.*”[\u200a-\u200f\s]*)", re.DOTALL)


def is_tapback(text: str) -> bool:
    """Whether a whole text is such a line; a text that quotes something among other words is not."""
    return _TAPBACK.fullmatch(text) is not None


def tapback_emoji(line: str) -> str | None:
    """The emoji that such a line gives; None where it takes one back, or is to something without words.

    Loved “see you at nine”   -> ❤️
    Reacted 🎉 to “at nine”   -> 🎉
    Liked an image            -> None, as messages without words are left out, and so are reactions to them
    """
    given, _, quoted = line.partition("“")
    given = given.strip(_MARKS).replace("Emphasised", "Emphasized")
    if not quoted.strip(_MARKS + _NO_WORDS):
        return None
    emoji = SIGNS.get(given, given.removeprefix("Reacted ").removesuffix(" to").strip(_MARKS))
    return emoji if is_emoji(emoji) else None
