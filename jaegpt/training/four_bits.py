"""`train.base_bits: 4`: frozen weights in 4 bits, while adapters are trained beside them (QLoRA, Dettmers et al. 2023).

NF4 of bitsandbytes: each block of 64 weights is divided by its largest, and each weight becomes the nearest of 16
values that split a normal distribution evenly; with the blocks' scales 4.5 bits per weight.
"""

import jaegpt.environment  # noqa: F401

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from jaegpt.errors import JaegptError
from jaegpt.training.config import TrainConfig
from jaegpt.training.devices import Device

BLOCK = 64  # weights that share a scale
BITS = 4 + 32 / BLOCK  # per weight
PACKAGE = "bitsandbytes"
PACKED_KINDS = ("cpu", "cuda")  # devices whose kernels are used here


def check_bits(config: TrainConfig, kind: str) -> None:
    """Refuse a base in 4 bits, or moments in 8, where they cannot be: `kind` is the device's.

    Raises:
        JaegptError: the package is not installed, or the device is neither a CPU nor a CUDA GPU.
    """
    asked = [("base_bits: 4", 16)] if config.base_bits == 4 else []
    asked += [("adamw_bits: 8", 32)] if config.adamw_bits == 8 else []
    for setting, plain in asked:
        if kind not in PACKED_KINDS:
            raise JaegptError(
                f"train.{setting} works on CPUs and CUDA GPUs only; this run is on {kind}. Set it to {plain}."
            )
        if importlib.util.find_spec(PACKAGE) is None:
            raise JaegptError(
                f"train.{setting} needs the package {PACKAGE}, which is not installed. Run `pip install -e '.[4bit]'`, "
                f"or set it to {plain}."
            )


def hold_in_four_bits(lm: nn.Module, device: Device) -> None:
    """Put the linear layers below adapters into 4 bits, one after the other on the device.

    What is not below an adapter (embeddings, norms, the head) stays. The layers are changed in place; what was rounded
    cannot be got back, so adapters are merged into a base that is loaded again.
    """
    found = [module for module in lm.modules() if type(getattr(module, "base_layer", None)) in (nn.Linear, Conv1D)]
    assert found, "adapters come first"
    for module in found:
        module.base_layer = FourBitLinear(module.base_layer, device.torch_device)


class FourBitLinear(nn.Module):
    """A linear layer with packed weights. They are buffers: what rounds or trains parameters passes them by.

    Args:
        layer: nn.Linear, or GPT-2's Conv1D, whose weights are [inputs, outputs].
    """

    packed: Tensor  # [weights / 2, 1], two to a byte
    scales: Tensor  # [weights / BLOCK], float32

    def __init__(self, layer: Any, torch_device: torch.device) -> None:
        import bitsandbytes.functional as bits

        super().__init__()
        weight = layer.weight.detach().to(torch_device, torch.float32)
        weight = (weight.T if isinstance(layer, Conv1D) else weight).contiguous()
        # One block per row: on the CPU bitsandbytes 0.50 unpacks blocks wrongly that go over the end of a row.
        flat = functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
        packed, state = bits.quantize_4bit(flat, blocksize=BLOCK, quant_type="nf4", compress_statistics=False)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", state.absmax)
        self.bias = layer.bias
        self.shape = (weight.shape[0], weight.shape[1])

    def forward(self, features: Tensor) -> Tensor:
        product: Tensor = _Product.apply(features, self.packed, self.scales, self.shape)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """features @ weight.T. The backward pass unpacks the weights again: kept, they would take what packing saved."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, packed: Tensor, scales: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(packed, scales)
        ctx.shape = shape  # type: ignore[attr-defined]
        return functional.linear(features, unpacked(packed, scales, shape, features.dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        packed, scales = ctx.saved_tensors  # type: ignore[attr-defined]
        weight = unpacked(packed, scales, ctx.shape, gradients[0].dtype)  # type: ignore[attr-defined]
        return gradients[0] @ weight, None, None, None


def unpacked(packed: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The weights [outputs, inputs] as they are computed with."""
    blocks: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
        packed, scales, BLOCK, "nf4", (scales.numel(), BLOCK), dtype
    )
    return blocks.flatten()[: shape[0] * shape[1]].view(shape)
