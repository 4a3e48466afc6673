"""Double heads over any causal decoder: its own language modelling head, and a score for each candidate reply."""

import jaegpt.environment  # noqa: F401

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation

from jaegpt.errors import JaegptError
from jaegpt.training.attention import SEGMENT_ATTENTION, Segments, block_mask, segments_of
from jaegpt.training.own_output import has_own_output, own_logits
from jaegpt.training.packing import IGNORED, Batch

HEAD_DROPOUT = 0.1
NO_CANDIDATE = -1e9  # finite, so that a slot without any candidate has no NaN in its gradient
# In a model's config.json, "dense" where its attention takes a mask but not `segment_attention`: found out by the
# packing check, kept with the model, as whoever loads it later has to compute it in the same way.
ATTENTION_KEY = "jaegpt_attention"


class TensorBatch(NamedTuple):
    """`packing.Batch` as tensors on the device, field for field, and how attention runs over it."""

    ids: Tensor
    positions: Tensor
    example: Tensor
    candidate: Tensor
    token_types: Tensor
    label_at: Tensor
    label: Tensor
    label_self: Tensor
    score_at: Tensor
    reply: Tensor
    segments: Segments | None


class Counts(NamedTuple):
    """What the losses of a step are means over: its reply tokens and its examples. Scalars on the device."""

    labels: Tensor
    examples: Tensor


@dataclass(frozen=True)
class Losses:
    """Scalars with gradients: mean over the batch's reply tokens, mean over its examples. None where not computed."""

    lm: Tensor | None
    mc: Tensor | None

    def weighted(self, w_lm: float, w_mc: float) -> Tensor:
        """w_lm * L_LM + w_mc * L_MC over those computed."""
        terms = [weight * loss for weight, loss in ((w_lm, self.lm), (w_mc, self.mc)) if loss is not None]
        return torch.stack(terms).sum()


def to_tensors(batch: Batch, device: torch.device, dtype: torch.dtype, fixed_shapes: bool = False) -> TensorBatch:
    """Copy one packed batch to the device; `dtype` is the precision of attention.

    `fixed_shapes` (for XLA) keeps every unused slot and leaves attention to a dense mask. Elsewhere label slots beyond
    the last used one are cut off and the examples are lined up for `segment_attention`.
    """
    arrays = {name: getattr(batch, name) for name in TensorBatch._fields if name != "segments"}
    if not fixed_shapes:
        used = ((batch.label != IGNORED) | (batch.label_self != IGNORED)).any(axis=0)
        num_labels = int(used.nonzero()[0].max(initial=0)) + 1
        arrays |= {name: arrays[name][:, :num_labels] for name in ("label_at", "label", "label_self")}
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return TensorBatch(**tensors, segments=None if fixed_shapes else segments_of(batch, dtype, device))


def round_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights another precision, and only the weights: buffers, such as rotary frequencies, stay exact."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


class DoubleHeads(nn.Module):
    """A causal decoder and a classification head: dropout, then Linear(hidden, 1) on a candidate's last token.

    Args:
        lm: a Hugging Face causal language model.
        generator: draws the classification head's first weights (normal, standard deviation 0.02; bias 0).
        token_types: add the seed's 0/1 token type ids (GPT-2 family only).

    Raises:
        JaegptError: the decoder takes no token types where they are asked for, or has no head of its own.
    """

    def __init__(self, lm: Any, generator: torch.Generator, token_types: bool = False) -> None:
        super().__init__()
        config = lm.config
        if token_types and config.model_type != "gpt2":
            raise JaegptError(f"train.token_types: needs a GPT-2 family model, found {config.model_type}.")
        _fuse_gelu(lm)
        self.lm = lm
        # The width that the trunk returns, not `hidden_size`: OPT-350m projects its hidden states to half of it.
        self.score = nn.Linear(_head(lm).weight.shape[1], 1)
        with torch.no_grad():
            self.score.weight.copy_(torch.randn(self.score.weight.shape, generator=generator) * 0.02)
            self.score.bias.zero_()
        self.token_types = token_types
        self.own_output = has_own_output(lm)
        self.dense = getattr(config, ATTENTION_KEY, None) == "dense"
        self.dropout = HEAD_DROPOUT

    def trunk(self, batch: TensorBatch) -> Tensor:
        """Hidden states [rows, width, hidden] of packed rows."""
        extra: dict[str, Any] = {"token_type_ids": batch.token_types} if self.token_types else {}
        if self.dense or batch.segments is None:
            extra["attention_mask"] = block_mask(batch.example, batch.candidate, self.score.weight.dtype)
            set_attention(self.lm, "sdpa" if self.lm._supports_sdpa else "eager")
        else:
            extra["segments"] = batch.segments
            set_attention(self.lm, SEGMENT_ATTENTION)
        output = self.lm.base_model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **extra)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor, batch: TensorBatch) -> Tensor:
        """Next-token logits at the label slots only: [rows, labels, vocabulary]."""
        at_labels = _at(hidden, batch.label_at)
        if self.own_output:
            return own_logits(self.lm, at_labels)
        logits: Tensor = _head(self.lm)(at_labels)
        return logits

    def scores(self, hidden: Tensor, batch: TensorBatch) -> Tensor:
        """Each candidate's score in float32, read from its last token: [rows, examples, candidates]."""
        rows, examples, candidates = batch.score_at.shape
        ends = _at(hidden, batch.score_at.clamp(min=0).view(rows, examples * candidates))
        ends = functional.dropout(ends, self.dropout, self.training)
        scores = self.score(ends).view(rows, examples, candidates).float()
        return scores.masked_fill(batch.score_at < 0, NO_CANDIDATE)

    def forward(self, batch: TensorBatch, w_lm: float, w_mc: float, counts: Counts | None = None) -> Losses:
        """L_LM and L_MC of the batch; a loss without weight is not computed.

        Args:
            counts: of the whole step, when the batch is one part of it: the losses of the parts then add up to the
                step's.
        """
        hidden = self.trunk(batch)
        num_labels, num_examples = counts or (None, None)
        return Losses(
            lm=_mean_cross_entropy(self.logits(hidden, batch), batch.label, num_labels) if w_lm else None,
            mc=_mean_cross_entropy(self.scores(hidden, batch), batch.reply, num_examples) if w_mc else None,
        )


def set_attention(lm: Any, name: str) -> None:
    """Have attention computed by transformers' implementation `name`; decoders that have only their own keep that."""
    if lm.config._attn_implementation != name and lm._can_set_attn_implementation():
        lm.set_attn_implementation(name)


def text_trunk(lm: Any) -> Any:
    """What reads text, without the head: of a multimodal model not the part that reads pictures."""
    trunk = getattr(lm, "base_model", lm)
    return getattr(trunk, "language_model", trunk)


def decoder_layers(lm: nn.Module) -> list[nn.Module]:
    """The decoder's layers: of what reads text, the longest list of modules of one class."""
    lists = [list(module) for module in text_trunk(lm).modules() if isinstance(module, nn.ModuleList)]
    alike = [modules for modules in lists if len({type(module) for module in modules}) == 1]
    return max(alike, key=len, default=[])


def _head(lm: Any) -> Any:
    """The decoder's own language modelling head: [vocabulary, hidden] weights."""
    head = lm.get_output_embeddings()
    if head is None:
        raise JaegptError(f"model: a decoder of type {lm.config.model_type} has no language modelling head.")
    return head


def _fuse_gelu(lm: nn.Module) -> None:
    """Let torch compute GPT-2's GELU in one go; transformers spells the same tanh formula out in eight operations."""
    for module in lm.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def cross_entropy(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in float32 over the slots in use. logits: [..., classes], target: [...]."""
    return functional.cross_entropy(
        logits.float().flatten(0, -2), target.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def _mean_cross_entropy(logits: Tensor, target: Tensor, count: Tensor | None) -> Tensor:
    if count is None:
        return cross_entropy(logits, target)
    return cross_entropy(logits, target, reduction="sum") / count


def _at(hidden: Tensor, index: Tensor) -> Tensor:
    """hidden[row, index[row, slot]]: [rows, width, hidden], [rows, slots] -> [rows, slots, hidden]."""
    return hidden.gather(1, index[:, :, None].expand(-1, -1, hidden.shape[-1]))
