"""hits@1: does the model rank the owner's real reply first, among own replies and among other people's?

Own distractors (those of the example, of the same thread) ask whether it knows what fits the context. Other people's
ask whether it knows who is speaking.
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
class Trial:
    """One context with its candidates: own distractors, then other people's replies (none where there are too few or
    one does not fit a block), then the real reply.

    is_own: [candidates but the last] whether a distractor is the owner's.
    """

    example: Example
    is_own: tuple[bool, ...]


def trials(
    contexts: Sequence[Context],
    tokens: Mapping[str, Example],
    others: Sequence[OtherReply],
    encoder: Encoder,
    block_size: int,
    seed: int,
) -> list[Trial]:
    """A trial for each context whose example fits a block.

    Other people's replies come from other sessions of the same thread, so that the subject tells as little as it does
    among own distractors; from all threads where that has too few. As many are drawn as there are own distractors.

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
        result.append(Trial(whole, (True,) * len(own) + (False,) * len(foreign)))
    return result


def hits(trials_: Sequence[Trial], scores: Sequence[CandidateScores], own: bool) -> dict[str, Any]:
    """hits@1 against the own (or the other people's) distractors, with exact 95 % intervals.

    head: by the classification head. likelihood: by the language model's mean log-likelihood a token. The reply has to
    be strictly above every distractor.

    Raises:
        NotMeasured: there is no trial.
    """
    tried = [(trial, score) for trial, score in zip(trials_, scores, strict=True) if own in trial.is_own]
    need(1, contexts_with_distractors=len(tried))
    figures: dict[str, Any] = {}
    for name in ("head", "likelihood"):
        right = sum(_is_first(getattr(score, name), np.array(trial.is_own) == own) for trial, score in tried)
        figures[name] = right / len(tried)
        figures[f"{name}_ci"] = exact_interval(right, len(tried))
    figures["contexts"] = len(tried)
    figures["chance"] = sum(1 / (1 + trial.is_own.count(own)) for trial, _ in tried) / len(tried)
    return figures


def _is_first(values: Floats, chosen: np.ndarray) -> bool:
    return bool((values[:-1][chosen] < values[-1]).all())


def _drawn(
    context: Context, of_thread: Sequence[OtherReply], everywhere: Sequence[OtherReply], count: int, seed: int
) -> list[str]:
    """`count` different replies of others, none of them the real reply, drawn by the context's own name."""
    rng = np.random.default_rng(thread_key(seed, "others", context.example_id))
    for pool in (of_thread, everywhere):
        own_session = (context.thread_id, context.session_index)
        texts = {other.text for other in pool if (other.thread_id, other.session_index) != own_session}
        texts.discard(context.reply)
        if len(texts) >= count:
            return [sorted(texts)[index] for index in rng.choice(len(texts), count, replace=False).tolist()]
    return []
