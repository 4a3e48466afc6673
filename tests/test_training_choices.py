"""`train.mc_share`: an epoch's share of the examples carries distractors, and L_MC stays what it was on average."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples, random_segments, tiny_heads

from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.heads import to_tensors
from jaegpt.training.loop import counts_of, train
from jaegpt.training.packing import Example

EXAMPLES = random_examples(50)
FIXED = {"pack_width": 0, "num_parts": 1, "row_shares": 1}


def task(**changes: object) -> Task:
    return Task(**{"w_lm": 1.0, "w_mc": 0.5, "seed": 7, "train": EXAMPLES, "valid": EXAMPLES[:9]} | changes)


def config(share: float, **changes: object) -> TrainConfig:
    return dataclasses.replace(TRAIN_CONFIG, **{"epochs": 1, "mc_share": share} | changes)


def test_each_example_carries_its_distractors_in_its_share_of_the_epochs() -> None:
    drawn = np.array(task().with_choices(config(0.25, epochs=1600)))
    share = drawn.mean(0)
    # 1,600 epochs: the deviation of a share of a quarter is .0108; the largest of 50 lies within four of them.
    assert abs(share - 0.25).max() < 0.044
    assert abs(drawn.sum(1).mean() - 12.5) < 0.4
    assert np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1] == pytest.approx(0, abs=0.1), "each epoch draws again"
    alone = task(train=EXAMPLES[3:5]).with_choices(config(0.25, epochs=1600))
    assert (np.array(alone) == drawn[:, 3:5]).all(), "whatever the other examples are"


@pytest.mark.parametrize("segments", [None, random_segments(30)])
def test_an_epoch_reads_every_reply_and_the_drawn_distractors(segments: list | None) -> None:
    chosen = config(0.4, epochs=3)
    made = task(segments=segments)
    plan = made.plan(chosen, **FIXED)
    seen: dict[str, list[Example]] = {}
    for step in range(len(plan.steps)):
        for member in plan.members(step):
            if isinstance(member, Example):
                seen.setdefault(member.example_id, []).append(member)
    drawn = np.sum(made.with_choices(chosen), axis=0)
    for example, times in zip(EXAMPLES, drawn, strict=True):
        found = seen.get(example.example_id, [])
        assert sum(len(member.candidates) > 1 for member in found) == times
        assert sum(member.labelled for member in found) == (3 if segments is None else 0)


def test_the_loss_of_a_step_is_weighted_for_those_that_were_not_drawn(tiny: Path) -> None:
    """Of all 50 examples in one step, L_MC is the carriers' sum over the number of carriers to be expected."""
    model, made, chosen = tiny_heads(tiny).eval(), task(), config(0.25, batch_size=50)
    plan = made.plan(chosen, **FIXED)
    assert len(plan.steps) == 1
    members = plan.members(0)
    counts = counts_of(members, made.num_choices(chosen, members), torch.device("cpu"))
    found = model(to_tensors(*plan.parts(0), torch.device("cpu"), torch.float32), 1.0, 1.0, counts)

    (drawn,) = made.with_choices(chosen)
    carriers = [example for example, draw in zip(EXAMPLES, drawn, strict=True) if draw]
    assert 4 <= len(carriers) < 25
    alone = task(train=carriers).plan(config(1, batch_size=50), **FIXED)
    whole = task().plan(config(1, batch_size=50), **FIXED)
    expected, of_all = (
        model(to_tensors(*each.parts(0), torch.device("cpu"), torch.float32), 1.0, 1.0) for each in (alone, whole)
    )
    assert found.mc.item() == pytest.approx(expected.mc.item() * len(carriers) / 12.5, rel=1e-5)
    assert found.lm.item() == pytest.approx(of_all.lm.item(), rel=1e-5), "every reply is learned, drawn or not"


def test_a_step_with_nothing_for_a_loss_has_none(tiny: Path) -> None:
    """Segments in all steps, examples in some: without them L_MC is not 0 but unknown."""
    made, chosen = task(segments=random_segments(40)), config(0.1, batch_size=2)
    plan = made.plan(chosen, **FIXED)
    with_examples = [
        any(isinstance(member, Example) for member in plan.members(step)) for step in range(len(plan.steps))
    ]
    assert 0 < sum(with_examples) < len(with_examples)
    log = train(tiny_heads(tiny), made, chosen, CPU)
    assert [row[4] is not None for row in log.train] == with_examples
    assert all(row[4] > 0 for row in log.train if row[4] is not None)
    assert all(row[2] == pytest.approx((row[3] or 0) + 0.5 * (row[4] or 0)) for row in log.train)


def test_a_share_is_one(tiny: Path) -> None:
    for share in (0, 1.1, -0.5):
        with pytest.raises(ValueError, match="mc_share is a share of the examples"):
            config(share)
    log = train(tiny_heads(tiny), task(segments=random_segments(30)), config(0.5, epochs=2), CPU)
    assert all(np.isfinite(row[2]) for row in log.train)
    assert log.figures["examples"] == log.train[-1][1] < 2 * (30 + 50)
