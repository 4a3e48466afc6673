"""The decoding loop over a cache of keys and values.

It is ours rather than `transformers.generate`, which computes the history anew for each candidate, draws from torch's
one generator for the whole batch, keeps rows that have ended, and streams from a thread only. Decoder and cache are
transformers' own.
"""

import jaegpt.environment  # noqa: F401

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from jaegpt.arrays import Floats
from jaegpt.generation.prompts import Prompt
from jaegpt.training.heads import DoubleHeads

# (logits [rows, vocabulary], tokens written so far [rows, step], draws [rows]) -> the next token of each row [rows]
Draw = Callable[[Tensor, Tensor, Tensor], Tensor]


def decode(
    model: DoubleHeads, prompts: Sequence[Prompt], draws: Floats, draw: Draw, stop: int
) -> Iterator[tuple[int, int]]:
    """Write after each prompt, k candidates side by side; call it without gradients.

    Each prompt is computed once, and its candidates go on from copies of its keys and values.

    Args:
        draws: [prompts * k, steps], uniform in [0, 1): row i is a candidate of prompt i // k.
        stop: the token that ends a row; it is the row's last.

    Yields:
        (row, token) as they are drawn.
    """
    device = model.score.weight.device
    k = len(draws) // len(prompts)
    uniform = torch.from_numpy(draws).to(device, torch.float32)
    cache = DynamicCache(config=model.lm.config)
    ids, mask, positions, types = _padded(prompts, device)
    logits = _forward(model, cache, ids, mask, positions, types)
    cache.batch_repeat_interleave(k)
    logits, mask, positions = (tensor.repeat_interleave(k, 0) for tensor in (logits, mask, positions[:, -1:]))
    rows = torch.arange(len(draws), device=device)  # those still writing
    written = torch.empty((len(rows), 0), dtype=torch.long, device=device)
    for step in range(uniform.shape[1]):
        tokens = draw(logits, written, uniform[rows, step])
        yield from zip(rows.tolist(), tokens.tolist(), strict=True)
        written = torch.cat([written, tokens[:, None]], 1)
        live = (tokens != stop).nonzero()[:, 0]
        if not len(live) or step + 1 == uniform.shape[1]:
            return
        if len(live) < len(rows):
            cache.batch_select_indices(live)
            rows, written, mask, positions = (tensor[live] for tensor in (rows, written, mask, positions))
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], 1)
        positions = positions + 1
        logits = _forward(model, cache, written[:, -1:], mask, positions, torch.ones_like(positions))


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
