"""hits@1: does the model rank the owner's real reply first, among own replies and among other people's?

Own distractors (those of the example, from the same thread) test whether it knows what fits the context; other people's
test whether it knows who is speaking.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.dialogue.draws import thread_key
from jaegpt.dialogue.encode_table import encode_candidate
from jaegpt.dialogue.encoding import Encoder
from jaegpt.evaluation.baselines import OtherReply
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.intervals import exact_interval, need
from jaegpt.evaluation.scoring import CandidateScores
from jaegpt.training.packing import Example


@dataclass(frozen=True)
class Lineup:
    """One context with what its real reply is ranked among.

    The candidates are the own distractors, then other people's replies (none where there are too few or one does not
    fit a block), then the real reply.

    is_own: [candidates but the last] whether a distractor is the owner's.
    """

    example: Example
    is_own: tuple[bool, ...]


def lineups(
    contexts: Sequence[Context],
    tokens: Mapping[str, Example],
    others: Sequence[OtherReply],
    encoder: Encoder,
    block_size: int,
    seed: int,
) -> list[Lineup]:
    """A lineup for each context whose example fits a block.

    Other people's replies come from other sessions of the same thread, so that the subject gives as little away as it
    does among own distractors; from all threads where that has too few. As many are drawn as there are own distractors.

    Args:
        tokens: example_id -> the example, distractors first and the reply last.
    """
    by_thread: dict[str, list[OtherReply]] = defaultdict(list)
    for other in others:
        by_thread[other.thread_id].append(other)
    result = []
    for context in contexts:
        example = tokens.get(context.example_id)
        if example is None:
            continue
        *own, reply = example.candidates
        texts = _drawn(context, by_thread[context.thread_id], others, len(own), seed)
        foreign = [np.array(encode_candidate(encoder, text), np.int64) for text in texts]
        whole = replace(example, candidates=[*own, *foreign, reply])
        if not whole.fits(block_size):
            whole, foreign = example, []
        result.append(Lineup(whole, (True,) * len(own) + (False,) * len(foreign)))
    return result


def hits(shown: Sequence[Lineup], scores: Sequence[CandidateScores], own: bool) -> dict[str, Any]:
    """hits@1 against the own (or the other people's) distractors, with exact 95 % intervals.

    head: by the classification head. likelihood: by the language model's mean log-likelihood per token. The real reply
    has to be strictly above every distractor.

    Raises:
        NotMeasured: no lineup has such distractors.
    """
    asked = [(lineup, score) for lineup, score in zip(shown, scores, strict=True) if own in lineup.is_own]
    need(1, contexts_with_distractors=len(asked))
    figures: dict[str, Any] = {}
    for name in ("head", "likelihood"):
        right = sum(_is_first(getattr(score, name), np.array(lineup.is_own) == own) for lineup, score in asked)
        figures[name] = right / len(asked)
        figures[f"{name}_ci"] = exact_interval(right, len(asked))
    figures["contexts"] = len(asked)
    figures["chance"] = sum(1 / (1 + lineup.is_own.count(own)) for lineup, _ in asked) / len(asked)
    return figures


def _is_first(values: Floats, chosen: np.ndarray) -> bool:
    return bool((values[:-1][chosen] < values[-1]).all())


def _drawn(
    context: Context, of_thread: Sequence[OtherReply], everywhere: Sequence[OtherReply], count: int, seed: int
) -> list[str]:
    """`count` different replies of others, none of them the real reply, drawn from the context's own id."""
    rng = np.random.default_rng(thread_key(seed, "others", context.example_id))
    for pool in (of_thread, everywhere):
        own_session = (context.thread_id, context.session_index)
        texts = {other.text for other in pool if (other.thread_id, other.session_index) != own_session}
        texts.discard(context.reply)
        if len(texts) >= count:
            return [sorted(texts)[index] for index in rng.choice(len(texts), count, replace=False).tolist()]
    return []
