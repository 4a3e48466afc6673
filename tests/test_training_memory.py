"""What training does to need less memory: the same gradients from less that is kept."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.families import FAMILIES
from helpers.models import CPU, TRAIN_CONFIG, random_examples, recording_gradients, tiny_heads
from test_training_cuda import device_of
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaConfig, LlamaForCausalLM

from jaegpt.errors import JaegptError
from jaegpt.training import devices, memory
from jaegpt.training.config import Task
from jaegpt.training.cuda import decoder_layers
from jaegpt.training.distributed import Processes
from jaegpt.training.eight_bits import BYTES, SMALLEST
from jaegpt.training.four_bits import BITS, FourBitLinear, check_bits, hold_in_four_bits, unpacked
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters, merged
from jaegpt.training.memory import KEPT, PROGRAM, Load, needs
from jaegpt.training.model_folder import load_lm
from jaegpt.training.packing import Plan
from jaegpt.training.recomputing import recompute_layers
from jaegpt.use import steps
from jaegpt.use.cost import Disk, ModelShape

TESTS = Path(__file__).parent
TASK = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(30), valid=random_examples(9, seed=4))
VOCABULARY, HIDDEN, LAYERS = 97, 32, 8

FOUR_BITS = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the lock has bitsandbytes for Linux on x86-64"
)


def llama(hidden: int = HIDDEN) -> DoubleHeads:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    return DoubleHeads(LlamaForCausalLM(config), torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("lora_rank", "accumulation"), [(0, 1), (4, 1), (0, 3)])
def test_layers_computed_again_give_the_same_gradients(lora_rank: int, accumulation: int, tiny: Path) -> None:
    """To the bit, with dropout: what is drawn when a layer is computed again is what was drawn before."""
    logs, gradients = [], []
    for recomputing in (False, True):
        model = tiny_heads(tiny, dropout=True)
        if lora_rank:
            add_adapters(model, lora_rank, seed=7)
        config = dataclasses.replace(TRAIN_CONFIG, accumulation=accumulation, checkpoint_activations=recomputing)
        with pytest.MonkeyPatch.context() as patch:
            gradients.append(recording_gradients(patch, model))
            logs.append(train(model, TASK, config, CPU))
    assert len(gradients[0]) == len(gradients[1]) == 8
    assert logs[1].train == logs[0].train
    assert logs[1].valid == logs[0].valid
    assert logs[1].gradients == logs[0].gradients
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        assert len(found) >= 18
        assert found.keys() == expected.keys()
        assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())


def saved_bytes(model: DoubleHeads) -> tuple[int, int]:
    """Bytes that one step keeps for its backward pass, weights not counted, and tokens of the step."""
    (packed,) = Plan(TASK.train, [[list(range(8))]]).parts(0)
    batch = to_tensors(packed, CPU.torch_device, CPU.dtype)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(batch, 1.0, 0.5).weighted(1.0, 0.5)
    loss.backward()
    return sum(kept.values()), batch.ids.numel()


def test_of_layers_computed_again_only_what_goes_in_is_kept() -> None:
    plain, recomputed = llama(), llama()
    recompute_layers(recomputed.lm, "cpu")
    (before, tokens), (after, _) = saved_bytes(plain), saved_bytes(recomputed)
    # The hooks do not see the layers' inputs, which the checkpoints hold themselves.
    after += LAYERS * tokens * HIDDEN * 4
    layer = before / LAYERS
    assert tokens > 500
    assert layer > 10 * tokens * HIDDEN * 4
    assert after < 3 * layer, "the inputs, and what is kept outside of the layers"


def test_layers_are_those_that_read_text() -> None:
    """Not the longer list of what reads pictures: to compute these again would save nothing."""
    small = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    text = {**small, "vocab_size": 97, "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8}
    pictures = {**small, "num_hidden_layers": 5, "image_size": 28, "patch_size": 14}
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(Gemma3Config(text_config=text, vision_config=pictures))
    longest = max((module for module in lm.modules() if isinstance(module, torch.nn.ModuleList)), key=len)
    layers = decoder_layers(lm)
    assert len(longest) == 5
    assert len(layers) == 2
    assert all(hasattr(layer.self_attn, "k_norm") for layer in layers)


def test_where_layers_cannot_be_computed_again_it_is_refused() -> None:
    with pytest.raises(JaegptError, match=r"train\.checkpoint_activations: .*no list of layers"):
        recompute_layers(torch.nn.Linear(2, 2), "cpu")
    with pytest.raises(JaegptError, match=r"train\.checkpoint_activations: not on XLA.*train\.accumulation"):
        recompute_layers(llama().lm, "xla")


def with_adapters(family: str, tiny: Path) -> DoubleHeads:
    model = llama(hidden=256) if family == "llama" else tiny_heads(tiny, dropout=False)
    model.dropout = 0.0
    add_adapters(model, 4, seed=7)
    return model


@FOUR_BITS
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_base_in_four_bits_trains_as_its_unpacked_weights_do(family: str, tiny: Path) -> None:
    packed, plain = with_adapters(family, tiny), with_adapters(family, tiny)
    before = {name: weight.clone() for name, weight in plain.named_parameters()}
    hold_in_four_bits(packed.lm, CPU)
    layers = {name: layer for name, layer in packed.named_modules() if isinstance(layer, FourBitLinear)}
    assert len(layers) == (7 * LAYERS if family == "llama" else 8)
    for name, layer in layers.items():
        weight = unpacked(layer.packed, layer.scales, layer.shape, torch.float32)
        own = plain.get_submodule(name)
        own.weight.data = weight if isinstance(own, torch.nn.Linear) else weight.T.contiguous()
        rounding = (own.weight - before[f"{name}.weight"]).norm() / before[f"{name}.weight"].norm()
        assert 0.08 < rounding < 0.11, "the nearest of NF4's 16 values: .092 for a normal distribution"
        assert 8 * (layer.packed.nbytes + layer.scales.nbytes) == BITS * own.weight.numel()
    (batch,) = Plan(TASK.train, [[list(range(8))]]).parts(0)
    batch = to_tensors(batch, CPU.torch_device, CPU.dtype)
    losses = []
    for model in (packed, plain):
        # Adapters start as zero, and so would the gradient of one half of them.
        generator = torch.Generator().manual_seed(3)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        loss = model(batch, 1.0, 0.5).weighted(1.0, 0.5)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    gradients = [{n: w.grad for n, w in m.named_parameters() if w.requires_grad} for m in (packed, plain)]
    assert gradients[0].keys() == gradients[1].keys()
    assert sum("lora_" in name for name in gradients[0]) == 2 * len(layers)
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-7), name


@FOUR_BITS
def test_a_run_on_four_bits_learns_and_ends_in_the_unrounded_base(tiny: Path) -> None:
    model, before = tiny_heads(tiny), load_lm(tiny)
    adapters = add_adapters(model, 4, seed=7)
    config = dataclasses.replace(TRAIN_CONFIG, lora_rank=4, base_bits=4, checkpoint_activations=True)
    log = train(model, TASK, config, CPU)
    assert log.valid[-1][2] < log.valid[0][2]
    after = merged(adapters, load_lm(tiny))
    names = [name for name, weight in before.named_parameters() if weight.ndim == 2 and ".h." in name]
    assert len(names) == 8
    for name in names:
        moved = after.get_parameter(name) - before.get_parameter(name)
        assert torch.linalg.matrix_rank(moved, rtol=1e-4) <= 4, "adapters alone, no rounding"
    assert torch.equal(after.transformer.wte.weight, before.transformer.wte.weight)


def test_fewer_bits_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="base_bits 4 is for frozen weights, but lora_rank is 0"):
        dataclasses.replace(TRAIN_CONFIG, base_bits=4)
    with pytest.raises(ValueError, match=r"base_bits must be 16 .* or 4, found 8"):
        dataclasses.replace(TRAIN_CONFIG, base_bits=8, lora_rank=4)
    with pytest.raises(ValueError, match=r"adamw_bits must be 32 \(exact\) or 8, found 4"):
        dataclasses.replace(TRAIN_CONFIG, adamw_bits=4)
    four = dataclasses.replace(TRAIN_CONFIG, base_bits=4, lora_rank=4)
    eight = dataclasses.replace(TRAIN_CONFIG, adamw_bits=8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JaegptError, match=r"train\.base_bits: 4 needs the package bitsandbytes.*pip install -e"):
        check_bits(four, "cpu")
    with pytest.raises(JaegptError, match=r"train\.adamw_bits: 8 needs the package bitsandbytes.*or set it to 32"):
        check_bits(eight, "cpu")
    for kind in ("xla", "mps"):
        with pytest.raises(JaegptError, match=rf"train\.base_bits: 4 works on CPUs and CUDA GPUs only; .*on {kind}\."):
            check_bits(four, kind)
        with pytest.raises(JaegptError, match=rf"train\.adamw_bits: 8 works on .*on {kind}\. Set it to 32\."):
            check_bits(eight, kind)
        check_bits(TRAIN_CONFIG, kind)


def test_the_estimate_refuses_four_bits_as_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda precision: device_of(kind="mps"))
    config = dataclasses.replace(TRAIN_CONFIG, lora_rank=4, base_bits=4)
    params = SimpleNamespace(section=lambda *_: config, value={"model": "tiny", "w_mc": 0.5}.__getitem__)
    outlook = SimpleNamespace(work=lambda **_: SimpleNamespace(steps=1))
    content = {"dataset": {"learn": "sessions"}, "block_size": 64}
    with pytest.raises(JaegptError, match=r"train\.base_bits: 4 works on .*mps"):
        steps._cost_lines(params, content, outlook, None, 1_000)


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, float]]:
    """What trainings of small random models took, each in a process of its own, and what was counted for them.

    Started anew: a fork has what its parent had loaded and freed, which is no part of a training.
    """
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    found = {}
    for name in ("whole", "adapters", "recomputed"):
        command = [sys.executable, str(TESTS / "helpers/memory_script.py"), name]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from /proc")
def test_what_is_counted_is_what_a_training_takes(trained: dict[str, dict[str, float]]) -> None:
    """Within a quarter of what comes on top of the program as it begins: how badly freed memory fits what comes next is
    seen, not derived."""
    for name in ("whole", "adapters"):
        assert trained[name]["counted"] == pytest.approx(trained[name]["taken"], rel=0.25), name
    plain, recomputed = trained["adapters"], trained["recomputed"]
    counted, taken = (plain[name] - recomputed[name] for name in ("counted", "taken"))
    assert counted > 600e6
    assert 0.75 * counted / KEPT < taken < 1.25 * counted, "what layers keep, once to twice"


BASE = LlamaConfig(
    vocab_size=1_000, hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
LOAD = Load.about(tokens=2_000, labels=300, batch_size=20, example_tokens=100, example_labels=15)
LORA = dataclasses.replace(TRAIN_CONFIG, lora_rank=16)


def test_each_setting_needs_less_by_what_it_leaves_out() -> None:
    bf16, fp32 = device_of(torch.bfloat16), device_of(torch.float32)
    with torch.device("meta"):
        lm = LlamaForCausalLM(BASE)
    num_weights = sum(weight.numel() for weight in lm.parameters()) + 257  # and the classification head
    below = sum(layer.weight.numel() for layer in lm.model.modules() if isinstance(layer, torch.nn.Linear))
    whole, exact = needs(BASE, TRAIN_CONFIG, bf16, LOAD), needs(BASE, TRAIN_CONFIG, fp32, LOAD)
    assert (whole.weights, whole.optimizer) == (2 * num_weights, 12 * num_weights)
    assert (exact.weights, exact.optimizer) == (4 * num_weights, 8 * num_weights)
    assert whole.work > 4 * num_weights, "the gradients, and what is kept for them"
    adapted = needs(BASE, LORA, bf16, LOAD)
    adapters = (adapted.weights - whole.weights) / 2
    assert adapted.optimizer == 12 * (adapters + 257)
    packed = needs(BASE, dataclasses.replace(LORA, base_bits=4), bf16, LOAD)
    assert adapted.weights - packed.weights == below * (2 - BITS / 8)
    eight = needs(BASE, dataclasses.replace(TRAIN_CONFIG, adamw_bits=8), bf16, LOAD)
    small = sum(weight.numel() for weight in lm.parameters() if weight.numel() < SMALLEST) + 257
    assert eight.weights == whole.weights
    assert eight.optimizer == pytest.approx(4 * num_weights + 8 * small + 2 * BYTES * (num_weights - small), rel=1e-6)
    assert whole.optimizer - eight.optimizer > 5.9 * (num_weights - small)
    parts = needs(BASE, dataclasses.replace(LORA, accumulation=4), bf16, LOAD)
    recomputed = needs(BASE, dataclasses.replace(LORA, checkpoint_activations=True), bf16, LOAD)
    assert parts.work < adapted.work / 2
    assert recomputed.work < adapted.work / 2
    assert packed.work >= adapted.work
    on_cpu = needs(BASE, LORA, CPU, LOAD)
    assert on_cpu.program == PROGRAM
    assert on_cpu.work >= 4 * num_weights - 4 * 257, "the base that adapters are merged into"


@pytest.mark.parametrize(
    ("available", "said"),
    [
        (1e12, ["about 0.2 GB (", "1,000.0 GB are on the card"]),
        (1.0e8, ["which is not enough. Enough would be:", "train.checkpoint_activations: true: 0.1 GB"]),
        (1e6, ["Not even this is: ", "train.base_bits: 4", "Take a smaller base model."]),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(
    available: float, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(available))
    lines = memory.memory_lines(BASE, TRAIN_CONFIG, device_of(torch.bfloat16), LOAD)
    assert all(any(part in line for line in lines) for part in said), lines
    assert any("not enough" in line for line in lines) == (available < 1e12)
    assert "the host" in lines[-1] or "the host" in lines[1]


EXPERTS = [name for name, base in FAMILIES.items() if base.model_type in ("mixtral", "olmoe", "qwen3_moe")]
LATENT = [name for name, base in FAMILIES.items() if base.model_type.startswith("deepseek")]
assert len(EXPERTS + LATENT) == 5


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("family", [*EXPERTS, *LATENT, "Qwen 2, 2.5"])
def test_families_are_counted_in_either_precision(family: str, kind: str) -> None:
    """Experts, whose products are refused on tensors without storage; values narrower than queries."""
    base = FAMILIES[family]
    with torch.device("meta"):
        num_weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(base).parameters())
    load = Load.about(tokens=300, labels=60, batch_size=8, example_tokens=40, example_labels=10)
    exact, rounded = (
        needs(base, TRAIN_CONFIG, device_of(dtype, kind), load) for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact.weights == 2 * rounded.weights
    assert 4 * num_weights < rounded.work < exact.work, "the gradients of a step, and its activations"


def test_moments_of_8_bits_are_proposed_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = needs(BASE, TRAIN_CONFIG, device_of(torch.bfloat16), LOAD).total
    eight = needs(BASE, dataclasses.replace(TRAIN_CONFIG, adamw_bits=8), device_of(torch.bfloat16), LOAD).total
    assert eight < needed
    monkeypatch.setattr(memory, "available_bytes", lambda device: eight)
    assert "train.adamw_bits: 8:" in " ".join(memory.memory_lines(BASE, TRAIN_CONFIG, device_of(torch.bfloat16), LOAD))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1_000_000)
    assert "adamw_bits" not in " ".join(memory.memory_lines(BASE, TRAIN_CONFIG, CPU, LOAD))
    adapted = " ".join(memory.memory_lines(BASE, LORA, device_of(torch.bfloat16), LOAD))
    assert "adamw_bits" not in adapted, "adapters have few moments"


def test_a_model_that_cannot_be_counted_is_trained_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors\nat some place")

    monkeypatch.setattr(memory, "_step", refused)
    (line,) = memory.memory_lines(BASE, TRAIN_CONFIG, CPU, LOAD)
    assert line == (
        "what it takes in memory could not be counted for this model (RuntimeError: Tensor.item() cannot be called on "
        "meta tensors)"
    )


def test_settings_that_a_model_does_not_have_are_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lm: object, kind: str) -> None:
        raise JaegptError("train.checkpoint_activations: this base model has no list of layers. Set it to false.")

    monkeypatch.setattr(memory, "recompute_layers", refuse)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1_000_000)
    text = " ".join(memory.memory_lines(BASE, TRAIN_CONFIG, device_of(torch.bfloat16), LOAD))
    assert "Not even this is: train.lora_rank: 16, train.base_bits: 4 (" in text
    assert "checkpoint_activations" not in text
    with pytest.raises(JaegptError, match="no list of layers"):
        memory.memory_lines(BASE, dataclasses.replace(LORA, checkpoint_activations=True), CPU, LOAD)


def test_an_apple_gpu_shares_the_memory_of_the_machine() -> None:
    mps, cuda, cpu = (needs(BASE, LORA, device_of(kind=kind), LOAD) for kind in ("mps", "cuda", "cpu"))
    assert (mps.program, mps.host) == (cpu.program, cpu.host) == (PROGRAM, 0)
    assert (cuda.program, cuda.host) == (0, cuda.host)
    assert cuda.host > PROGRAM
    laid_out = {kind: memory._placed(device_of(kind=kind), LOAD.valid) for kind in ("mps", "cuda")}
    assert laid_out["mps"].segments is not None, "as the CPU has them"
    assert laid_out["cuda"].segments is None
    assert memory.available_bytes(device_of(kind="mps")) == memory.available_bytes(CPU)


def test_xla_is_not_compared_with_the_memory_of_the_host() -> None:
    first, *others = memory.memory_lines(BASE, TRAIN_CONFIG, device_of(torch.bfloat16, "xla"), LOAD)
    assert first.startswith("about 0.2 GB (")
    assert first.endswith(" on each device, whose memory is not known here")
    assert len(others) == 1
    assert "of the host's" in others[0]


def test_each_device_has_its_share_of_a_step() -> None:
    alone = device_of(torch.bfloat16)
    four = dataclasses.replace(alone, num_devices=4, processes=Processes(rank=0, count=4))
    one, shared = (needs(BASE, LORA, device, LOAD) for device in (alone, four))
    parts = needs(BASE, dataclasses.replace(LORA, accumulation=4), alone, LOAD)
    assert shared.work == pytest.approx(parts.work, rel=0.05)
    assert shared.work < one.work / 2
    assert shared.optimizer == one.optimizer


def test_a_checkpoint_of_adapters_is_small() -> None:
    shape = ModelShape.of(BASE)
    whole, adapted = Disk.of(shape, 1_000, 0), Disk.of(shape, 1_000, 16)
    assert whole.after == adapted.after == 8 * shape.num_weights + 6_000
    assert whole.most - whole.after == 12 * shape.num_weights
    assert 0 < adapted.most - adapted.after < (whole.most - whole.after) / 5
