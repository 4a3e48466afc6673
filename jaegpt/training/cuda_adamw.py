"""AdamW without a look at any value, for steps that are recorded: one kernel per weight.

The learning rate is a tensor on the device, and a gradient that is not finite leaves the weights alone by arithmetic,
not by a branch.
"""

import jaegpt.environment  # noqa: F401

import os
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from jaegpt.training.devices import deterministic
from jaegpt.training.optimizer import MasterAdamW


class CudaAdamW(MasterAdamW):
    """MasterAdamW without a look at any value: one kernel per weight reads its gradient and leaves it rounded.

    A recorded step follows the learning rate, which is a tensor on the device. Where the gradient's norm is not finite,
    nothing changes; whoever fetches the norm has to stop.
    """

    adamw_options: ClassVar[dict[str, Any]] = {"foreach": False, "capturable": True}
    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, model: nn.Module, dtype: torch.dtype, weight_decay: float, max_grad_norm: float) -> None:
        super().__init__(model, dtype, weight_decay, max_grad_norm)
        device = self.masters[0].device
        self._update = update_for(device)
        self.rate = torch.zeros((), device=device)
        self.steps = torch.zeros((), device=device)
        for master in self.masters:
            self.adamw.state[master] = {"step": self.steps, **self.first_moments(master.data)}
        # Several weights of a model have one shape, so few kernels are compiled; which decay is in the groups.
        self._decay = {master: group["weight_decay"] for group in self.adamw.param_groups for master in group["params"]}

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> Tensor:
        if not isinstance(learning_rate, Tensor):
            learning_rate = self.rate.fill_(learning_rate)
        moved = [(w, m) for w, m in zip(self.weights, self.masters, strict=True) if w.grad is not None]
        gradients = [weight.grad for weight, _ in moved if weight.grad is not None]
        norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
        norm = torch.linalg.vector_norm(torch.stack(norms))
        fine = norm.isfinite()
        self.steps += fine
        decays = {decay: 1 - learning_rate * decay for decay in set(self._decay.values())}
        first, second = (1 - beta**self.steps for beta in self.betas)
        factors = Factors(
            clip=self.max_grad_norm / norm.clamp(min=self.max_grad_norm),
            rate=learning_rate / first,
            second=second.sqrt(),
            fine=fine,
        )
        for (weight, master), gradient in zip(moved, gradients, strict=True):
            weight.grad = None
            rounded = None if master is weight else weight.data.view(-1)
            decay = decays[self._decay[master]]
            self.move(master.data, rounded, gradient.reshape(-1), self.adamw.state[master], decay, factors)
        return norm

    def first_moments(self, master: Tensor) -> dict[str, Tensor]:
        """AdamW's moments of a weight before the first step."""
        return {name: torch.zeros_like(master) for name in ("exp_avg", "exp_avg_sq")}

    def move(
        self, master: Tensor, rounded: Tensor | None, gradient: Tensor, state: dict[str, Any], decay: Any, by: "Factors"
    ) -> None:
        """Update one weight, its rounded copy and its moments in place; `rounded` and `gradient` are flat."""
        kernel = self._update if master.numel() > 1 else update
        average, square = (state[name].view(-1) for name in ("exp_avg", "exp_avg_sq"))
        kernel(rounded, master.view(-1), gradient, average, square, decay, *by)

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave in place: a recorded step goes on with the same memory."""
        with torch.no_grad():
            for master, saved in zip(self.masters, state["masters"], strict=True):
                master.data.copy_(saved)
            masters = [master for group in self.adamw.param_groups for master in group["params"]]
            for index, of_master in state["adamw"]["state"].items():
                for name, value in of_master.items():
                    self.adamw.state[masters[index]][name].copy_(value)
        self._round_masters()


def may_compile() -> bool:
    """Whether the environment leaves the compiler to us: `JAEGPT_COMPILE=0` is for machines where it does not work.

    It chooses among kernels by timing them, and they sum in different orders: nothing for deterministic runs.
    """
    return os.environ.get("JAEGPT_COMPILE", "1") != "0" and not deterministic()


def update_for(device: torch.device) -> Callable[..., None]:
    """`update` as a device runs it best. On the CPU, where only tests come here, compiling costs more than it saves."""
    return torch.compile(update, dynamic=True) if device.type == "cuda" and may_compile() else update


class Factors(NamedTuple):
    """What all weights of a step share, scalars on the device.

    clip: what gradients are multiplied by. rate: the learning rate over the first moment's correction. second: the root
    of the second moment's correction. fine: whether the gradient is finite.
    """

    clip: Tensor
    rate: Tensor
    second: Tensor
    fine: Tensor


def update(
    rounded: Tensor | None, master: Tensor, gradient: Tensor, average: Tensor, square: Tensor, decay: Tensor,
    clip: Tensor, rate: Tensor, second: Tensor, fine: Tensor,
) -> None:  # fmt: skip
    """AdamW (Loshchilov and Hutter 2019) on one flattened weight, in place; `decay` is 1 - learning rate * decay."""
    first_beta, second_beta = CudaAdamW.betas
    found = gradient.float() * clip
    new_average = torch.lerp(average, found, 1 - first_beta)
    new_square = square * second_beta + found * found * (1 - second_beta)
    moved = master * decay - rate * new_average / (new_square.sqrt() / second + CudaAdamW.epsilon)
    average.copy_(torch.where(fine, new_average, average))
    square.copy_(torch.where(fine, new_square, square))
    master.copy_(torch.where(fine, moved, master))
    if rounded is not None:
        rounded.copy_(master)
