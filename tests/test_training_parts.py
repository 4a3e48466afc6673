"""Steps computed in parts: accumulation, two processes, adapters. Each equals the whole."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.forking import forked_python
from helpers.models import CPU, TRAIN_CONFIG, random_examples, recording_gradients, tiny_heads
from safetensors.torch import load_file

from jaegpt.training.config import Task
from jaegpt.training.heads import Counts, to_tensors
from jaegpt.training.loop import ahead, train
from jaegpt.training.lora import add_adapters, merged
from jaegpt.training.model_folder import load_lm
from jaegpt.training.packing import IGNORED, Plan, pack

TESTS = Path(__file__).parent
TASK = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(50), valid=random_examples(9, seed=4))


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        # Rounding noise is all that the head's bias and the attention's key biases get: softmax does not see a shift.
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-7), name


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("accumulation", [2, 3, 8])
def test_a_step_computed_in_parts_is_the_same_step(accumulation: int, tiny: Path) -> None:
    logs, gradients = [], []
    for number in (1, accumulation):
        model = tiny_heads(tiny, dropout=False)
        config = dataclasses.replace(TRAIN_CONFIG, learning_rate=1e-3, accumulation=number)
        with pytest.MonkeyPatch.context() as patch:
            gradients.append(recording_gradients(patch, model))
            logs.append(train(model, TASK, config, CPU))
    expected, found = logs
    assert [row[2] for row in found.train] == pytest.approx([row[2] for row in expected.train], abs=1e-4)
    assert [row[:2] for row in found.train] == [row[:2] for row in expected.train]
    assert_same_gradients(gradients[1][0], gradients[0][0])


def test_parts_share_a_steps_rows_equally() -> None:
    plan = Plan.training(TASK.train, batch_size=8, pack_width=0, seed=5, num_parts=2, row_shares=4)
    assert all(len(step) == 4 for step in plan.steps)
    whole = Plan(TASK.train, plan.steps)
    assert whole.shape.width == plan.shape.width
    for step in range(len(plan.steps)):
        (rows,) = whole.parts(step)
        first, second = plan.parts(step)
        assert np.array_equal(first.ids, rows.ids[0::2])
        assert np.array_equal(second.ids, rows.ids[1::2])
        (mine,) = plan.parts(step, first=1, every=2)
        assert np.array_equal(mine.ids, second.ids), "the second of two processes"
        assert len(plan.members(step)) == (rows.reply != IGNORED).sum()


def test_a_part_without_examples_has_loss_and_gradient_zero(tiny: Path) -> None:
    model = tiny_heads(tiny, dropout=False)
    batch = to_tensors(pack([[]], TASK.train, Plan(TASK.train, [[[0]]]).shape), CPU.torch_device, CPU.dtype)
    losses = model(batch, 1.0, 1.0, Counts(torch.tensor(5), torch.tensor(2)))
    losses.weighted(1.0, 1.0).backward()
    assert (losses.lm.item(), losses.mc.item()) == (0.0, 0.0)
    assert all(not weight.grad.any() for weight in model.parameters() if weight.grad is not None)


def run_processes(count: int, tiny: Path, out: Path) -> dict[str, object]:
    """Train in `count` processes over gloo; rank 0's figures."""
    environment = {**os.environ, "JAEGPT_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(out.parent)}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    settings = {"tiny": str(tiny), "dropout": False, "config": {"learning_rate": 1e-3, "epochs": 1}}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [forked_python(), *launcher, str(TESTS / "helpers/train_script.py"), str(out), json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, object] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return figures


def test_two_processes_reproduce_one(tiny: Path, tmp_path: Path) -> None:
    one, two = (run_processes(count, tiny, tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert two["valid"][-1] == pytest.approx(one["valid"][-1], abs=1e-4)
    assert two["examples"] == one["examples"] == 50
    first, second = (
        {name: tensor for name, tensor in load_file(tmp_path / f"{count}.safetensors").items() if "gradient." in name}
        for count in (1, 2)
    )
    assert_same_gradients(second, first)


def test_adapters_leave_the_base_alone_and_merge_into_the_same_model(tiny: Path) -> None:
    model = tiny_heads(tiny, dropout=False)
    before = {name: weight.clone() for name, weight in weights(model).items()}
    batch = to_tensors(*Plan(TASK.train, [[[0, 1]]]).parts(0), CPU.torch_device, CPU.dtype)
    untrained = model.logits(model.trunk(batch), batch).detach()
    adapters = add_adapters(model, rank=4, seed=7)
    assert torch.equal(model.logits(model.trunk(batch), batch), untrained), "adapters start without effect"
    log = train(model, TASK, dataclasses.replace(TRAIN_CONFIG, lora_rank=4), CPU)
    after = {name.replace(".base_layer", ""): weight for name, weight in weights(model).items() if "lora_" not in name}
    frozen = [name for name in before if name.startswith("lm.")]
    assert len(frozen) > 20
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(after["score.weight"], before["score.weight"]), "the head is trained as always"
    assert log.valid[-1][2] < log.valid[0][2], "and the adapters learn"

    model.eval()
    adapted = model.logits(model.trunk(batch), batch).detach()
    model.lm = merged(adapters, load_lm(tiny))
    plain = model.eval().logits(model.trunk(batch), batch).detach()
    assert torch.allclose(plain, adapted, atol=1e-5)
    assert not torch.allclose(plain, untrained, atol=1e-3)
    assert not any("lora_" in name or "base_layer" in name for name, _ in model.named_parameters())


def test_what_is_made_ahead_comes_in_order_and_its_errors_come_through() -> None:
    assert list(ahead(lambda step: step * 10, range(3, 7))) == [(3, 30), (4, 40), (5, 50), (6, 60)]
    assert list(ahead(lambda step: step, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda step: 1 // step, [1, 0]))
