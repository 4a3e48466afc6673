"""Less memory for more computing: `train.checkpoint_activations` (Chen et al. 2016, "sublinear memory cost")."""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jaegpt.errors import JaegptError
from jaegpt.training.heads import decoder_layers


def recompute_layers(lm: nn.Module, kind: str) -> None:
    """Keep only the input of each decoder layer; the backward pass computes the rest again, one layer at a time.

    The values and gradients stay what they were; a step computes the layers' forward pass twice. On CUDA what is
    compiled is the layer with this inside: one compilation serves all layers as before, and the compiler plans what is
    computed again.

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
    kind_of_layer = _recomputing(type(layers[0]), draws)
    for layer in layers:
        layer.__class__ = kind_of_layer


def _recomputing(plain: type[nn.Module], draws: bool) -> type[nn.Module]:
    """A layer of class `plain` whose forward pass keeps its input alone.

    A class for all of them and not a wrapper around each one's method: the compiler would make a program for each.
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain.forward(self, *args, **kwargs)
        return checkpoint(plain.forward, self, *args, use_reentrant=False, preserve_rng_state=draws, **kwargs)

    return type(f"Recomputing{plain.__name__}", (plain,), {"forward": forward})


def _draws(layer: nn.Module) -> bool:
    """Whether a layer has dropout: a module of it, or a number by which a layer calls the function."""
    return any(
        (isinstance(module, nn.Dropout) and module.p > 0)
        or any(isinstance(value, float) and value > 0 for name, value in vars(module).items() if "drop" in name)
        for module in layer.modules()
    )
