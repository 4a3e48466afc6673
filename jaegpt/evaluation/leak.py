"""What generated replies repeat of the training texts, word for word, against what people repeat of themselves."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.shape import words
from jaegpt.exports.redaction import redact

MIN_REPLY = 6  # words of a training reply that count as repeated when they stand whole in a reply
MIN_SPAN = 8  # words in a row, of either side's training texts, that count as repeated

_PLACEHOLDER = re.compile(r"<(?:email|url|account|card|phone|number)>")


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
    """E-mail addresses, links, account, card, telephone and other long numbers: what `export.redact` would replace."""
    before = pa.array(texts, pa.string())
    after, num_changed = redact(before)
    if not num_changed:
        return []
    changed = pc.not_equal(before, after)
    pairs = zip(before.filter(changed).to_pylist(), after.filter(changed).to_pylist(), strict=True)
    return [found for text, redacted in pairs for found in _replaced(text, redacted)]


def _replaced(text: str, redacted: str) -> list[str]:
    """What stood where placeholders are now: "a@b.org or so", "<email> or so" -> a@b.org."""
    kept = map(re.escape, _PLACEHOLDER.split(redacted))
    match = re.fullmatch("(.+?)".join(kept), text, re.DOTALL)
    assert match, "redaction changes nothing but what it replaces"
    return [found for found in match.groups() if not _PLACEHOLDER.fullmatch(found)]


def _spans(said: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(said[start : start + length]) for start in range(len(said) - length + 1))
