"""Drawing one token of each row: temperature, top-k, top-p, min-p, from random numbers of the row's own."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jaegpt.arrays import Floats

SORTED = 2048  # of the likeliest tokens, where any number may be drawn from


def sample(
    logits: Tensor, draws: Tensor, *, top_p: float, top_k: int, temperature: float, min_p: float = 0.0
) -> Tensor:
    """The next token of each row, by inversion of its distribution: temperature, top-k, top-p, min-p, in this order.

    The tokens kept are those that transformers' four warpers keep, but only the k likeliest are sorted here, where
    its top-p sorts the whole vocabulary: that takes as long as a small model's pass. With any number allowed, the first
    SORTED are looked at, and the whole vocabulary for those rows alone whose top_p reaches beyond them.

    Args:
        logits: [rows, vocabulary], float32.
        draws: [rows], uniform in [0, 1).
        top_p: probability that the tokens kept have together, at least.
        top_k: tokens kept at most; 0: any number.
        temperature: 0 takes the likeliest.
        min_p: tokens kept are at least this many times as probable as the likeliest.

    Returns:
        [rows] tokens.
    """
    if temperature == 0:
        return logits.argmax(-1)
    vocabulary = logits.shape[-1]
    count = min(top_k or SORTED, vocabulary)
    values, tokens = logits.topk(count)  # [rows, count], the likeliest first
    if top_k or count == vocabulary:
        shares = (values / temperature).softmax(-1)
    else:  # of all tokens, those that are not sorted included
        shares = (values / temperature - (logits / temperature).logsumexp(-1, keepdim=True)).exp()
    before = shares.cumsum(-1) - shares
    beyond = shares.sum(-1) < top_p
    shares = shares.where((before < top_p) & (shares >= min_p * shares[:, :1]), 0)
    cumulative = shares.cumsum(-1)
    # Shares .5 .3 .2 make steps up to .5 .8 1; a draw of .6 has passed one of them, so it takes the second token.
    chosen = (cumulative < draws[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    found = tokens.gather(-1, chosen)[:, 0]
    if not top_k and count < vocabulary and beyond.any():
        found[beyond] = sample(
            logits[beyond], draws[beyond], top_p=top_p, top_k=vocabulary, temperature=temperature, min_p=min_p
        )
    return found


def without_repeats(logits: Tensor, written: Tensor, size: int) -> None:
    """Take from each row's logits, in place, the tokens that would repeat a run of `size` tokens it has written.

    The bans are those of transformers' NoRepeatNGramLogitsProcessor, found without asking the device for any row.

    Args:
        logits: [rows, vocabulary], float32.
        written: [rows, tokens].
    """
    if written.shape[1] < size:
        return
    runs = written.unfold(1, size, 1)  # [rows, runs, size]; a b a b and size 2 -> ab ba ab
    begun = written[:, written.shape[1] - size + 1 :]  # [rows, size - 1], which the next token would complete
    repeats = (runs[..., :-1] == begun[:, None]).all(-1)  # [rows, runs]
    bounds = torch.where(repeats, -torch.inf, torch.inf).to(logits)
    logits.scatter_reduce_(1, runs[..., -1], bounds, "amin")


def uniform_draws(ids: Sequence[int], seed: int, candidates: range, steps: int) -> Floats:
    """Uniform numbers [candidates, steps] from the seed and the prompt's own tokens `ids`, and from nothing else.

    Args:
        candidates: their numbers; each has random numbers of its own, whichever are drawn beside it.
    """
    digest = hashlib.sha256(np.array(ids, np.int64).tobytes()).digest()
    words = np.frombuffer(digest, np.uint32).tolist()
    return np.stack([np.random.default_rng([seed, number, *words]).random(steps) for number in candidates])
