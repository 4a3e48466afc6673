"""What generated replies repeat of the training texts, word for word, against what people repeat of themselves."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.surface import words
from jaegpt.exports.redaction import EMAIL, find_spans, plain_digits

MIN_REPLY = 6  # words of a training reply that count as repeated when they stand whole in a reply
MIN_SPAN = 8  # words in a row, of either side's training texts, that count as repeated

MIN_DIGITS = 8  # that each of two numbers needs, where only a space stands between them, to count as two
MOST_GROUPS = 30  # of digits in one number that are looked at

_SCHEME = re.compile(r"(?:https?://)?(?:www\.)?")
_AROUND_A_LINK = "/.,;:!?…'\"”’»()[]{}<>*_~"


class Training:
    """An index of the training texts that finds what replies repeat of them.

    Words are compared in lower case, without punctuation.

    Args:
        contexts: the training examples; their histories hold both sides.
    """

    def __init__(self, contexts: Sequence[Context]) -> None:
        texts = sorted({text for context in contexts for _, text in context.history} | {c.reply for c in contexts})
        replies = {tuple(words(context.reply)) for context in contexts}
        self._replies = {reply for reply in replies if len(reply) >= MIN_REPLY}
        self._reply_lengths = sorted(set(map(len, self._replies)))
        # Hashes, because the spans of a large archive as words would take gigabytes.
        self._spans = {hash(span) for text in texts for span in _spans(words(text), MIN_SPAN)}
        spotted = _spotted(texts)
        self._identifiers = {form for said, kind in spotted for form in _forms(said, kind)}
        self._known = self._identifiers | {part for said, kind in spotted for part in _parts(said, kind)}

    def repeats_reply(self, text: str) -> bool:
        """Whether a training reply of at least MIN_REPLY words stands in `text`, whole."""
        said = words(text)
        return any(span in self._replies for length in self._reply_lengths for span in _spans(said, length))

    def shares_span(self, text: str) -> bool:
        """Whether MIN_SPAN words in a row of `text` stand so in a training text."""
        return any(hash(span) in self._spans for span in _spans(words(text), MIN_SPAN))

    def leaks(self, text: str) -> bool:
        """Whether `text` does either."""
        return self.repeats_reply(text) or self.shares_span(text)

    def known_identifiers(self, texts: Sequence[str]) -> int:
        """How many different addresses, numbers and links in `texts` stand in a training text, or hold one."""
        known: set[str] = set()
        for text, kind in _spotted(texts):
            forms = _forms(text, kind)
            hits = self._known.intersection(forms)
            # Not the same identifier, but one may stand inside: a known number with another beside it.
            if not hits and not self._identifiers.isdisjoint(_parts(text, kind)):
                hits = set(forms[:1])
            known |= hits
        return len(known)


def identifiers(texts: Sequence[str]) -> list[str]:
    """E-mail addresses, links, account, card, telephone and other long numbers: what `export.redact` would replace.

    Each is in a form that its spelling does not change: addresses and links in small letters, links also without
    `https://www.` and the marks behind them, numbers without spaces, marks and leading zeros. A telephone number with
    and one without country code stay different.
    """
    return [form for text, kind in _spotted(texts) for form in _forms(text, kind)]


def _spotted(texts: Sequence[str]) -> Iterable[tuple[str, str]]:
    """What redaction would replace in the texts, and the kind of each."""
    found = find_spans(pa.array(texts, pa.string()))
    return [(text[start:end], kind) for text, spans in found for start, end, kind in spans]


def _forms(text: str, kind: str) -> list[str]:
    """`"+44 20 7946 0958"` -> `["442079460958"]`; two numbers that redaction takes for one are two."""
    if kind == "email":
        return [text.casefold()]
    if kind == "url":
        link = text.casefold()
        return [link[_SCHEME.match(link).end() :].rstrip(_AROUND_A_LINK)]  # type: ignore[union-attr]
    packed = [_packed(word) for word in text.split()]
    if kind != "number" or any(len(word) < MIN_DIGITS for word in packed):
        packed = ["".join(packed)]
    return [word.lstrip("0") or "0" for word in packed]


def _parts(text: str, kind: str) -> set[str]:
    """What may be an identifier of its own inside another: redaction finds numbers with spaces between them as one.

    These are all rows of neighbouring groups of digits with MIN_DIGITS of them or more ("020 7946 0958 5" holds
    2079460958), and the addresses in a link.
    """
    if kind == "url":
        return {address.casefold() for address in EMAIL.findall(text)}
    if kind != "number":  # where a telephone, card or account number ends is known
        return set()
    digits = re.findall(r"\d+", plain_digits(text))[:MOST_GROUPS]
    rows = ("".join(digits[start:end]) for start in range(len(digits)) for end in range(start + 1, len(digits) + 1))
    return {row.lstrip("0") for row in rows if len(row) >= MIN_DIGITS and row.strip("0")}


def _packed(text: str) -> str:
    return "".join(filter(str.isalnum, plain_digits(text).casefold()))


def _spans(said: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(said[start : start + length]) for start in range(len(said) - length + 1))
