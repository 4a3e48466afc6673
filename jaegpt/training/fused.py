"""Layers of transformers whose many small operations torch or we can do in fewer, with the same weights and formula."""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers.activations import NewGELUActivation


def fuse(lm: nn.Module) -> None:
    """Replace GPT-2's GELU and the RMS norms of Llama and its like, in place; names and values of weights stay."""
    for module in list(lm.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):  # spells the same tanh formula out in eight operations
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif _is_plain_norm(child):
                setattr(module, name, RmsNorm(child))


class RmsNorm(nn.Module):
    """Root mean square norm (Zhang and Sennrich 2019) with the weight of another module, whose place it takes.

    On the CPU the backward pass is written out: autograd's, through casts to float32 and back, takes three times as
    long. Elsewhere compilers do that.
    """

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.weight = replaced.weight
        self.variance_epsilon: float = replaced.variance_epsilon

    def forward(self, states: Tensor) -> Tensor:
        if states.device.type == "cpu":
            normed: Tensor = _Norm.apply(states, self.weight, self.variance_epsilon)
            return normed
        exact = states.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * exact.to(states.dtype)


class _Norm(torch.autograd.Function):
    """states [..., size] and weight [size] of one precision -> [..., size]; scales are computed in float32 at least."""

    @staticmethod
    def forward(ctx: FunctionCtx, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        exact = torch.promote_types(states.dtype, torch.float32)
        norms = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=exact)
        scale = norms.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()  # [..., 1]
        unit = (states * scale).to(states.dtype)
        ctx.save_for_backward(unit, weight, scale)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, weight, scale = ctx.saved_tensors
        (gradient,) = gradients
        # With u = x * s and s = 1 / rms(x): dx = s * (g * w - u * mean(g * w * u)).
        product = gradient * unit
        of_weight = product.flatten(0, -2).sum(0, dtype=scale.dtype).to(weight.dtype)
        mean = (product @ weight)[..., None] / len(weight)
        of_states = torch.addcmul(gradient * weight, unit, mean, value=-1)
        return of_states.mul_(scale.to(of_states.dtype)), of_weight, None


def _is_plain_norm(module: nn.Module) -> bool:
    """Whether it computes weight * x / rms(x), by trial: some families add 1 to the weight, or have none."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, nn.Parameter) or epsilon is None or weight.ndim != 1 or weight.is_meta:
        return False
    if any(True for _ in module.children()) or len(list(module.parameters())) > 1:
        return False
    states = torch.linspace(-2, 2, weight.numel(), dtype=weight.dtype)[None]
    with torch.no_grad():
        try:
            found = module(states)
        except (TypeError, RuntimeError):  # one that wants more than the states
            return False
        return found.shape == states.shape and torch.allclose(found, _Norm.apply(states, weight, epsilon), rtol=1e-5)
