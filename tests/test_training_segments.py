"""Training on whole sessions: a mixed step's gradients are the plain model's, session by session."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples, random_segments, tiny_heads
from test_training_cuda import device_of, heads
from test_training_parity import assert_close, double_heads, gpt2, llama

from jaegpt.errors import JaegptError
from jaegpt.training.config import Task
from jaegpt.training.cuda import CudaRuntime
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.loop import counts_of, train
from jaegpt.training.packing import Example, Plan, Segment, pack
from jaegpt.training.runtime import Runtime

EXAMPLES, SEGMENTS = random_examples(50), random_segments(170)


def task(w_lm: float = 1.0, w_mc: float = 0.5, segments: list[Segment] | None = SEGMENTS) -> Task:
    valid = random_examples(9, seed=4)
    return Task(w_lm=w_lm, w_mc=w_mc, seed=7, train=EXAMPLES, valid=valid, segments=segments)


def plan(task: Task, **changes: int) -> Plan:
    config = dataclasses.replace(TRAIN_CONFIG, epochs=changes.pop("epochs", 1))
    return task.plan(config, **{"pack_width": 0, "num_parts": 1, "row_shares": 1} | changes)


def one_by_one(model: DoubleHeads, members: list[Example | Segment], w_lm: float, w_mc: float) -> torch.Tensor:
    """The losses by the decoder alone, one session or one candidate at a time, without any packing."""
    token_losses, choice_losses = [], []
    for member in members:
        if isinstance(member, Segment):
            ids = torch.from_numpy(member.ids)
            logits = model.lm(input_ids=ids[None]).logits[0]
            losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
            token_losses.append(losses[torch.from_numpy(member.labelled[1:])])
            continue
        scores = []
        for candidate in member.candidates:
            ids = torch.from_numpy(np.concatenate([member.history, candidate]))[None]
            scores.append(model.score(model.lm.base_model(input_ids=ids).last_hidden_state[0, -1])[0])
        choice_losses.append(torch.nn.functional.cross_entropy(torch.stack(scores), torch.tensor(len(scores) - 1)))
    lm = torch.cat(token_losses).mean()
    return w_lm * lm + (w_mc * torch.stack(choice_losses).mean() if choice_losses else 0.0)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("w_mc", [0.0, 0.7])
@pytest.mark.parametrize(("rows", "fixed_shapes"), [(1, False), (3, False), (3, True)])
def test_gradients_of_a_step_are_those_of_the_plain_model(make, w_mc: float, rows: int, fixed_shapes: bool) -> None:
    step = plan(task(w_mc=w_mc), row_shares=rows)
    members = step.members(2)
    kinds = [sum(isinstance(member, kind) for member in members) for kind in (Segment, Example)]
    assert kinds[0] > 5
    assert bool(kinds[1]) == bool(w_mc)
    model = double_heads(make())
    reference = copy.deepcopy(model)
    reference.lm.set_attn_implementation("eager")
    expected = one_by_one(reference, members, 1.3, w_mc)
    expected.backward()

    batch = to_tensors(*step.parts(2), torch.device("cpu"), torch.float32, fixed_shapes)
    found = model(batch, 1.3, w_mc, counts_of(members, kinds[1], torch.device("cpu"))).weighted(1.3, w_mc)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    gradients = [{n: w.grad for n, w in m.named_parameters() if w.grad is not None} for m in (model, reference)]
    assert_close(*gradients, within=1e-5)


def test_each_step_has_its_share_of_both_and_of_the_tokens() -> None:
    mixed = plan(task(), epochs=2)
    wanted = TRAIN_CONFIG.batch_size * np.mean([len(example) for example in EXAMPLES])
    tokens = [sum(map(len, mixed.members(step))) for step in range(len(mixed.steps))]
    assert np.mean(tokens) == pytest.approx(wanted, rel=0.1)
    assert max(tokens) < 1.2 * min(tokens)
    shares = [sum(isinstance(member, Example) for member in mixed.members(step)) for step in range(len(mixed.steps))]
    assert max(shares) - min(shares) <= 1 <= min(shares)
    half = len(mixed.steps) // 2
    for epoch in (mixed.steps[:half], mixed.steps[half:]):
        assert sorted(n for step in epoch for row in step for n in row) == list(range(len(SEGMENTS) + len(EXAMPLES)))
    assert mixed.fill() > 0.9


def test_labels_stand_before_what_they_name() -> None:
    ids = np.array([5, 6, 7, 8, 9, 10])
    segment = Segment(segment_id="a", ids=ids, labelled=np.array([0, 0, 1, 1, 0, 1], bool))
    example = dataclasses.replace(EXAMPLES[0], labelled=False)
    chosen = Plan([example, segment], [[[0, 1]]])
    batch = pack(chosen.steps[0], chosen.examples, chosen.shape)
    at = len(example)
    assert batch.label_at[0].tolist() == [at + 1, at + 2, at + 4]
    assert batch.label[0].tolist() == [7, 8, 10]
    assert batch.positions[0, at : at + 6].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.score_at[0, 0].min() >= 0, "the example is still a choice"
    assert batch.score_at[0, 1].tolist() == [-1] * len(example.candidates)
    assert batch.reply[0].tolist() == [len(example.candidates) - 1, -100]


def test_what_is_learned_follows_from_the_weights() -> None:
    assert all(isinstance(member, Segment) for member in plan(task(w_mc=0.0)).examples)
    assert plan(task(w_lm=0.0)).steps == plan(task(w_lm=0.0, segments=None)).steps
    assert {type(member) for member in plan(task()).examples} == {Segment, Example}
    assert {member.num_labels for member in plan(task()).examples if isinstance(member, Example)} == {0}
    # A step has as many tokens whatever the weights.
    assert len(plan(task(w_mc=0.0)).steps) == pytest.approx(
        len(plan(task()).steps) * sum(map(len, SEGMENTS)) / sum(map(len, [*SEGMENTS, *EXAMPLES])), abs=1
    )


@pytest.mark.parametrize("w_mc", [0.0, 0.5])
def test_it_learns_from_segments_and_is_measured_on_examples(w_mc: float, tiny: Path) -> None:
    first = SEGMENTS[0]
    same = [dataclasses.replace(first, segment_id=str(number)) for number in range(170)]
    log = train(tiny_heads(tiny), task(w_mc=w_mc, segments=same), TRAIN_CONFIG, CPU)
    losses = [row[3] for row in log.train]
    assert losses[-1] < losses[0] - 1
    assert log.figures["segments"] == 170
    assert log.figures["examples"] == 2 * (170 + 50 * (w_mc > 0))
    assert all(row[5] is not None for row in log.valid)


def test_a_step_in_parts_is_the_same_step(tiny: Path) -> None:
    logs = []
    for accumulation in (1, 3):
        config = dataclasses.replace(TRAIN_CONFIG, learning_rate=1e-3, accumulation=accumulation)
        logs.append(train(tiny_heads(tiny, dropout=False), task(), config, CPU))
    assert [row[2] for row in logs[1].train] == pytest.approx([row[2] for row in logs[0].train], abs=1e-4)


def test_a_step_without_examples_has_no_choice_to_lose(tiny: Path) -> None:
    few = dataclasses.replace(task(), train=EXAMPLES[:2])
    config = dataclasses.replace(TRAIN_CONFIG, batch_size=1, epochs=1)
    log = train(tiny_heads(tiny), few, config, CPU)
    choices = [row[4] for row in log.train]
    assert choices.count(None) == len(choices) - 2 > 3


def test_a_recorded_step_trains_as_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for runtime in (Runtime(device_of()), CudaRuntime(device_of(), compiles=False, records=torch.cuda.is_available())):
        if isinstance(runtime, CudaRuntime):
            runtime.records = True
            if not torch.cuda.is_available():
                monkeypatch.setattr("jaegpt.training.cuda.record", lambda run: run)
        for place in ("loop", "validation"):
            monkeypatch.setattr(f"jaegpt.training.{place}.runtime_of", lambda device, runtime=runtime: runtime)
        config = dataclasses.replace(TRAIN_CONFIG, learning_rate=1e-3, epochs=1)
        results.append(train(heads(), task(), config, runtime.device))
    assert len(results[0].train) > 8
    assert [row[2] for row in results[1].train] == pytest.approx([row[2] for row in results[0].train], rel=2e-3)
    assert results[1].figures["compilations"] == 1


def test_sessions_without_segments_are_a_clear_error() -> None:
    with pytest.raises(JaegptError, match="data/segments was made for replies"):
        task(segments=[])


def test_token_types_are_of_examples_alone(tiny: Path) -> None:
    config = dataclasses.replace(TRAIN_CONFIG, token_types=True)
    with pytest.raises(JaegptError, match=r"token_types.*dataset\.learn"):
        train(tiny_heads(tiny), task(), config, CPU)
