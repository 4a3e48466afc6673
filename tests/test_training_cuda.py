"""The recorded step of CUDA trains as the plain one does. The CPU cannot record: each replay runs it again."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers.models import TRAIN_CONFIG, random_examples
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from jaegpt.training import cuda
from jaegpt.training.config import Task
from jaegpt.training.cuda import CudaRuntime, to_device, unrecorded
from jaegpt.training.cuda_adamw import CudaAdamW, update, update_for
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads, decoder_layers, to_tensors
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Plan
from jaegpt.training.runtime import Runtime

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
VOCABULARY = 97


def device_of(dtype: torch.dtype = torch.float32, kind: str = "cuda") -> Device:
    return Device(kind=kind, torch_device=DEVICE, num_devices=1, dtype=dtype, reason="test")


def heads(family: str = "llama") -> DoubleHeads:
    torch.manual_seed(1)
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_positions=128, n_embd=32, n_layer=3, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        lm = GPT2LMHeadModel(config)
    else:
        make, kind = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}[family]
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
        lm = make(kind(**sizes, **heads, tie_word_embeddings=True))
    model = DoubleHeads(lm, torch.Generator().manual_seed(2))
    model.dropout = 0.0
    return model


def weights_after(
    model: DoubleHeads, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, **changes: object
) -> tuple[dict[str, torch.Tensor], list[float], dict[str, object]]:
    """All weights after a short training with this runtime, its losses, and its figures."""
    monkeypatch.setattr("jaegpt.training.loop.runtime_of", lambda device: runtime)
    monkeypatch.setattr("jaegpt.training.validation.runtime_of", lambda device: runtime)
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(90), valid=random_examples(9, seed=4))
    config = dataclasses.replace(TRAIN_CONFIG, batch_size=6, learning_rate=1e-3, epochs=1, **changes)
    log = train(model, task, config, runtime.device)
    weights = {name: weight.detach().cpu() for name, weight in model.named_parameters()}
    return weights, [row[2] for row in log.train], log.figures


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], start: DoubleHeads) -> None:
    """The same way gone from the first weights, but for rounding."""
    first = {name: weight.detach().cpu() for name, weight in start.named_parameters()}
    assert len(found) > 10
    for name, weight in found.items():
        # A softmax does not see what all its scores share, so these gradients are rounding noise, which AdamW enlarges.
        if name == "score.bias" or name.endswith(("k_proj.bias", "c_attn.bias")):
            continue
        way = (expected[name] - first[name]).norm()
        assert (weight - expected[name]).norm() <= 2e-2 * way + 1e-6, name


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("lora", [False, True])
def test_recorded_training_equals_plain_training(family: str, lora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = heads(family)
    if lora:
        add_adapters(model, 4, 0)
    start = copy.deepcopy(model)
    expected, plain_losses, _ = weights_after(copy.deepcopy(model), Runtime(device_of()), monkeypatch)
    runtime = CudaRuntime(device_of(), compiles=False, records=HAS_GPU)
    runtime.records = True  # on the CPU the recording is run again each time
    if not HAS_GPU:
        monkeypatch.setattr("jaegpt.training.cuda.record", lambda run: run)
    found, losses, figures = weights_after(model, runtime, monkeypatch)
    assert len(losses) == 15
    assert losses == pytest.approx(plain_losses, rel=2e-3)
    assert figures["compilations"] == 1
    assert_alike(found, expected, start)


@pytest.mark.parametrize(("lora", "recomputing"), [(False, False), (True, False), (True, True)])
def test_a_compiled_layer_serves_all_layers_and_changes_nothing(
    lora: bool, recomputing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model = heads("llama")
    if lora:
        add_adapters(model, 4, 0)
    start = copy.deepcopy(model)
    expected, plain_losses, _ = weights_after(copy.deepcopy(model), Runtime(device_of()), monkeypatch)
    runtime = CudaRuntime(device_of(), compiles=True, records=HAS_GPU)
    found, losses, _ = weights_after(model, runtime, monkeypatch, checkpoint_activations=recomputing)
    assert losses == pytest.approx(plain_losses, rel=2e-3)
    assert_alike(found, expected, start)
    assert runtime.recorded[0]._layers, "the compiler took them"
    # Under LoRA the first layer's input needs no gradient, and is a program of its own; on CUDA the update is one, too.
    assert 1 <= counters["stats"]["unique_graphs"] <= 2 + 2 * HAS_GPU
    assert not any(layer._compiled_call_impl for layer in decoder_layers(model.lm)), "validation runs uncompiled"


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_compiled_layers_give_the_losses_and_gradients_of_plain_ones(family: str) -> None:
    (packed,) = Plan.training(random_examples(12), batch_size=12, pack_width=200, seed=1).parts(0)
    batch = to_device(packed, DEVICE)
    found = []
    for compiles in (False, True):
        torch._dynamo.reset()
        model = heads(family).to(DEVICE)
        for layer in decoder_layers(model.lm) if compiles else []:
            layer.compile(dynamic=False)
        losses = model(batch, 1.0, 0.5)
        losses.weighted(1.0, 0.5).backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        found.append((losses.lm.item(), losses.mc.item(), gradients))
    (lm, mc, expected), (compiled_lm, compiled_mc, gradients) = found
    assert (compiled_lm, compiled_mc) == (pytest.approx(lm, rel=1e-5), pytest.approx(mc, rel=1e-5))
    assert len(expected) > 20
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).abs().max() < 1e-5 * largest, name


def test_a_step_that_asks_for_a_value_is_not_recorded_and_trains_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = heads("llama")
    expected, plain_losses, _ = weights_after(copy.deepcopy(start), Runtime(device_of()), monkeypatch)
    model, watched = copy.deepcopy(start), []

    def ask(*_: object) -> None:
        if watched and not HAS_GPU:  # a GPU refuses by itself
            raise RuntimeError("called a synchronizing operation")
        model.score.weight.sum().item()

    @contextmanager
    def watching(_: torch.device) -> Iterator[None]:
        watched.append(True)
        try:
            yield
        finally:
            watched.pop()

    model.lm.model.norm.register_forward_hook(ask)
    if not HAS_GPU:
        monkeypatch.setattr(cuda, "asking_nothing", watching)
        monkeypatch.setattr(cuda, "record", lambda run: run)
    runtime = CudaRuntime(device_of(), compiles=False, records=True)
    found, losses, _ = weights_after(model, runtime, monkeypatch)
    assert capsys.readouterr().out.count("cannot be recorded") == 1
    assert runtime.recorded[0]._record is unrecorded
    assert losses == pytest.approx(plain_losses, rel=2e-3)
    assert_alike(found, expected, start)


def test_where_the_compiler_is_turned_off_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAEGPT_COMPILE", raising=False)
    assert CudaRuntime(device_of()).compiles
    assert update_for(torch.device("cuda")) is not update
    monkeypatch.setenv("JAEGPT_COMPILE", "0")
    assert not CudaRuntime(device_of()).compiles
    assert update_for(torch.device("cuda")) is update


def test_several_parts_add_up_in_a_recorded_step(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _, _ = weights_after(heads(), Runtime(device_of()), monkeypatch)
    runtime = CudaRuntime(device_of(), compiles=False, records=HAS_GPU)
    found, _, _ = weights_after(heads(), runtime, monkeypatch, accumulation=2)
    assert_alike(found, expected, heads())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_update_equals_torchs_adamw(dtype: torch.dtype) -> None:
    plain, own = (heads().to(DEVICE) for _ in range(2))
    optimizers = MasterAdamW(plain, dtype, 0.1, 1.0), CudaAdamW(own, dtype, 0.1, 1.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        for weight, same in zip(plain.parameters(), own.parameters(), strict=True):
            gradient = torch.randn(weight.shape, generator=generator) * 10.0 ** (step - 2)
            weight.grad, same.grad = (gradient.to(DEVICE, dtype, copy=True) for _ in range(2))
        norms = [float(optimizer.step(1e-3)) for optimizer in optimizers]
        assert norms[1] == pytest.approx(norms[0], rel=1e-2 if dtype == torch.bfloat16 else 1e-5)
        assert all(weight.grad is None for weight in own.parameters())
    tolerance = 1e-5 if dtype == torch.float32 else 2e-5  # the norm that clips is rounded to bf16 by the plain one
    for one, other in zip(optimizers[0].masters, optimizers[1].masters, strict=True):
        assert (one - other).abs().max() < tolerance
    assert all(torch.equal(w, m.to(dtype)) for w, m in zip(own.parameters(), optimizers[1].masters, strict=True))
    assert int(optimizers[1].steps) == 5


def test_a_gradient_that_is_not_finite_leaves_everything_as_it_was() -> None:
    model = heads().to(DEVICE)
    optimizer = CudaAdamW(model, torch.bfloat16, 0.1, 1.0)
    for value in (1.0, float("nan")):
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, value)
        before = copy.deepcopy(optimizer.state())
        norm = optimizer.step(1e-3)
    assert not torch.isfinite(norm)
    after = optimizer.state()
    assert all(torch.equal(one, other) for one, other in zip(before["masters"], after["masters"], strict=True))
    for index, state in before["adamw"]["state"].items():
        assert all(torch.equal(value, after["adamw"]["state"][index][name]) for name, value in state.items())


def test_the_state_is_taken_up_again() -> None:
    def gradients(model: DoubleHeads, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator).to(DEVICE, weight.dtype)

    whole, half = (heads().to(DEVICE) for _ in range(2))
    straight, first = (CudaAdamW(model, torch.bfloat16, 0.1, 1.0) for model in (whole, half))
    for seed in range(4):
        gradients(whole, seed)
        straight.step(1e-3)
    for seed in range(2):
        gradients(half, seed)
        first.step(1e-3)
    state = copy.deepcopy(first.state())
    again = heads().to(DEVICE)
    second = CudaAdamW(again, torch.bfloat16, 0.1, 1.0)
    second.load_state(state)
    for seed in range(2, 4):
        gradients(again, seed)
        second.step(1e-3)
    assert all(torch.equal(one, other) for one, other in zip(straight.masters, second.masters, strict=True))


def test_a_batch_travels_whole() -> None:
    examples = random_examples(20)
    (packed,) = Plan.training(examples, batch_size=20, pack_width=200, seed=1).parts(0)
    expected, found = to_tensors(packed, DEVICE, torch.float32, fixed_shapes=True), to_device(packed, DEVICE)
    for name, tensor in expected._asdict().items():
        assert (tensor is None and name == "segments") or torch.equal(tensor, getattr(found, name)), name


def test_frozen_weights_are_rounded_before_they_are_placed() -> None:
    model = heads("llama")
    add_adapters(model, 4, 0)
    optimizer = CudaRuntime(device_of(torch.bfloat16), compiles=False, records=False).optimizer(model, 0.0, 1.0)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert {master.dtype for master in optimizer.masters} == {torch.float32}
    assert np.all([weight.device.type == DEVICE.type for weight in model.parameters()])


@pytest.mark.skipif(not HAS_GPU, reason="no CUDA GPU")
@pytest.mark.parametrize("lora", [False, True])
def test_on_a_gpu_a_recorded_bf16_run_gives_the_same_losses_as_a_plain_one(
    lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = heads("llama")
    if lora:
        add_adapters(model, 4, 0)
    _, plain, _ = weights_after(copy.deepcopy(model), Runtime(device_of(torch.bfloat16)), monkeypatch)
    runtime = CudaRuntime(device_of(torch.bfloat16), compiles=True)
    _, losses, figures = weights_after(model, runtime, monkeypatch)
    assert figures["compilations"] == 1
    assert losses == pytest.approx(plain, rel=2e-2)


@pytest.mark.skipif(not HAS_GPU, reason="no CUDA GPU")
def test_on_a_gpu_dropout_follows_the_steps_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(seed: int) -> list[float]:
        model = heads("gpt2")
        model.dropout = 0.5
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        runtime = CudaRuntime(device_of(), compiles=False)
        monkeypatch.setattr(runtime, "seed", lambda number: torch.manual_seed(number + seed))
        return weights_after(model, runtime, monkeypatch)[1]

    first, same, other = losses(0), losses(0), losses(1)
    assert first == pytest.approx(same, rel=1e-4)
    assert first != pytest.approx(other, rel=1e-3)
