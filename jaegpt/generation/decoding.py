"""The decoding loop over a cache of keys and values.

It is ours rather than `transformers.generate`, which computes the history again for each candidate, draws from torch's
one generator for the whole batch, keeps rows that have ended, and streams from a thread only. Decoder and cache are
transformers' own.
"""

import jaegpt.environment  # noqa: F401

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, DynamicCache

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
    logits = forward(model, cache, ids, None if mask.all() else mask, positions, types)
    return ReadPrompts(cache=cache, logits=logits, mask=mask, positions=positions, has_free=free is not None)


class Rows(Protocol):
    """The rows of a decoding: what each has read, and what was written after it."""

    def narrows(self, count: int) -> bool:
        """Whether a step would cost less if `count` of the rows were kept."""

    def keep(self, rows: Tensor) -> None:
        """Leave out all but these: [kept] places in the batch."""

    def step(self, last: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token of each, `last` [rows]."""

    def close(self) -> None:
        """Called once, at the end of the decoding."""


# (what was read, [rows] the prompt of each row, steps) -> rows of another kind than GrowingRows, or None
Begin = Callable[[ReadPrompts, Tensor, int], Rows | None]


class GrowingRows:
    """Rows over a cache that grows by each token. Those that have ended leave at once, and cost nothing more.

    Args:
        source: [rows], the prompt of each.
    """

    def __init__(self, model: DoubleHeads, read: ReadPrompts, source: Tensor) -> None:
        self._model, self._cache = model, read.branch()
        self._cache.batch_select_indices(source)
        self._mask, self._positions = read.mask[source], read.positions[source, -1:]

    def narrows(self, count: int) -> bool:
        return count < len(self._mask)

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def step(self, last: Tensor) -> Tensor:
        mask = self._mask = torch.cat([self._mask, self._mask.new_ones((len(self._mask), 1))], 1)
        positions = self._positions = self._positions + 1
        seen = None if mask.all() else mask
        return forward(self._model, self._cache, last[:, None], seen, positions, torch.ones_like(positions))

    def close(self) -> None:
        pass


def decode(
    model: DoubleHeads,
    read: ReadPrompts,
    draws: Floats,
    draw: Draw,
    stop: int,
    guidance: float | None = None,
    begin: Begin | None = None,
) -> Iterator[Drawn]:
    """Write after each prompt, k candidates side by side; call it without gradients.

    Each prompt was computed once, and its candidates go on from copies of its keys and values.

    Args:
        draws: [prompts * k, steps], uniform in [0, 1): row i is a candidate of prompt i // k.
        stop: the token that ends a row; it is the row's last.
        guidance: each row then has a twin that writes the same after the empty history that was read, and tokens are
            drawn from twin + guidance * (row - twin) of their logits (Sanchez et al., arXiv 2306.17806).
        begin: what computes the steps, where it can.
    """
    twins = guidance is not None
    assert read.has_free or not twins, "an empty history has to be read for twins"
    device = model.score.weight.device
    k, steps = len(draws) // len(read), draws.shape[1]
    uniform = torch.from_numpy(draws).float().to(device)  # on the host: Apple GPUs know no float64
    # The history is in the cache; its k candidates go on from copies, and so do their twins from the empty history,
    # which comes last: prompts A, B, free F and k = 2 -> rows A A B B F F F F.
    prompts = torch.arange(len(draws), device=device) // k
    source = _with_twins(prompts, torch.full_like(prompts, len(read)), twins)
    numbers: list[int | None] = list(range(len(draws)))  # of the rows; None once one has ended
    logits, written = read.logits[source], torch.empty((len(draws), 0), dtype=torch.long, device=device)
    rows = (begin and begin(read, source, steps)) or GrowingRows(model, read, source)
    try:
        for step in range(steps):
            if guidance is not None:
                inside, outside = logits.float().chunk(2)
                tokens = draw(outside + guidance * (inside - outside), written, uniform[:, step])
                gained = _log_likelihood(inside, tokens) - _log_likelihood(outside, tokens)
            else:
                tokens, gained = draw(logits, written, uniform[:, step]), None
            # The device is asked for values once per step, and here: float32 counts tokens exactly up to 2^24.
            found, *gains = torch.stack([tokens.float(), gained]).tolist() if gained is not None else [tokens.tolist()]
            for number, token, gain in zip(numbers, found, *(gains or [[0.0] * len(found)]), strict=True):
                if number is not None:
                    yield Drawn(number, int(token), gain)
            numbers = [None if token == stop else number for number, token in zip(numbers, found, strict=True)]
            live = [place for place, number in enumerate(numbers) if number is not None]
            if not live or step + 1 == steps:
                return
            written = torch.cat([written, tokens[:, None]], 1)
            if rows.narrows(len(live) * (1 + twins)):
                kept = torch.tensor(live, device=device)
                rows.keep(_with_twins(kept, kept + len(numbers), twins))
                numbers = [numbers[place] for place in live]
                written, uniform = written[kept], uniform[kept]
            logits = rows.step(_with_twins(written[:, -1], written[:, -1], twins))
    finally:
        rows.close()


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


def forward(
    model: DoubleHeads, cache: Cache, ids: Tensor, mask: Tensor | None, positions: Tensor, types: Tensor
) -> Tensor:
    """Logits after the last token, [rows, vocabulary]; the cache takes up the ids. Without a mask all is seen."""
    extra: dict[str, Any] = {"token_type_ids": types} if model.token_types else {}
    output = model.lm(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **extra,
    )
    logits: Tensor = output.logits[:, -1]
    return logits
