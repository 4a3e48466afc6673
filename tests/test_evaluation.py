"""The figures of metrics/evaluate.json against the formulas computed one example at a time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import CPU, random_examples, save_tiny

from jaegpt.evaluation.losses import evaluation, wilson_interval
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing import Example
from jaegpt.training.validation import Measurement, measure

BLOCK = 80


def test_measured_figures_equal_the_formulas(tmp_path: Path) -> None:
    model = load_base(save_tiny(tmp_path / "tiny"), 3, token_types=False)
    # An untrained model repeats its input. Here it confuses the even tokens, so that hits and misses both occur.
    confused = model.lm.lm_head.weight.detach().clone()
    confused[::2] = confused[::2].roll(1, 0)
    model.lm.lm_head.weight = torch.nn.Parameter(confused)
    examples = random_examples(37)
    examples.append(  # a reply of one token over and over is what a model that repeats its input gets right
        Example(
            example_id="r",
            history=np.array([5] * 10),
            roles=np.zeros(10, np.int64),
            candidates=[np.array([7, 7]), np.array([5] * 12)],
        )
    )
    losses, hits, choices, right, seed_hits, tokens = [], 0, [], 0, 0, 0
    for example in examples:
        scores = []
        for candidate in example.candidates:
            row = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
            hidden = model.lm.transformer(row).last_hidden_state
            scores.append(model.score(hidden[0, -1]).item())
        guesses = model.lm.lm_head(hidden)[0].argmax(-1)
        log_probabilities = model.lm.lm_head(hidden)[0].log_softmax(-1)
        for position in range(len(example.history), row.shape[1]):
            losses.append(-log_probabilities[position - 1, row[0, position]].item())
            hits += int(guesses[position - 1] == row[0, position])
            seed_hits += int(guesses[position] == row[0, position])
            tokens += 1
        choices.append(-torch.tensor(scores).log_softmax(0)[-1].item())
        right += int(np.argmax(scores) == len(scores) - 1)

    result = measure(model, examples, CPU)
    assert (result.tokens, result.examples, result.seed_hits) == (tokens, len(examples), seed_hits)
    assert result.lm_loss == pytest.approx(np.mean(losses), abs=1e-4)
    assert result.mc_loss == pytest.approx(np.mean(choices), abs=1e-4)
    assert result.token_accuracy == pytest.approx(hits / tokens)
    assert result.mc_accuracy == pytest.approx(right / len(examples))
    assert 0 < seed_hits < tokens
    assert 0 < hits < tokens


def test_figures_relate_to_a_uniform_guess() -> None:
    result = Measurement(
        lm_loss=math.log(50257), mc_loss=math.log(4), token_accuracy=0.3, mc_accuracy=0.25, seed_hits=16,
        examples=100, tokens=1200,
    )  # fmt: skip
    figures = evaluation(result, vocabulary=50257, candidates=4, block_size=128)
    assert figures["lm_ratio"] == pytest.approx(1.0)
    assert figures["mc_ratio"] == pytest.approx(1.0)
    assert figures["candidates"] == 4
    assert figures["perplexity"] == pytest.approx(50257)
    assert "loss" not in figures, "no weight makes the base model's figures change"
    assert figures["seed_accuracy"] == pytest.approx(16 / 12800)
    assert figures["mc_accuracy_ci"] == pytest.approx([0.1755, 0.3430], abs=1e-3)


@pytest.mark.parametrize(("share", "count"), [(0.0, 20), (1.0, 20), (0.5, 1000), (0.7, 3)])
def test_the_interval_holds_the_share_and_narrows(share: float, count: int) -> None:
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share <= high <= 1
    wider_low, wider_high = wilson_interval(share, max(1, count // 2))
    assert high - low < wider_high - wider_low
