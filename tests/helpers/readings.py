"""A base model that can be followed by hand: what it makes of replies follows from their words and the context's."""

from collections.abc import Sequence

import numpy as np

from helpers.chats import WORDS, Context
from jaegpt.evaluation.reading import Readings
from jaegpt.evaluation.surface import words

IN_CONTEXT, KNOWN, UNKNOWN = -1.0, -4.0, -9.0  # log-likelihood of a word that stands there, of another, of nonsense
PAIRS = [first + second for first in WORDS for second in WORDS]  # rarer words than the owner's commonest
_KNOWN = {*WORDS, *PAIRS, "haha", "well"}


def read(replies: Sequence[str], contexts: Sequence[Context]) -> Readings:
    """Each word is a token, and so is the reply's end. The states count words said before, known ones and nonsense."""
    states, in_context, alone, lowest, counts = [], [], [], [], []
    for reply, context in zip(replies, contexts, strict=True):
        before = {word for _, text in context.history for word in words(text)}
        own = words(reply)
        free = [KNOWN if word in _KNOWN else UNKNOWN for word in own]
        values = [IN_CONTEXT if word in before else value for word, value in zip(own, free, strict=True)]
        states.append([sum(word in before for word in own), free.count(KNOWN), free.count(UNKNOWN)])
        in_context.append(sum(values) - 1)
        alone.append(sum(free) - 1)
        lowest.append(min([*values, -1]))
        counts.append(len(own) + 1)
    return Readings(
        states=np.array(states, dtype=float).reshape(len(replies), 3),
        in_context=np.array(in_context, dtype=float),
        alone=np.array(alone, dtype=float),
        lowest=np.array(lowest, dtype=float),
        num_tokens=np.array(counts, dtype=np.int64),
    )
