"""Training on PyTorch/XLA: one process, one mesh over all devices, batch rows sharded over its axis `data`.

Calling an operation only records it. The end of a step compiles what was recorded into one program (the first time; a
step with the same record reuses it) and hands it to the devices. So nothing within a step may read a value, and nothing
that changes from step to step may be a constant of the program: the learning rate travels as a tensor, and every batch
has the same shape.

Imported only where XLA was chosen: torch_xla takes over the process.
"""

import jaegpt.environment  # noqa: F401

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.debug.metrics as xla_metrics
import torch_xla.distributed.spmd as spmd
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from tqdm import tqdm

from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads, TensorBatch, round_weights, to_tensors
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Batch
from jaegpt.training.runtime import FETCH_EVERY, Runtime

AXIS = "data"


class XlaRuntime(Runtime):
    """XLA: weights on every device, rows of a batch spread over them, one program per kind of step."""

    # XLA counts programs per process, so these belong to the class and not to one runtime: the names of the steps that
    # have ended before, and the programs compiled by the last step's end.
    ended: ClassVar[set[str]] = set()
    compiled: ClassVar[int] = 0

    fetch_every = FETCH_EVERY
    packs_ahead = False  # the end of a step takes all that is recorded, also what another thread is halfway through

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.rows = device.num_devices
        self._mesh = spmd.Mesh(np.arange(device.num_devices), (device.num_devices,), (AXIS,))

    def place_model(self, model: DoubleHeads) -> DoubleHeads:
        round_weights(model, self.device.dtype)
        move(model, self._send)
        return model

    def place_batch(self, batch: Batch) -> TensorBatch:
        tensors = to_tensors(batch, torch.device("cpu"), self.device.dtype, fixed_shapes=True)
        placed = [tensor.to(self.device.torch_device) for tensor in tensors if isinstance(tensor, Tensor)]
        for tensor in placed:
            spmd.mark_sharding(tensor, self._mesh, (AXIS, *[None] * (tensor.ndim - 1)))
        return TensorBatch._make([*placed, None])

    def optimizer(self, model: DoubleHeads, weight_decay: float, max_grad_norm: float, bits: int = 32) -> MasterAdamW:
        assert bits == 32, "refused before"
        return XlaAdamW(model, self.device.dtype, weight_decay, max_grad_norm, self._send)

    def seed(self, seed: int) -> None:
        xm.set_rng_state(seed, str(self.device.torch_device))

    def end_step(self, name: str, batch: TensorBatch) -> None:
        """Hand the step to the devices; warn when a step of this name had to be compiled a second time."""
        torch_xla.sync()
        compiled = self.compilations()
        if name in XlaRuntime.ended and compiled > XlaRuntime.compiled:
            shapes = ", ".join(f"{field} {list(getattr(batch, field).shape)}" for field in ("ids", "label", "score_at"))
            tqdm.write(f"warning: XLA compiled the {name} again, which takes as long as many steps, for {shapes}")
        XlaRuntime.ended.add(name)
        XlaRuntime.compiled = compiled

    def compilations(self) -> int:
        compiled = xla_metrics.metric_data("CompileTime")
        return 0 if compiled is None else int(compiled[0])

    def _send(self, tensor: Tensor) -> Tensor:
        """A weight or a part of the optimizer's state, on every device."""
        sent = tensor.to(self.device.torch_device)
        # Marked as replicated explicitly: what a step returns carries this mark, and inputs without it would make the
        # first step a program of its own.
        spmd.mark_sharding(sent, self._mesh, (None,) * sent.ndim)
        return sent


class XlaAdamW(MasterAdamW):
    """MasterAdamW that reads no value back, and whose whole state exists before the first step.

    Fused AdamW does not exist on XLA; the capturable one computes its step count and learning rate on the device.
    A gradient that is not finite spoils the weights here, so whoever reads its norm has to stop the run.

    Args:
        send: puts a tensor of the host on the device. Weights are rounded before, on the host, so that nothing but
            the steps is compiled.
    """

    adamw_options: ClassVar[dict[str, Any]] = {"foreach": False, "capturable": True}

    def __init__(
        self,
        model: DoubleHeads,
        dtype: torch.dtype,
        weight_decay: float,
        max_grad_norm: float,
        send: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(model, dtype, weight_decay, max_grad_norm)
        self._model, self._send = model, send
        move(model, send)
        for weight, master in zip(self.weights, self.masters, strict=True):
            if master is not weight:
                swap(master, send(master.detach()))
            # Left to AdamW, these would be made within the first step, whose program would then differ from the
            # second's. The step count has shape [1]: XLA makes a 0 or 1 without a dimension a constant.
            self.adamw.state[master] = {
                "step": send(torch.zeros(1)),
                "exp_avg": send(torch.zeros(master.shape)),
                "exp_avg_sq": send(torch.zeros(master.shape)),
            }

    def step(self, learning_rate: float) -> Tensor:
        pairs = [(w, m) for w, m in zip(self.weights, self.masters, strict=True) if w.grad is not None]
        gradients = [weight.grad.float() for weight, _ in pairs if weight.grad is not None]
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        scale = self.max_grad_norm / norm.clamp(min=self.max_grad_norm)
        for (weight, master), gradient in zip(pairs, gradients, strict=True):
            weight.grad = None
            master.grad = gradient * scale
        rate = self._send(torch.tensor([learning_rate]))
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self._round_masters()
        for master in self.masters:
            master.grad = None
        return norm

    def state(self) -> dict[str, Any]:
        """As MasterAdamW's, on the host."""
        state: dict[str, Any] = tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, super().state())
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave by swapping tensors; copying values on the device would be one more program."""
        for weight, master, saved in zip(self.weights, self.masters, state["masters"], strict=True):
            for parameter in {weight, master}:
                swap(parameter, self._send(saved.to(parameter.dtype)))
        masters = [master for group in self.adamw.param_groups for master in group["params"]]
        for index, of_master in state["adamw"]["state"].items():
            self.adamw.state[masters[index]] = {name: self._send(value) for name, value in of_master.items()}

    def restore_masters(self) -> None:
        """Give the model its float32 weights back, on the host."""
        super().restore_masters()
        move(self._model, Tensor.cpu)


def move(model: nn.Module, send: Callable[[Tensor], Tensor]) -> None:
    """Put weights and buffers elsewhere. Parameters stay the same objects, so tied weights stay tied."""
    for parameter in model.parameters():
        swap(parameter, send(parameter.detach()))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = send(buffer)


def swap(parameter: nn.Parameter, data: Tensor) -> None:
    """Give a parameter other data, on another device too; it stays the same object."""
    torch.utils.swap_tensors(parameter, nn.Parameter(data, parameter.requires_grad))
