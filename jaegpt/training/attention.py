"""Attention over packed rows, example by example, for CPU and CUDA.

A dense block mask over a whole row makes attention pay for width x width scores of which nine in ten are masked, and
torch's masked flash kernel on the CPU is slow backwards (eight times its forward, measured). Here the examples of a row
are lined up under each other, [examples, longest], and attention is two batched matrix products.
"""

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
    """Where the tokens of packed rows go when examples are lined up; rows and examples are flattened.

    gather: [examples * longest], the token of a row that stands in each place (any token where there is none).
    scatter: [rows * width], the inverse: each token's place.
    valid: [examples * longest, 1], 1 where `gather` found a token, 0 in the places left over.
    mask: [examples, 1, longest, longest], additive: 0 or -inf.
    """

    gather: Tensor
    scatter: Tensor
    valid: Tensor
    mask: Tensor


def segments_of(batch: Batch, dtype: torch.dtype, device: torch.device) -> Segments:
    """Line up the examples of a packed batch. What a row leaves empty is carried along with the row's last example."""
    rows, width = batch.example.shape
    # Empty places have example -1: they join the example before them, where the mask keeps them apart.
    owner = np.maximum.accumulate(np.maximum(batch.example, 0), axis=1) + np.arange(rows)[:, None] * width
    _, index, lengths = np.unique(owner.ravel(), return_inverse=True, return_counts=True)
    longest = -(-int(lengths.max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    scatter = index * longest + np.arange(rows * width) - first[index]
    gather = np.zeros(len(lengths) * longest, np.int64)
    valid = np.zeros(len(lengths) * longest, bool)
    gather[scatter] = np.arange(rows * width)
    valid[scatter] = True
    places = (len(lengths), longest)
    example = np.where(valid, batch.example.ravel()[gather], -2).reshape(places)
    candidate = np.where(valid, batch.candidate.ravel()[gather], 0).reshape(places)
    mask = block_mask(torch.from_numpy(example), torch.from_numpy(candidate), dtype)
    return Segments(
        gather=torch.from_numpy(gather).to(device),
        scatter=torch.from_numpy(scatter).to(device),
        valid=torch.from_numpy(valid)[:, None].to(device, dtype),
        mask=mask.to(device),
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
    """[tokens, features] -> [places, features]. Each token has one place, so the backward is a gather as well."""

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
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention in the form transformers calls it. query: [rows, heads, width, size]; key, value may have fewer heads.

    Returns [rows, width, heads, size], and None in place of the weights.
    """
    assert attention_mask is None, "packed rows bring their mask in `segments`"
    rows, heads, width, size = query.shape
    shared, longest = key.shape[1], segments.mask.shape[-1]
    group = heads // shared  # query heads that share a key and value head (grouped-query attention)

    def line_up(states: Tensor) -> Tensor:  # [rows, n, width, size] -> [examples, longest, n, size]
        flat = states.transpose(1, 2).reshape(rows * width, -1)
        return _LineUp.apply(flat, segments).view(-1, longest, states.shape[1], size)

    scale = size**-0.5 if scaling is None else scaling
    queries = (line_up(query) * scale).transpose(1, 2).reshape(-1, group * longest, size)
    keys = line_up(key).permute(0, 2, 3, 1).reshape(-1, size, longest)
    values = line_up(value).transpose(1, 2).reshape(-1, longest, size)
    scores = torch.bmm(queries, keys).view(-1, heads, longest, longest) + segments.mask
    # Places without a token see each other only; their softmax is finite because a place always sees itself.
    weights = functional.dropout(scores.softmax(-1), dropout, module.training)
    mixed = torch.bmm(weights.view(-1, group * longest, longest), values)
    places = mixed.view(-1, heads, longest, size).transpose(1, 2).reshape(-1, heads * size)
    return _Return.apply(places, segments).view(rows, width, heads, size), None


AttentionInterface.register(SEGMENT_ATTENTION, segment_attention)
