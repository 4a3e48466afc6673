"""Attention over packed rows, example by example, for CPU and CUDA.

A dense block mask over a whole row makes attention pay for width x width scores of which nine in ten are masked, and
torch's masked flash kernel on the CPU is slow backwards (eight times its forward, measured). Here the examples of all
rows are lined up under each other, [examples, longest], and attention is two batched matrix products.

    rows    a a a a a b b b | c c c c c c d .     four examples in two packed rows; . is an empty token
    places  c c c c c c | b b b                   lined up: the longer half (c, a) and the shorter half (b, d with the
            a a a a a _ | d . _                   empty token), each padded to its own longest; _ is a place left over
"""

import jaegpt.environment  # noqa: F401

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers import AttentionInterface

from jaegpt.training.packing import Batch

SEGMENT_ATTENTION = "jaegpt_segments"
LENGTH_MULTIPLE = 16  # few distinct shapes, so that the matrix kernels made for them are used again


class Segments(NamedTuple):
    """Where the tokens of packed rows go when examples are lined up, the longer and the shorter half apart.

    gather: [places], the token of the flattened rows that stands in each place (any token where there is none).
    scatter: [rows * width], the inverse: each token's place.
    valid: [places, 1], 1 where `gather` found a token, 0 in the places left over.
    masks: for each half [examples, 1, longest, longest], additive: 0 or -inf; its places are examples * longest.
    """

    gather: Tensor
    scatter: Tensor
    valid: Tensor
    masks: tuple[Tensor, ...]


def segments_of(batch: Batch, dtype: torch.dtype, device: torch.device) -> Segments:
    """Line up the examples of a packed batch. What a row leaves empty is carried along with the row's last example."""
    rows, width = batch.example.shape
    # Number the examples over all rows: example 2 of row 3 becomes 3 * width + 2, which no other row can reach. Empty
    # tokens have example -1; they join the example before them in their row, where the mask keeps them apart.
    number = np.maximum.accumulate(np.maximum(batch.example, 0), axis=1) + np.arange(rows)[:, None] * width
    _, index, lengths = np.unique(number.ravel(), return_inverse=True, return_counts=True)
    # The longer and the shorter half are padded apart: in one block, every example would pay for the longest.
    order = np.argsort(-lengths, kind="stable")
    halves = [half for half in np.array_split(order, 2) if len(half)]
    longest = [-(-int(lengths[half].max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE for half in halves]
    start = np.zeros(len(lengths), np.int64)  # [examples] the first place of each
    num_places = 0
    for half, places in zip(halves, longest, strict=True):
        start[half] = num_places + np.arange(len(half)) * places
        num_places += len(half) * places
    # An example's tokens are neighbours in the flattened rows, so its n-th token goes to its n-th place.
    first = np.cumsum(lengths) - lengths
    scatter = start[index] + np.arange(rows * width) - first[index]
    gather = np.zeros(num_places, np.int64)
    valid = np.zeros(num_places, bool)
    gather[scatter] = np.arange(rows * width)
    valid[scatter] = True
    # Places left over get an example of their own, -2, so that no token looks at them.
    example = np.where(valid, batch.example.ravel()[gather], -2)
    candidate = np.where(valid, batch.candidate.ravel()[gather], 0)
    masks = []
    for half, places in zip(halves, longest, strict=True):
        of_half = slice(start[half[0]], start[half[0]] + len(half) * places)
        of_example, of_candidate = (
            torch.from_numpy(array[of_half].reshape(len(half), places)) for array in (example, candidate)
        )
        masks.append(block_mask(of_example, of_candidate, dtype).to(device))
    return Segments(
        gather=torch.from_numpy(gather).to(device),
        scatter=torch.from_numpy(scatter).to(device),
        valid=torch.from_numpy(valid)[:, None].to(device, dtype),
        masks=tuple(masks),
    )


def block_mask(example: Tensor, candidate: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [rows, 1, width, width]: 0 where a token may look, -inf where not.

    A token sees itself and those tokens before it that are of its own example and either history or its own candidate.
    example, candidate: [rows, width], as in `packing.Batch`.
    """
    width = example.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=example.device).tril()
    same_example = example[:, :, None] == example[:, None, :]
    same_candidate = (candidate[:, None, :] == 0) | (candidate[:, :, None] == candidate[:, None, :])
    visible = causal & same_example & same_candidate
    return torch.zeros((), dtype=dtype, device=example.device).masked_fill(~visible, float("-inf"))[:, None]


class _LineUp(torch.autograd.Function):
    """[tokens, features] -> [places, features].

    Each token has exactly one place, so the backward pass is a gather too; torch's own would be a slower scatter-add.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments  # type: ignore[attr-defined]
        return tokens.index_select(0, segments.gather)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.segments.scatter), None  # type: ignore[attr-defined]


class _Return(torch.autograd.Function):
    """[places, features] -> [tokens, features]; places without a token get no gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, places: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments  # type: ignore[attr-defined]
        return places.index_select(0, segments.scatter)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        segments: Segments = ctx.segments  # type: ignore[attr-defined]
        return gradients[0].index_select(0, segments.gather) * segments.valid, None


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Segments,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention in the form transformers calls it. query: [rows, heads, width, size]; key, value may have fewer heads,
    and values another size.

    Args:
        softcap: scores are squeezed into +-softcap by a tanh (Gemma 2).

    Returns [rows, width, heads, size of values], and None in place of the weights.
    """
    assert attention_mask is None, "packed rows bring their mask in `segments`"
    rows, heads, width, size = query.shape
    shared = key.shape[1]  # key and value heads; in grouped-query attention several query heads share one
    sizes = [mask.shape[0] * mask.shape[-1] for mask in segments.masks]
    scale = size**-0.5 if scaling is None else scaling
    queries, keys, values = (
        _LineUp.apply(states.transpose(1, 2).reshape(rows * width, -1), segments).split(sizes)
        for states in (query, key, value)
    )
    if _keys_have_bias(module) and softcap is None:
        keys = tuple(_centred(k, mask.shape[0]) for k, mask in zip(keys, segments.masks, strict=True))
    mixed = [
        _attend(q, k, v, mask, heads, shared, scale, dropout if module.training else 0.0, softcap)
        for q, k, v, mask in zip(queries, keys, values, segments.masks, strict=True)
    ]
    return _Return.apply(torch.cat(mixed), segments).view(rows, width, heads, value.shape[-1]), None


def _keys_have_bias(module: torch.nn.Module) -> bool:
    """Whether all keys share an offset, as in Qwen 2, whose biases of keys reach some hundreds."""
    return getattr(getattr(module, "k_proj", None), "bias", None) is not None


def _centred(keys: Tensor, examples: int) -> Tensor:
    """Each lined-up example's keys less their mean: [places, features], the same softmax in theory.

    What all keys of an example share adds one number to all scores of a query, which the softmax does not see. But in
    bf16 a score of 300 is rounded to a multiple of 2, and what tells keys apart is lost.
    """
    lined_up = keys.view(examples, -1, keys.shape[-1])
    return (lined_up - lined_up.detach().mean(1, keepdim=True)).view_as(keys)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, shared: int, scale: float, dropout: float,
    softcap: float | None,
) -> Tensor:  # fmt: skip
    """Attention within lined-up examples. query: [places, heads * size], key, value: [places, shared * size]."""
    longest, size, mixed_size = mask.shape[-1], query.shape[-1] // heads, value.shape[-1] // shared
    group = heads // shared
    # Query heads that share a key head are put under each other, so that one product serves the whole group.
    queries = (query * scale).view(-1, longest, heads, size).transpose(1, 2).reshape(-1, group * longest, size)
    keys = key.view(-1, longest, shared, size).permute(0, 2, 3, 1).reshape(-1, size, longest)
    values = value.view(-1, longest, shared, mixed_size).transpose(1, 2).reshape(-1, longest, mixed_size)
    # Places left over look only at each other. Each sees at least itself, so no softmax is over -inf alone (NaN).
    scores = torch.bmm(queries, keys).view(-1, heads, longest, longest)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = (scores + mask).softmax(-1)
    weights = functional.dropout(weights, dropout)
    mixed = torch.bmm(weights.view(-1, group * longest, longest), values)
    return mixed.view(-1, heads, longest, mixed_size).transpose(1, 2).reshape(-1, heads * mixed_size)


AttentionInterface.register(SEGMENT_ATTENTION, segment_attention)
