"""Norms and activations whose operations are done in fewer: the same values, gradients and weights."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.activations import NewGELUActivation
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from jaegpt.training.fused import RmsNorm, _Norm, fuse


def norm(size: int, dtype: torch.dtype) -> LlamaRMSNorm:
    module = LlamaRMSNorm(size)
    module.weight.data = torch.randn(size)
    return module.to(dtype)


def test_the_norm_written_out_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    assert torch.autograd.gradcheck(_Norm.apply, (states.requires_grad_(), weight.requires_grad_(), 1e-5))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_equals_the_norm_it_replaces(dtype: torch.dtype, close: float) -> None:
    torch.manual_seed(1)
    theirs, ours = norm(64, dtype), RmsNorm(norm(64, dtype))
    ours.weight.data = theirs.weight.data.clone()
    gradient, found = torch.randn(3, 40, 64).to(dtype), []
    for module in (theirs, ours):
        states = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
        output = module(states)
        output.backward(gradient)
        found.append((output, states.grad, module.weight.grad))
    for name, expected, got in zip(("output", "states", "weight"), *found, strict=True):
        assert got.dtype == dtype
        # Relative to the largest, as sums over tokens cancel; 2 in 100 are 5 roundings of bf16.
        assert (got - expected).abs().max() <= close * expected.abs().max(), name


def test_what_is_replaced_keeps_its_weights_and_their_names() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
    fused = copy.deepcopy(plain)
    fuse(fused)
    norms = [module for module in fused.modules() if isinstance(module, RmsNorm)]
    assert len(norms) == 2 * plain.config.num_hidden_layers + 1
    assert not any(isinstance(module, LlamaRMSNorm) for module in fused.modules())
    before, after = plain.state_dict(), fused.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_norms_of_another_formula_stay() -> None:
    lm = nn.ModuleDict({"norm": GemmaRMSNorm(16), "activation": NewGELUActivation()})
    fuse(lm)
    assert isinstance(lm["norm"], GemmaRMSNorm)
    assert isinstance(lm["activation"], nn.GELU)
