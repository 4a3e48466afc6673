"""Less memory for more computing: `train.checkpoint_activations` (Chen et al. 2016, "sublinear memory cost")."""

import jaegpt.environment  # noqa: F401

from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jaegpt.errors import JaegptError
from jaegpt.training.cuda import decoder_layers


def recompute_layers(lm: nn.Module, kind: str) -> None:
    """Keep of each decoder layer what went in, alone; the backward pass computes the rest again, one layer at a time.

    The values and gradients stay what they were; a step computes the layers' forward pass twice. Layers get a
    class of which this is part, so that on CUDA it is compiled with them.

    Args:
        lm: the decoder, with its adapters where it is trained with some.
        kind: of the device.

    Raises:
        JaegptError: the decoder has no list of layers, or the device is XLA.
    """
    if kind == "xla":  # torch_xla has only the kind of checkpoint that torch.autograd.grad cannot go through
        raise JaegptError(
            "train.checkpoint_activations: not on XLA. Set it to false; train.accumulation makes the parts of a step "
            "smaller."
        )
    layers = decoder_layers(lm)
    if not layers:
        raise JaegptError("train.checkpoint_activations: this base model has no list of layers. Set it to false.")
    # Reading the generator's state is not allowed while a step is recorded, so only where something is drawn.
    draws = any(_draws(layer) for layer in layers)
    for layer in layers:
        layer.__class__ = _recomputing(type(layer), draws)  # type: ignore[arg-type]


@cache
def _recomputing(kind: type[nn.Module], draws: bool) -> type[nn.Module]:
    """One class for all layers: functions of each layer's own would be a program each for the compiler."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args, **kwargs)
        plain = partial(kind.forward, self)
        return checkpoint(plain, *args, use_reentrant=False, preserve_rng_state=draws, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward})


def _draws(layer: nn.Module) -> bool:
    """Whether a layer has dropout: a module of it, or a number by which a layer calls the function."""
    return any(
        (isinstance(module, nn.Dropout) and module.p > 0)
        or any(isinstance(value, float) and value > 0 for name, value in vars(module).items() if "drop" in name)
        for module in layer.modules()
    )
