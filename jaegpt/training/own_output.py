"""Logits of decoders that do more with them than their output embedding does: a scale (Granite, Cohere, Falcon H1) or a
cap (Gemma 2 and 4). What they do stands in their own `forward`, so that is what computes it."""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

_LARGE = 100.0  # a cap of 30 shows at logits of this size; random models of a test have much smaller ones


def has_own_output(lm: Any) -> bool:
    """Whether the decoder's logits differ from its output embedding's; tried on three made-up hidden states.

    False also where that cannot be tried: on weights without values, or a `forward` of an unknown shape, whose logits
    the packing check compares later.
    """
    head = lm.get_output_embeddings()
    if head is None or head.weight.is_meta:
        return False
    numbers = torch.arange(1, 1 + 3 * head.weight.shape[1], dtype=torch.float32).view(1, 3, -1)
    hidden = numbers.sin().to(head.weight.device, head.weight.dtype)
    with torch.no_grad():
        hidden *= _LARGE / head(hidden).abs().max().clamp(min=1e-6)
        plain = head(hidden).float()
        try:
            own = own_logits(lm, hidden).float()
        except Exception:  # code of an unknown decoder may raise anything
            return False
    return own.shape == plain.shape and not torch.allclose(own, plain, equal_nan=True)


def own_logits(lm: Any, hidden: Tensor) -> Tensor:
    """What the decoder makes of hidden states of its trunk: [rows, slots, hidden] -> [rows, slots, vocabulary].

    Its `forward` is called with a trunk that returns these states. So it computes logits for them alone, whichever they
    are in each row, and not, as with `logits_to_keep`, for the same places of all rows.
    """
    name = lm.base_model_prefix
    trunk = lm._modules[name]
    lm._modules[name] = _Returns(hidden)
    try:
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        logits: Tensor = lm(input_ids=ids, use_cache=False).logits
    finally:
        lm._modules[name] = trunk
    return logits


class _Output(BaseModelOutputWithPast):
    """A trunk's output that holds nothing but hidden states; what else a decoder asks of it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Returns(nn.Module):
    """In the place of a trunk."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> _Output:
        return _Output(last_hidden_state=self.hidden)
