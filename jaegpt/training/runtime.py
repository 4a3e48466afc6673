"""What the loop and validation ask of a device: where models and batches go, how a step ends, what was compiled."""

import jaegpt.environment  # noqa: F401

from collections.abc import Callable
from typing import Any

import torch

from jaegpt.training.devices import Device
from jaegpt.training.eight_bits import EightBitAdamW
from jaegpt.training.heads import DoubleHeads, TensorBatch, round_weights, to_tensors
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Batch

FETCH_EVERY = 16  # steps, where a device works on while the host waits for the losses of a step long done
Step = Callable[..., Any]  # losses and gradient norm, from a step's parts, its learning rate, and its counts or None


class Runtime:
    """CPU and CUDA: an operation runs when it is called, so a step needs no end and nothing is compiled.

    fetch_every: how many steps' losses are brought to the host together.
    rows: batches outside of training have a multiple of this many rows.
    packs_ahead: whether the next step's batch may be made in a thread while the device works.
    pack_width: tokens that a training row should have where `train.pack_width` leaves it open; 0: one row a step.
    adamw: the optimizer with exact moments.
    """

    fetch_every = 1
    rows = 1
    packs_ahead = True
    pack_width = 0
    adamw: type[MasterAdamW] = MasterAdamW

    def __init__(self, device: Device) -> None:
        self.device = device

    def place_model(self, model: DoubleHeads) -> DoubleHeads:
        """The model on the device in the device's precision, for evaluation."""
        round_weights(model, self.device.dtype)
        return model.to(self.device.torch_device)

    def place_batch(self, batch: Batch) -> TensorBatch:
        """A packed batch on the device, laid out as the device computes it fastest."""
        return to_tensors(batch, self.device.torch_device, self.device.dtype)

    def optimizer(self, model: DoubleHeads, weight_decay: float, max_grad_norm: float, bits: int = 32) -> MasterAdamW:
        """Put a float32 model on the device, in its precision, under an optimizer with moments of 32 or 8 bits."""
        kind = EightBitAdamW if bits == 8 else self.adamw
        return kind(model.to(self.device.torch_device), self.device.dtype, weight_decay, max_grad_norm)

    def recording(self, step: Step, model: DoubleHeads) -> Step:
        """The training step as this device runs it best; `step` itself, or a stand-in that gives the same."""
        return step

    def seed(self, seed: int) -> None:
        """Seed what dropout draws from."""
        torch.manual_seed(seed)

    def end_step(self, name: str, batch: TensorBatch) -> None:
        """Called after a step's last operation; steps of one `name` should all have the same shapes."""

    def compilations(self) -> int:
        """Programs compiled by this process so far."""
        return 0
