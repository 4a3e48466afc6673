"""AdamW on float32 weights while the model computes in bf16, with clipping and linear warmup and decay."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from jaegpt.training.heads import round_weights

_PIECE = 2**20  # weights updated at a time on a CPU; their gradients and masters fit its cache


class MasterAdamW:
    """AdamW (Loshchilov and Hutter 2019) whose weights stay in float32 whatever precision the model has.

    bf16 has 8 bits of mantissa: a step of 1e-5 on a weight of 0.1 would be rounded away. So the optimizer moves float32
    masters, and the model's weights are their rounded copies. In float32 the weights are masters themselves.

    Args:
        model: in float32; its weights are rounded to `dtype`.
    """

    adamw_options: ClassVar[dict[str, Any]] = {"fused": True}

    def __init__(self, model: nn.Module, dtype: torch.dtype, weight_decay: float, max_grad_norm: float) -> None:
        self.max_grad_norm = max_grad_norm
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        assert all(weight.dtype == torch.float32 for weight in self.weights)
        rounds = dtype != torch.float32
        self.masters = [nn.Parameter(weight.data) if rounds else weight for weight in self.weights]
        round_weights(model, dtype)  # gives each weight new data; the masters keep the old
        # Vectors (biases, norms) are not decayed: shrinking a scale or an offset is no regularization.
        groups = [
            {"params": [master for master in self.masters if master.ndim > 1], "weight_decay": weight_decay},
            {"params": [master for master in self.masters if master.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, **self.adamw_options)

    def step(self, learning_rate: float) -> float | Tensor:
        """One update from the gradients of the model's weights, which are then dropped. Returns their norm, unclipped.

        A norm that is not finite changes nothing: the caller decides what to do.
        """
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if torch.isfinite(norm):
            # The fused kernel divides gradients by this as it reads them, which saves clipping a pass of its own.
            scale = (norm.float() / self.max_grad_norm).clamp(min=1.0)
            weight_of = dict(zip(self.masters, self.weights, strict=True))
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate
                for master in group["params"]:
                    if (gradient := weight_of[master].grad) is not None:
                        self._update(weight_of[master], gradient, master, group, scale)
        # Nothing is kept for the next step: its activations need the memory.
        for weight in self.weights:
            weight.grad = None
        return float(norm)

    @torch.no_grad()
    def _update(self, weight: Tensor, gradient: Tensor, master: Tensor, group: dict[str, Any], scale: Tensor) -> None:
        """One weight's update, which is bound by memory: so a CPU makes the gradient's float32 copy, the update and the
        rounding of one piece while it is in the cache, not one after the other over all weights."""
        state = self.adamw.state[master]
        if not state:
            state["step"] = torch.zeros((), device=master.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(master), torch.zeros_like(master)
        flat = [tensor.view(-1) for tensor in (master, weight, *(state[name] for name in ("exp_avg", "exp_avg_sq")))]
        size = _PIECE if weight is not master and master.device.type == "cpu" else master.numel()
        state["step"] += 1
        beta1, beta2 = group["betas"]
        pieces = (tensor.split(size) for tensor in (gradient.reshape(-1), *flat))
        for of_gradient, of_master, of_weight, mean, square in zip(*pieces, strict=True):
            torch._fused_adamw_(
                [of_master], [of_gradient.float()], [mean], [square], [], [state["step"]],
                lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
                amsgrad=False, maximize=False, grad_scale=scale,
            )  # fmt: skip
            if weight is not master:
                of_weight.copy_(of_master)

    def state(self) -> dict[str, Any]:
        """Everything a run needs to go on: the masters, and AdamW's moments and step counts."""
        return {"masters": [master.data for master in self.masters], "adamw": self.adamw.state_dict()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave; the model's weights follow."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.data.copy_(saved)
        self.adamw.load_state_dict(state["adamw"])
        self._round_masters()

    @torch.no_grad()
    def restore_masters(self) -> None:
        """Give the model its float32 weights back, unrounded."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.data = master.data

    @torch.no_grad()
    def _round_masters(self) -> None:
        pairs = [(w, m) for w, m in zip(self.weights, self.masters, strict=True) if m is not w]
        if pairs:
            torch._foreach_copy_([weight for weight, _ in pairs], [master for _, master in pairs])


def learning_rate_at(step: int, num_steps: int, peak: float, warmup: float) -> float:
    """Linear warmup over the share `warmup` of the steps, then linear decay to zero; `step` counts from 0."""
    num_warmup = int(warmup * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    return peak * (num_steps - step) / max(1, num_steps - num_warmup)
