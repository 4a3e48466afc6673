"""The surface of a reply: how long, how punctuated, how cased, which emoji, which first word, in how many messages.

Each is a distribution over replies or their marks, and what is reported is its Jensen-Shannon distance to that of the
owner's training replies: 0 is the same, 1 has nothing in common (base 2; Endres and Schindelin 2003).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from scipy.spatial.distance import jensenshannon

from jaegpt.dialogue.separators import messages_of
from jaegpt.evaluation.intervals import need

NUM_OPENINGS = 50  # first words that are distinguished: the owner's most frequent ones; all others count as one
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # words: where a class of lengths ends
MESSAGES = (1, 2, 3, 4, 5, 6, 8)  # messages of a turn: where a class of numbers ends
CHARACTERS = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # of a message: where a class of lengths ends

_EMOTICON = re.compile(r"(?<!\w)(?:[:;=]['^-]?[()DPpOo/|\\*3]+|<3+|[xX]D+|\^_*\^)(?!\w)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NONE = "none"


def surface_distances(replies: Mapping[str, Sequence[str]], owner: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Feature -> writer -> distance to `owner`; None for a writer without texts.

    A few texts always differ from many: the distance of the writer `owner` (replies the model never saw) is how much
    the owner varies at this number of texts.

    Raises:
        NotMeasured: there is no text of the owner to compare with.
    """
    need(1, owner_replies=len(owner))
    features: dict[str, Callable[[Iterable[str]], Counter[str]]] = {
        "length": lambda texts: Counter(map(_length, texts)),
        "punctuation": lambda texts: Counter(mark for text in texts for mark in _punctuation(text) or [_NONE]),
        "casing": lambda texts: Counter(map(_casing, texts)),
        "emoji": lambda texts: Counter(mark for text in texts for mark in _emoji(text) or [_NONE]),
        "opening": _openings(owner),
        # Turns in lines are bursts; where `session.separator` is a space, each counts as one message.
        "messages": lambda texts: Counter(_class(len(messages_of(text)), MESSAGES) for text in texts),
        "characters": lambda texts: Counter(
            _class(len(message), CHARACTERS) for text in texts for message in messages_of(text)
        ),
    }
    return {
        name: {writer: _distance(feature(texts), feature(owner)) for writer, texts in replies.items()}
        for name, feature in features.items()
    }


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation: "Oh, don't!" -> oh, don't."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _distance(one: Counter[str], other: Counter[str]) -> float | None:
    if not one or not other:
        return None
    keys = sorted(one.keys() | other.keys())
    return float(jensenshannon([one[key] for key in keys], [other[key] for key in keys], base=2))


def _length(text: str) -> str:
    """Which class of lengths a text falls in: 5 words -> "6"."""
    return _class(len(text.split()), LENGTHS)


def _class(number: int, ends: Sequence[int]) -> str:
    return next((str(end) for end in ends if number <= end), "more")


def _punctuation(text: str) -> list[str]:
    """Punctuation marks, one to three of a kind in a row as marks of their own: "wait... what?!" -> "...", "?", "!"."""
    plain = _EMOTICON.sub(" ", text)
    return [match[0][:3] for match in re.finditer(r"([^\w\s])\1*", plain) if not _is_symbol(match[0][0])]


def _emoji(text: str) -> list[str]:
    """Emoticons and emoji, each as often as it occurs."""
    return [*_EMOTICON.findall(text), *filter(_is_symbol, text)]


def _is_symbol(letter: str) -> bool:
    return unicodedata.category(letter) == "So"


def _casing(text: str) -> str:
    """How capitals are used: none, all, the first letter only, or otherwise (and whether it begins with one)."""
    letters = [letter for letter in text if letter.lower() != letter.upper()]
    if not letters:
        return _NONE
    if not any(map(str.isupper, letters)):
        return "lower"
    if all(map(str.isupper, letters)):
        return "upper"
    if not letters[0].isupper():
        return "mixed, small first"
    return "mixed" if any(map(str.isupper, letters[1:])) else "first only"


def _openings(owner: Iterable[str]) -> Callable[[Iterable[str]], Counter[str]]:
    """Counts texts by their first word, of which the owner's most frequent are distinguished."""
    counted = Counter(map(_opening, owner))
    frequent = set(sorted(counted, key=lambda word: (-counted[word], word))[:NUM_OPENINGS])
    return lambda texts: Counter(word if word in frequent else "another word" for word in map(_opening, texts))


def _opening(text: str) -> str:
    return next(iter(words(text)), _NONE)
