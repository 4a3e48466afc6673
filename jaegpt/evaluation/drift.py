"""A longer conversation: the model talks to itself. Does it repeat itself, and can it still be taken for the owner?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jaegpt.dialogue.encoding import Turn
from jaegpt.dialogue.sessions import places, session_begins
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.intervals import MIN_CONTEXTS, need
from jaegpt.evaluation.judges import NUM_FOLDS, deal_folds, text_scores
from jaegpt.evaluation.surface import words
from jaegpt.tables import column

if TYPE_CHECKING:
    from jaegpt.generation.settings import GenerateConfig
    from jaegpt.generation.speaker import Speaker

ROUNDS = 8
TALKS = 50  # contexts that the model talks to itself from
RECENT = 5  # last turns of one's own that a reply may repeat


def self_talk(speaker: "Speaker", contexts: Sequence[Context], config: "GenerateConfig", seed: int) -> list[list[Turn]]:
    """[contexts] each one's history, then ROUNDS turns of the model's, who speaks for both sides in turn.

    The first of these answers the context as the owner. For each next one the sides change: what the model has just
    said becomes the other's turn, and is answered.
    """
    talks = [list(context.history) for context in contexts]
    for number in range(ROUNDS):
        replies = speaker.replies(talks, config, seed + number)
        # (owner, a), (other, b) and the owner's reply c -> (other, a), (owner, b), (other, c)
        talks = [
            [(not is_owner, text) for is_owner, text in (*talk, (True, reply.text))]
            for talk, reply in zip(talks, replies, strict=True)
        ]
    return talks


def drift(
    talks: Sequence[Sequence[Turn]],
    talked: Sequence[Context],
    contexts: Sequence[Context],
    tuned: Sequence[str],
    repeats: tuple[int, int],
    seed: int,
) -> dict[str, Any]:
    """Repetition and told_apart_text by round.

    repetition: share of the replies that repeat one of the speaker's own last RECENT turns. told_apart_text: how often
    a judge of texts finds the owner's reply to the context beside the reply of that round. It learns from the other
    contexts: the owner's replies, the model's to them, and what the model said to itself.

    Args:
        talks: of `talked`, by `self_talk`. contexts, tuned: all contexts of fidelity and the model's replies to them.
        repeats: the sums of `owner_repetition` over all sessions.

    Raises:
        NotMeasured: there are too few talks.
    """
    need(MIN_CONTEXTS, talks=len(talks))
    names = [one.example_id for one in contexts]
    fold = dict(zip(names, deal_folds(names, seed).tolist(), strict=True))
    said = np.array([[text for _, text in talk[-ROUNDS:]] for talk in talks], dtype=object)  # [talks, rounds]
    of_talk = np.array([fold[one.example_id] for one in talked])
    right = np.zeros(said.shape)
    for held_out in range(NUM_FOLDS):
        mine = np.flatnonzero(of_talk == held_out)
        if not len(mine):
            continue
        rest = [place for place, one in enumerate(contexts) if fold[one.example_id] != held_out]
        generated = [*(tuned[place] for place in rest), *said[of_talk != held_out].ravel().tolist()]
        shown = [*(talked[row].reply for row in mine.tolist()), *said[mine].ravel().tolist()]
        scores = text_scores([contexts[place].reply for place in rest], generated, shown)
        real, theirs = scores[: len(mine), None], scores[len(mine) :].reshape(len(mine), ROUNDS)
        right[mine] = (real > theirs) + 0.5 * (real == theirs)
    repeated = np.array([[_repeats(talk, place) for place in range(-ROUNDS, 0)] for talk in talks], dtype=float)
    return {
        "contexts": len(talks),
        "repetition": [None if np.isnan(one).all() else float(np.nanmean(one)) for one in repeated.T],
        "told_apart_text": right.mean(axis=0).tolist(),
        "repetition_tuned": None if np.isnan(repeated).all() else float(np.nanmean(repeated)),
        "repetition_owner": repeats[0] / repeats[1] if repeats[1] else None,
        "owner_turns": repeats[1],
    }


def _repeats(talk: Sequence[Turn], place: int) -> float:
    """Whether the turn at `place` repeats one of its speaker's last RECENT; NaN where it is the speaker's first."""
    speaker, text = talk[place]
    before = [said for is_owner, said in talk[:place] if is_owner == speaker][-RECENT:]
    return float(_plain(text) in map(_plain, before)) if before else np.nan


def owner_repetition(sessions: pa.Table) -> tuple[int, int]:
    """Owner turns of a part of `sessions` that repeat one of the owner's last RECENT of their session, and of how many.

    The first owner turn of a session, which cannot repeat any, does not count.
    """
    place = places(session_begins(sessions))
    repeated = count = 0
    before: list[str] = []
    for number, is_owner, text in zip(
        place.tolist(), column(sessions, "is_owner").to_pylist(), column(sessions, "text").to_pylist(), strict=True
    ):
        if number == 0:
            before = []
        if is_owner:
            repeated += _plain(text) in before[-RECENT:]
            count += bool(before)
            before.append(_plain(text))
    return repeated, count


def _plain(text: str) -> str:
    """A text by its words alone: "Yeah!" is "yeah" again; one without a word stays as it is."""
    return " ".join(words(text)) or text
