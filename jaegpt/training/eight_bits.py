"""`train.adamw_bits: 8`: AdamW's two moments in 8 bits each (Dettmers et al. 2022), which take 2 bytes in place of 8.

Each block of 256 values is divided by its largest, and each value becomes the nearest of 256 that are spread over many
orders of magnitude, closer to each other near 0: bitsandbytes' dynamic map, with a sign for the mean gradient and
without one for the mean square. The weights themselves stay in float32. Small weights, such as those of norms, keep
exact moments.
"""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from torch import Tensor, nn

from jaegpt.training.cuda_adamw import CudaAdamW, Factors

BLOCK = 256  # values that share a scale
BYTES = 1 + 4 / BLOCK  # per value
SMALLEST = 4096  # weights with fewer elements keep their moments in float32
MOMENTS = ("exp_avg", "exp_avg_sq")


class EightBitAdamW(CudaAdamW):
    """CudaAdamW whose moments are unpacked for the update of one weight at a time, and packed again after it."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, weight_decay: float, max_grad_norm: float) -> None:
        import bitsandbytes.functional as bits

        device = next(model.parameters()).device
        maps = [bits.create_dynamic_map(signed=signed).to(device) for signed in (True, False)]
        self._maps = dict(zip(MOMENTS, maps, strict=True))
        super().__init__(model, dtype, weight_decay, max_grad_norm)

    def first_moments(self, master: Tensor) -> dict[str, Tensor]:
        found = super().first_moments(master)
        if master.numel() < SMALLEST:
            return found
        return {key: value for name in MOMENTS for key, value in self._packed(name, found[name].view(-1)).items()}

    def move(
        self, master: Tensor, rounded: Tensor | None, gradient: Tensor, state: dict[str, Any], decay: Any, by: Factors
    ) -> None:
        if master.numel() < SMALLEST:
            super().move(master, rounded, gradient, state, decay, by)
            return
        unpacked = {name: self._unpacked(name, state) for name in MOMENTS}
        super().move(master, rounded, gradient, unpacked, decay, by)
        for name in MOMENTS:
            for key, value in self._packed(name, unpacked[name]).items():
                state[key].copy_(torch.where(by.fine, value, state[key]))  # packed twice, codes may differ

    def _packed(self, name: str, values: Tensor) -> dict[str, Tensor]:
        """A moment as it is kept: codes [values] and scales [blocks]."""
        codes, scales = torch.ops.bitsandbytes.quantize_blockwise(values, self._maps[name], BLOCK)
        return {name: codes, f"{name}_scale": scales}

    def _unpacked(self, name: str, state: dict[str, Any]) -> Tensor:
        """[values] in float32."""
        kept = state[name], state[f"{name}_scale"], self._maps[name], BLOCK, torch.float32
        values: Tensor = torch.ops.bitsandbytes.dequantize_blockwise(*kept)
        return values
