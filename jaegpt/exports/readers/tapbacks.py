"""Reactions that arrive as texts, because the other side's messenger could not show them: Loved “see you at nine”."""

import re

# Apple's words in English; other languages have other words, and the quotation of the message is what they share.
_VERBS = r"Loved|Liked|Disliked|Laughed at|Emphasi[sz]ed|Questioned|Reacted \S{1,8} to"
_REMOVED = r"Removed (?:an? (?:heart|like|dislike|laugh|exclamation|question mark)|\S{1,8}) from"
_THINGS = r"an? (?:image|photo|video|movie|audio message|attachment|sticker|link|location|contact)"
# Google's: an emoji with marks that show nothing around it, then the message.
_GOOGLES = r"[\u200a-\u200f\s]*[^\w\s]{1,8}[\u200a-\u200f\s]* to [\u200a-\u200f\s]*"
_TAPBACK = re.compile(rf"(?:(?:{_VERBS}|{_REMOVED}) (?:“.*”|{_THINGS})|{_GOOGLES}“.*”[\u200a-\u200f\s]*)", re.DOTALL)


def is_tapback(text: str) -> bool:
    """Whether a whole text is such a line; a text that quotes something among other words is not."""
    return _TAPBACK.fullmatch(text) is not None
