"""Running a model on tensors that have shapes and no storage (torch's `meta` device), to count what it would take."""

import jaegpt.environment  # noqa: F401

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


def most_held(model: nn.Module, run: Callable[[], None]) -> int:
    """The most bytes that `run` would hold at the same time, weights not counted."""
    with on_shapes(), Live(model) as live:
        run()
    for weight in model.parameters():
        weight.grad = None
    return live.most


class Live(TorchDispatchMode):
    """Adds up the storages that operations bring about, from their birth to their end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: Any = WeakIdKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._ended, storage.nbytes())
        return results

    def _ended(self, num_bytes: int) -> None:
        self.now -= num_bytes


@contextmanager
def on_shapes() -> Iterator[None]:
    """Operations that the cards and the CPU have a kernel for and `meta` has not.

    Attention under a dense mask keeps its inputs and its result; `meta` would keep every score. Products of experts
    are refused on `meta` in float32. Replaced by name: layers are computed again in another thread, which sees no mode.
    """
    replaced: list[tuple[Any, str, Any]] = [
        (functional, "scaled_dot_product_attention", lambda q, k, v, *_, **__: _Attention.apply(q, k, v)),
        (functional, "grouped_mm", lambda tokens, weights, *_, **__: _Experts.apply(tokens, weights)),
        (torch, "_grouped_mm", lambda tokens, weights, *_, **__: _Experts.apply(tokens, weights)),  # of torch < 2.10
    ]
    with ExitStack() as stack:
        for module, name, stand_in in replaced:
            if hasattr(module, name):
                stack.enter_context(patch.object(module, name, stand_in))
        yield


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, mixed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _Experts(torch.autograd.Function):
    """Tokens [tokens, inputs], each times the matrix of its expert: weights [experts, inputs, outputs]."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, weights)
        return tokens.new_empty(tokens.shape[0], weights.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        made = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        of_tokens, of_weights = (torch.empty_like(saved) if needed else None for saved, needed in made)
        return of_tokens, of_weights
