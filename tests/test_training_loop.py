"""The loop: repeatable to the byte, master weights that keep small steps, and clear stops."""

import dataclasses
import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from helpers.models import CPU, EACH_STEP, TRAIN_CONFIG, random_examples
from safetensors.torch import load_file

from jaegpt.errors import JaegptError
from jaegpt.training import loop
from jaegpt.training.checkpoints import Scratch
from jaegpt.training.config import Task
from jaegpt.training.devices import choose_device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.loop import Log, evaluation_steps, train
from jaegpt.training.model_card import speed
from jaegpt.training.model_folder import load_base, load_tuned, save_model
from jaegpt.training.optimizer import MasterAdamW, learning_rate_at
from jaegpt.training.packing import Batch, Plan
from jaegpt.training.progress import VARIABLE, Follower
from jaegpt.training.validation import Measurement


def run(tiny: Path, w_lm: float = 1.0, w_mc: float = 0.5, seed: int = 7, **changes: object) -> tuple[DoubleHeads, Log]:
    config = dataclasses.replace(TRAIN_CONFIG, **changes)  # type: ignore[arg-type]
    task = Task(w_lm=w_lm, w_mc=w_mc, seed=seed, train=random_examples(50), valid=random_examples(9, seed=4))
    model = load_base(tiny, seed, token_types=False)
    device = CPU if config.precision == "fp32" else dataclasses.replace(CPU, dtype=torch.bfloat16)
    return model, train(model, task, config, device)


def weights(model: DoubleHeads) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_and_repeats_to_the_byte(tiny: Path, precision: str) -> None:
    first, log = run(tiny, precision=precision)
    second, again = run(tiny, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    assert all(weight.dtype == torch.float32 for weight in weights(first).values())
    assert (log.train, log.valid, log.gradients) == (again.train, again.valid, again.gradients)
    assert log.figures["steps"] == len(log.train) == 14
    assert log.figures["examples"] == 100
    losses = [row[2] for row in log.train]
    assert sum(losses[-4:]) < sum(losses[:4])
    assert [row[0] for row in log.valid] == [0, 4, 7, 11, 14]
    assert all(-1 <= cosine <= 1 and lm > 0 and mc > 0 for _, lm, mc, cosine in log.gradients)


def test_another_seed_trains_another_model(tiny: Path) -> None:
    assert not torch.equal(run(tiny)[0].score.weight, run(tiny, seed=8)[0].score.weight)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_without_weight_moves_nothing(tiny: Path, precision: str) -> None:
    before = load_base(tiny, 7, token_types=False)
    model, log = run(tiny, w_mc=0.0, precision=precision)
    assert torch.equal(before.score.weight, model.score.weight), "no gradient, no weight decay"
    assert {row[4] for row in log.train} == {None}
    assert log.gradients == []
    model, log = run(tiny, w_lm=0.0, precision=precision)
    assert not torch.equal(before.score.weight, model.score.weight)
    assert {row[3] for row in log.train} == {None}


def test_the_saved_model_is_the_trained_one(tiny: Path, tmp_path: Path) -> None:
    model, _ = run(tiny)
    save_model(model, tiny, tmp_path, "card", {})
    loaded = load_tuned(tmp_path, token_types=False)
    expected = weights(model)
    assert len(expected) > 20
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(loaded).items())


def test_a_model_is_saved_in_the_precision_that_it_is_read_in(tiny: Path, tmp_path: Path) -> None:
    model, _ = run(tiny, precision="bf16")
    expected = {name: weight.clone() for name, weight in weights(model).items()}
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in expected.values()), "as trained"
    save_model(model, tiny, tmp_path, "card", {}, torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    loaded = weights(load_tuned(tmp_path, token_types=False))
    for name, weight in expected.items():
        kept = weight if name.startswith("score.") else weight.bfloat16().float()
        assert torch.equal(loaded[name], kept), name


def test_masters_keep_steps_that_bf16_would_round_away() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8, bias=False)
    model.weight.data.fill_(1.0)
    optimizer = MasterAdamW(model, torch.bfloat16, weight_decay=0.0, max_grad_norm=1e9)
    assert model.weight.dtype == torch.bfloat16
    for _ in range(100):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step(1e-4)  # the spacing of bf16 below 1 is 4e-3: no single step of these would show
    assert model.weight.float().mean().item() == pytest.approx(0.99, abs=2e-3)


def test_clipping_equals_torchs_own() -> None:
    torch.manual_seed(0)
    ours, reference = (torch.nn.Linear(5, 5) for _ in range(2))
    reference.load_state_dict(ours.state_dict())
    optimizer = MasterAdamW(ours, torch.float32, weight_decay=0.1, max_grad_norm=0.5)
    groups = [{"params": [reference.weight], "weight_decay": 0.1}, {"params": [reference.bias], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1e-2)
    for _ in range(3):
        inputs = torch.randn(4, 5)
        for model in (ours, reference):
            model(inputs).square().sum().backward()
        expected = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        adamw.step()
        adamw.zero_grad()
        assert optimizer.step(1e-2) == pytest.approx(expected.item())
    assert torch.allclose(ours.weight, reference.weight, atol=1e-6)
    assert torch.allclose(ours.bias, reference.bias, atol=1e-6)


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])
    assert learning_rate_at(0, 100, 1.0, 0.0) == 1.0


def test_evaluations_are_spread_evenly_and_end_with_the_last_step() -> None:
    assert sorted(evaluation_steps(100, 2, 2)) == [25, 50, 75, 100]
    assert sorted(evaluation_steps(549, 1, 4)) == [137, 275, 412, 549]
    assert sorted(evaluation_steps(392, 1, 4)) == [98, 196, 294, 392]
    assert sorted(evaluation_steps(3, 1, 50)) == [1, 2, 3]
    assert sorted(evaluation_steps(7, 2, 2)) == [2, 4, 5, 7]


@pytest.mark.parametrize("evaluations", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_there_are_as_many_evaluations_as_were_asked_for(evaluations: int, epochs: int) -> None:
    for steps_per_epoch in range(1, 40):
        num_steps = epochs * steps_per_epoch
        steps = sorted(evaluation_steps(num_steps, epochs, evaluations))
        assert len(steps) == max(1, min(evaluations * epochs, num_steps))
        assert steps[-1] == num_steps
        gaps = {after - before for before, after in itertools.pairwise([0, *steps])}
        assert min(gaps) > 0
        assert max(gaps) - min(gaps) <= 1


class Clock:
    """Each look at it is a second later, each evaluation a hundred."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def test_speed_is_examples_over_the_seconds_of_training(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    measured, packed = loop.measure, Plan.parts

    def measure(*arguments: object) -> Measurement:
        clock.now += 100
        return measured(*arguments)  # type: ignore[arg-type]

    def slow_pack(*arguments: object) -> list[Batch]:
        clock.now += 10
        return packed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "measure", measure)
    monkeypatch.setattr(Plan, "parts", slow_pack)
    monkeypatch.setattr(loop, "ahead", lambda make, steps: ((step, make(step)) for step in steps))
    figures = run(tiny)[1].figures
    seconds = figures["examples"] / figures["examples_per_second"]
    assert 140 <= seconds < 200, "14 steps, 10 s of packing each; no evaluation"
    assert figures["wall_s"] > 500 + seconds
    text = speed(figures)
    found = re.search(r"([\d.]+) examples at ([\d.]+) per second in ([\d.]+) s", text)
    assert found
    count, rate, shown = map(float, found.groups())
    assert rate * shown == pytest.approx(count, rel=0.01)


@pytest.mark.parametrize("step", [0, 14])
def test_a_validation_that_is_not_finite_stops_the_training_there(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    measured, number = loop.measure, 0

    def measure(*arguments: object) -> Measurement:
        nonlocal number
        number += 1
        broken = number == (1 if step == 0 else 5)
        result = measured(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(result, lm_loss=math.nan) if broken else result

    monkeypatch.setattr(loop, "measure", measure)
    with pytest.raises(JaegptError, match=rf"train: the validation loss after step {step} is not finite \(lm_loss nan"):
        run(tiny)


def test_a_loss_that_is_not_finite_stops_with_step_and_examples(tiny: Path) -> None:
    with pytest.raises(JaegptError, match=r"step \d+ is .*not finite.*Lower train.learning_rate.*examples: \d+"):
        run(tiny, learning_rate=1e30)


def test_a_run_writes_down_how_far_it_is(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.jsonl"))
    follower = Follower(tmp_path / "progress.jsonl")
    _, log = run(tiny, epochs=2, evaluations=2)
    events = follower.new_events()
    assert [event["event"] for event in events] == ["validation"] * len(log.valid)
    assert [(event["step"], event["lm_loss"]) for event in events] == [(row[0], row[2]) for row in log.valid]
    assert {event["steps"] for event in events} == {log.train[-1][0]} == {events[-1]["step"]}
    with pytest.raises(JaegptError, match="not finite"):
        run(tiny, learning_rate=1e30)
    assert [event["event"] for event in follower.new_events()][-1] == "not finite"


def test_a_loss_that_is_not_finite_names_the_last_checkpoint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAEGPT_CHECKPOINT_MINUTES", EACH_STEP)
    scratch = Scratch("key")
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(50), valid=[])
    config = dataclasses.replace(TRAIN_CONFIG, learning_rate=1e30)
    with pytest.raises(JaegptError, match=f"The last checkpoint before it: {re.escape(str(scratch.path))}"):
        train(load_base(tiny, 7, token_types=False), task, config, CPU, scratch)
    assert scratch.load() is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"warmup": 1.0}, "warmup is a share"),
        ({"valid_examples": -1}, "valid_examples cannot be negative"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TRAIN_CONFIG, **change)


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAEGPT_DEVICE", "gpu")
    with pytest.raises(JaegptError, match="must be auto, cpu, cuda, mps or xla, found 'gpu'"):
        choose_device("auto")
    if not torch.cuda.is_available():
        monkeypatch.setenv("JAEGPT_DEVICE", "cuda")
        with pytest.raises(JaegptError, match="sees no CUDA GPU"):
            choose_device("auto")
    monkeypatch.setenv("JAEGPT_DEVICE", "cpu")
    assert choose_device("fp32").precision == "fp32"
    assert "asked for by train.precision" in choose_device("fp32").reason
