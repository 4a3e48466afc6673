"""AdamW on float32 weights while the model computes in bf16, with clipping and linear warmup and decay."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from jaegpt.training.heads import round_weights


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
            for weight, master in zip(self.weights, self.masters, strict=True):
                if master is not weight and weight.grad is not None:
                    master.grad, weight.grad = weight.grad.float(), None
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate
            # Clipping for free: the fused kernel divides gradients by this as it reads them. It is meant for loss
            # scaling, and `found_inf` would make it skip the step; that a gradient is finite was checked above.
            self.adamw.grad_scale = (norm.float() / self.max_grad_norm).clamp(min=1.0)  # type: ignore[attr-defined]
            self.adamw.found_inf = torch.zeros_like(self.adamw.grad_scale)  # type: ignore[attr-defined]
            self.adamw.step()
            self._round_masters()
        # Gradients are freed now and not in the next step, whose activations need the memory.
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.grad = master.grad = None
        return float(norm)

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
