"""`train.adamw_bits: 8`: AdamW whose moments are kept in 8 bits."""

import copy
import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from jaegpt.training import eight_bits
from jaegpt.training.config import Task
from jaegpt.training.eight_bits import BLOCK, BYTES, SMALLEST, EightBitAdamW
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.loop import train
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.use import cost

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the package bitsandbytes is not installed"
)
SIZES = {"large": (80, 60), "odd": (4_999,), "small": (70,)}


def layers() -> nn.ParameterDict:
    generator = torch.Generator().manual_seed(0)
    return nn.ParameterDict({name: torch.randn(size, generator=generator) for name, size in SIZES.items()})


def give_gradients(model: nn.Module, seed: int, dtype: torch.dtype = torch.float32) -> None:
    """Of sizes that differ by two orders of magnitude within a block."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        sizes = 10.0 ** torch.randint(-2, 1, weight.shape, generator=generator)
        weight.grad = (torch.randn(weight.shape, generator=generator) * sizes).to(dtype)


def heads() -> DoubleHeads:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    model = DoubleHeads(LlamaForCausalLM(config), torch.Generator().manual_seed(2))
    model.dropout = 0.0
    return model


def test_a_step_is_adamw_on_moments_as_bitsandbytes_packs_them() -> None:
    import bitsandbytes.functional as bits

    model = layers()
    optimizer = EightBitAdamW(model, torch.float32, 0.0, 1e9)
    expected = {name: weight.detach().clone() for name, weight in model.items()}
    kept = {name: [torch.zeros(weight.numel()) for _ in range(2)] for name, weight in model.items()}
    maps = [bits.create_dynamic_map(signed=signed) for signed in (True, False)]
    for step in range(1, 6):
        give_gradients(model, step)
        for name, weight in model.items():
            gradient, moments = weight.grad.flatten(), kept[name]
            moments[0] = 0.9 * moments[0] + 0.1 * gradient
            moments[1] = 0.999 * moments[1] + 0.001 * gradient**2
            root = moments[1].sqrt() / (1 - 0.999**step) ** 0.5
            expected[name] -= (1e-3 * moments[0] / (1 - 0.9**step) / (root + 1e-8)).view(weight.shape)
            if name != "small":
                packed = [
                    bits.quantize_blockwise(m, code=c, blocksize=BLOCK) for m, c in zip(moments, maps, strict=True)
                ]
                kept[name] = [bits.dequantize_blockwise(*one) for one in packed]
        optimizer.step(1e-3)
        for name, weight in model.items():
            assert torch.allclose(weight, expected[name], atol=1e-5), (name, step)


def test_moments_take_two_bytes_and_a_step_stays_near_the_exact_one() -> None:
    packed, exact = layers(), layers()
    optimizers = EightBitAdamW(packed, torch.float32, 0.0, 1e9), MasterAdamW(exact, torch.float32, 0.0, 1e9)
    start = {name: weight.detach().clone() for name, weight in packed.items()}
    for step in range(20):
        for model, optimizer in zip((packed, exact), optimizers, strict=True):
            give_gradients(model, step)
            optimizer.step(1e-3)
    for name, weight in packed.items():
        state = optimizers[0].adamw.state[weight]
        took = sum(value.nbytes for key, value in state.items() if key != "step")
        blocks = -(-weight.numel() // BLOCK)
        assert took == (8 * weight.numel() if weight.numel() < SMALLEST else 2 * (weight.numel() + 4 * blocks)), name
        way = (exact[name] - start[name]).norm()
        assert (weight - exact[name]).norm() < (1e-4 if name == "small" else 0.1) * way, name
    assert BYTES == 1 + 4 / BLOCK


def test_a_gradient_that_is_not_finite_leaves_everything_as_it_was() -> None:
    model = layers()
    optimizer = EightBitAdamW(model, torch.bfloat16, 0.1, 1.0)
    for step in range(3):
        give_gradients(model, step, torch.bfloat16)
        optimizer.step(1e-3)
    before = copy.deepcopy(optimizer.state())
    give_gradients(model, 9, torch.bfloat16)
    model["large"].grad[0, 0] = float("nan")
    assert not torch.isfinite(torch.as_tensor(optimizer.step(1e-3)))
    after = optimizer.state()
    assert all(torch.equal(one, other) for one, other in zip(before["masters"], after["masters"], strict=True))
    for index, state in before["adamw"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, after["adamw"]["state"][index][name]), (index, name)


def test_a_state_that_is_taken_up_ends_in_the_same_bytes() -> None:
    whole, half, again = (layers() for _ in range(3))
    straight, first = (EightBitAdamW(model, torch.bfloat16, 0.1, 1.0) for model in (whole, half))
    for seed in range(6):
        give_gradients(whole, seed, torch.bfloat16)
        straight.step(1e-3)
        if seed < 3:
            give_gradients(half, seed, torch.bfloat16)
            first.step(1e-3)
    second = EightBitAdamW(again, torch.bfloat16, 0.1, 1.0)
    second.load_state(copy.deepcopy(first.state()))
    for seed in range(3, 6):
        give_gradients(again, seed, torch.bfloat16)
        second.step(1e-3)
    assert all(torch.equal(one, other) for one, other in zip(straight.masters, second.masters, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(whole.values(), again.values(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_ends_near_the_exact_one(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bits, "SMALLEST", 512)
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(24), valid=[])
    device = dataclasses.replace(CPU, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    losses = {}
    for bits in (32, 8):
        config = dataclasses.replace(TRAIN_CONFIG, epochs=8, learning_rate=1e-2, adamw_bits=bits)
        losses[bits] = [row[2] for row in train(heads(), task, config, device).train]
    learned = losses[32][0] - losses[32][-1]
    assert learned > 1
    assert losses[8][-1] == pytest.approx(losses[32][-1], abs=0.05 * learned)
    assert losses[8][-1] != losses[32][-1], "the setting reached the optimizer"


def test_no_code_is_fetched_by_the_packages_that_would(tmp_path: Path) -> None:
    """bitsandbytes asks a package called kernels for code from a hub when a new CPU imports it."""
    (tmp_path / "kernels.py").write_text("raise SystemExit('code was asked for')\n", encoding="utf-8")
    script = (
        "import jaegpt.training.lora, importlib.util, bitsandbytes\n"
        "from transformers.utils import is_kernels_available\n"
        "assert not is_kernels_available()\n"
        "assert importlib.util.find_spec('kernels') is None\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_time_of_its_update_is_measured_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU packing takes several times what AdamW takes, which `jaegpt use` must not leave out."""
    monkeypatch.setattr(cost, "ADAMW_SAMPLE", 200_000)
    assert cost._adamw_seconds(CPU, 8) > 1.5 * cost._adamw_seconds(CPU, 32) > 0
