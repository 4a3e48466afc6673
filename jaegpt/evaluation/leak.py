"""What generated replies repeat of the training texts, word for word, against what people repeat of themselves."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.shape import words
from jaegpt.exports.redaction import find_spans, plain_digits

MIN_REPLY = 6  # words of a training reply that count as repeated when they stand whole in a reply
MIN_SPAN = 8  # words in a row, of either side's training texts, that count as repeated

MIN_DIGITS = 8  # of two numbers that stand side by side without a mark between them, each

_SCHEME = re.compile(r"(?:https?://)?(?:www\.)?")
_AROUND_A_LINK = "/.,;:!?…'\"”’»()[]{}<>*_~"


class Training:
    """The training texts, as far as repeating them is noticed. Words are compared in lower case, without punctuation.

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
        self._identifiers = set(identifiers(texts))

    def repeats_reply(self, text: str) -> bool:
        """Whether a training reply of at least MIN_REPLY words stands in `text`, whole."""
        said = words(text)
        return any(span in self._replies for length in self._reply_lengths for span in _spans(said, length))

    def shares_span(self, text: str) -> bool:
        """Whether MIN_SPAN words in a row of `text` stand so in a training text."""
        return any(hash(span) in self._spans for span in _spans(words(text), MIN_SPAN))

    def leaks(self, text: str) -> bool:
        """Whether it does either."""
        return self.repeats_reply(text) or self.shares_span(text)

    def known_identifiers(self, texts: Sequence[str]) -> int:
        """How many different addresses, numbers and links in `texts` stand in a training text."""
        return len(self._identifiers & set(identifiers(texts)))


def identifiers(texts: Sequence[str]) -> list[str]:
    """E-mail addresses, links, account, card, telephone and other long numbers: what `export.redact` would replace.

    Each is in a form that its spelling does not change: addresses and links in small letters, links also without
    `https://www.` and the marks behind them, numbers without spaces, marks and leading zeros. A telephone number with
    and one without country code stay different.
    """
    found = find_spans(pa.array(texts, pa.string()))
    return [form for text, spans in found for start, end, kind in spans for form in _forms(text[start:end], kind)]


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


def _packed(text: str) -> str:
    return "".join(filter(str.isalnum, plain_digits(text).casefold()))


def _spans(said: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(said[start : start + length]) for start in range(len(said) - length + 1))
