"""What training does to need less memory: the same gradients from less that is kept."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples, recording_gradients, tiny_heads
from test_training_cuda import device_of
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from jaegpt.errors import JaegptError
from jaegpt.training import memory
from jaegpt.training.config import Task
from jaegpt.training.four_bits import BITS, FourBitLinear, check_four_bits, hold_in_four_bits, unpacked
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters, merged
from jaegpt.training.memory import PROGRAM, Load, needs
from jaegpt.training.model_folder import load_lm
from jaegpt.training.packing import Plan
from jaegpt.training.recomputing import recompute_layers
from jaegpt.use.cost import Disk, ModelShape

TESTS = Path(__file__).parent
TASK = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(30), valid=random_examples(9, seed=4))
VOCABULARY, HIDDEN, LAYERS = 97, 32, 8


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


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_base_in_four_bits_trains_as_its_unpacked_weights_do(family: str, tiny: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the optional package bitsandbytes is not installed")
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


def test_a_run_on_four_bits_learns_and_ends_in_the_unrounded_base(tiny: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the optional package bitsandbytes is not installed")
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


def test_four_bits_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="base_bits 4 is for frozen weights, but lora_rank is 0"):
        dataclasses.replace(TRAIN_CONFIG, base_bits=4)
    with pytest.raises(ValueError, match=r"base_bits must be 16 .* or 4, found 8"):
        dataclasses.replace(TRAIN_CONFIG, base_bits=8, lora_rank=4)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JaegptError, match=r"train\.base_bits: 4 needs the package bitsandbytes.*pip install -e"):
        check_four_bits("cpu")
    with pytest.raises(JaegptError, match=r"train\.base_bits: .*XLA"):
        check_four_bits("xla")


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, float]]:
    """What trainings of small random models took, each in a process of its own, and what was counted for them."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "MALLOC_MMAP_THRESHOLD_": "65536",  # freed tensors go back at once; the small ones here would be kept otherwise
    }  # fmt: skip
    found = {}
    for name in ("whole", "adapters", "recomputed"):
        command = [sys.executable, str(TESTS / "helpers/memory_script.py"), name]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from /proc")
def test_what_is_counted_is_what_a_training_takes(trained: dict[str, dict[str, float]]) -> None:
    """Within a quarter: libraries keep buffers of their own, some for each shape, which nothing counts.

    In models as small as these that is as much as the weights, so it is part of what is compared; what layers keep is
    compared alone, as the difference between keeping it and computing it again.
    """
    for name, found in trained.items():
        assert found["total"] == pytest.approx(found["peak"], rel=0.25), name
    plain, recomputed = trained["adapters"], trained["recomputed"]
    assert plain["total"] - recomputed["total"] > 300e6
    assert plain["total"] - recomputed["total"] == pytest.approx(plain["peak"] - recomputed["peak"], rel=0.25)


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
        (1e12, ["at most"]),
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
    assert "the host" in lines[-1] or "the host" in lines[1]


def test_a_checkpoint_of_adapters_is_small() -> None:
    shape = ModelShape.of(BASE)
    whole, adapted = Disk.of(shape, 1_000, 0), Disk.of(shape, 1_000, 16)
    assert whole.after == adapted.after == 8 * shape.num_weights + 6_000
    assert whole.most - whole.after == 12 * shape.num_weights
    assert 0 < adapted.most - adapted.after < (whole.most - whole.after) / 5
