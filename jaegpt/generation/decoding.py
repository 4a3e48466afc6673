"""The decoding loop over a cache of keys and values.

It is ours rather than `transformers.generate`, which computes the history again for each candidate, draws from torch's
one generator for the whole batch, keeps rows that have ended, and streams from a thread only. Decoder and cache are
transformers' own.
"""

import jaegpt.environment  # noqa: F401

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from jaegpt.arrays import Floats
from jaegpt.generation.prompts import Prompt
from jaegpt.training.heads import DoubleHeads

# (logits [rows, vocabulary], tokens written so far [rows, step], draws [rows]) -> the next token of each row [rows]
Draw = Callable[[Tensor, Tensor, Tensor], Tensor]


class Drawn(NamedTuple):
    """A token of a row, and by how much the context has made it likelier, in nats; 0 where that is not computed."""

    row: int
    token: int
    gain: float


@dataclass(frozen=True, kw_only=True)
class ReadPrompts:
    """Prompts as the model has read them, from which any number of decodings may start.

    cache: keys and values; no decoding changes its tensors. logits: [prompts, vocabulary] after each one's last token.
    mask, positions: [prompts, longest]. has_free: whether the last of them is an empty history.
    """

    cache: DynamicCache
    logits: Tensor
    mask: Tensor
    positions: Tensor
    has_free: bool

    def __len__(self) -> int:
        return len(self.logits) - self.has_free

    def branch(self) -> DynamicCache:
        """A cache of its own for one decoding: a cache replaces its tensors when it grows, and writes into none."""
        branch = copy.copy(self.cache)
        branch.layers = [copy.copy(layer) for layer in self.cache.layers]
        return branch


def read_prompts(model: DoubleHeads, prompts: Sequence[Prompt], free: Prompt | None = None) -> ReadPrompts:
    """Compute the prompts, and an empty history where one is given; call it without gradients."""
    cache = DynamicCache(config=model.lm.config)
    ids, mask, positions, types = _padded([*prompts, free] if free else prompts, model.score.weight.device)
    logits = _forward(model, cache, ids, mask, positions, types)
    return ReadPrompts(cache=cache, logits=logits, mask=mask, positions=positions, has_free=free is not None)


def decode(
    model: DoubleHeads,
    read: ReadPrompts,
    draws: Floats,
    draw: Draw,
    stop: int,
    guidance: float | None = None,
) -> Iterator[Drawn]:
    """Write after each prompt, k candidates side by side; call it without gradients.

    Each prompt was computed once, and its candidates go on from copies of its keys and values.

    Args:
        draws: [prompts * k, steps], uniform in [0, 1): row i is a candidate of prompt i // k.
        stop: the token that ends a row; it is the row's last.
        guidance: each row then has a twin that writes the same after the empty history that was read, and tokens are
            drawn from twin + guidance * (row - twin) of their logits (Sanchez et al., arXiv 2306.17806).
    """
    twins = guidance is not None
    assert read.has_free or not twins, "an empty history has to be read for twins"
    device = model.score.weight.device
    k = len(draws) // len(read)
    uniform = torch.from_numpy(draws).float().to(device)  # on the host: Apple GPUs know no float64
    # The history is in the cache; its k candidates go on from copies, and so do their twins from the empty history,
    # which comes last: prompts A, B, free F and k = 2 -> rows A A B B F F F F.
    rows = torch.arange(len(draws), device=device)  # those still writing
    source = _with_twins(rows // k, torch.full_like(rows, len(read)), twins)
    cache = read.branch()
    cache.batch_select_indices(source)
    logits, mask, positions = read.logits[source], read.mask[source], read.positions[source, -1:]
    written = torch.empty((len(rows), 0), dtype=torch.long, device=device)
    for step in range(uniform.shape[1]):
        if guidance is not None:
            inside, outside = logits.float().chunk(2)
            tokens = draw(outside + guidance * (inside - outside), written, uniform[rows, step])
            gains = _log_likelihood(inside, tokens) - _log_likelihood(outside, tokens)
        else:
            tokens = draw(logits, written, uniform[rows, step])
            gains = torch.zeros(len(rows))
        yield from map(Drawn, rows.tolist(), tokens.tolist(), gains.tolist())
        written = torch.cat([written, tokens[:, None]], 1)
        live = (tokens != stop).nonzero()[:, 0]
        if not len(live) or step + 1 == uniform.shape[1]:
            return
        if len(live) < len(rows):  # rows that have ended leave the batch, cache included, and cost nothing more
            both = _with_twins(live, live + len(rows), twins)
            cache.batch_select_indices(both)
            rows, written, mask, positions = rows[live], written[live], mask[both], positions[both]
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], 1)
        positions = positions + 1
        last = _with_twins(written[:, -1:], written[:, -1:], twins)
        logits = _forward(model, cache, last, mask, positions, torch.ones_like(positions))


def _with_twins(rows: Tensor, twins: Tensor, has_twins: bool) -> Tensor:
    """Values of the batch's rows: [rows, ...], or [2 * rows, ...] where each has a twin."""
    return torch.cat([rows, twins]) if has_twins else rows


def _log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of one token of each row, in nats: [rows, vocabulary], [rows] -> [rows]."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def _padded(prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, mask, positions and token types of the prompts, padded on the left: [prompts, longest] each."""
    longest = max(len(prompt.ids) for prompt in prompts)
    arrays = np.zeros((4, len(prompts), longest), np.int64)
    for number, prompt in enumerate(prompts):
        length = len(prompt.ids)
        arrays[:, number, longest - length :] = [prompt.ids, [1] * length, range(length), prompt.roles]
    ids, mask, positions, types = torch.from_numpy(arrays).to(device)
    return ids, mask, positions, types


def _forward(
    model: DoubleHeads, cache: DynamicCache, ids: Tensor, mask: Tensor, positions: Tensor, types: Tensor
) -> Tensor:
    """Logits after the last token, [rows, vocabulary]; the cache grows by the ids."""
    extra: dict[str, Any] = {"token_type_ids": types} if model.token_types else {}
    output = model.lm(
        input_ids=ids,
        attention_mask=None if mask.all() else mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **extra,
    )
    logits: Tensor = output.logits[:, -1]
    return logits
