"""The writers whose replies are compared with each other.

owner: what the owner really replied; tuned and base: the two models; random: one of the owner's training replies,
drawn; retrieval: the owner's reply to the training context most like this one; others: what other people replied.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer

from jaegpt.dialogue.draws import mix, thread_key
from jaegpt.dialogue.sessions import places, session_begins
from jaegpt.evaluation.contexts import Context
from jaegpt.tables import column


@dataclass(frozen=True)
class OtherReply:
    """A turn of someone else, said after another turn of its session, as the reply of an example is."""

    thread_id: str
    session_index: int
    text: str


def other_replies(sessions: pa.Table) -> list[OtherReply]:
    """What other people replied, in the order of the table `sessions`."""
    place = places(session_begins(sessions))
    is_owner = column(sessions, "is_owner").to_numpy(zero_copy_only=False)
    rows = sessions.take(np.flatnonzero(~is_owner & (place > 0)))
    names = ("thread_id", "session_index", "text")
    return [OtherReply(*row) for row in zip(*(rows[name].to_pylist() for name in names), strict=True)]


def split_others(others: Sequence[OtherReply], valid: Sequence[Context]) -> tuple[list[str], list[str]]:
    """Texts of the sessions without a validation example, and of those with one: to learn from, and to measure on."""
    held_out = {(context.thread_id, context.session_index) for context in valid}
    sides: tuple[list[str], list[str]] = ([], [])
    for other in others:
        sides[(other.thread_id, other.session_index) in held_out].append(other.text)
    return sides


def random_replies(contexts: Sequence[Context], replies: Sequence[str], seed: int) -> list[str]:
    """One of `replies` for each context, drawn from the context's own id."""
    keys = np.array([thread_key(seed, "random reply", context.example_id) for context in contexts], dtype=np.uint64)
    return [replies[index] for index in (mix(keys, 0) % np.uint64(len(replies))).tolist()]


def retrieved_replies(contexts: Sequence[Context], train: Sequence[Context], seed: int) -> list[str]:
    """The reply to the training context with the highest cosine similarity of TF-IDF word vectors.

    A context that shares no word with any gets a random reply; of equally similar contexts the first is taken.
    """
    if not contexts:
        return []
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)
    known = vectorizer.fit_transform(map(_words, train))
    similarity = (vectorizer.transform(map(_words, contexts)) @ known.T).tocsr()
    drawn = random_replies(contexts, [context.reply for context in train], seed)
    # One row at a time: all contexts against all training contexts would be a large dense matrix.
    replies = []
    for row, fallback in enumerate(drawn):
        scores = similarity[[row]].toarray()[0]
        replies.append(train[int(scores.argmax())].reply if scores.any() else fallback)
    return replies


def _words(context: Context) -> str:
    return "\n".join(text for _, text in context.history)
