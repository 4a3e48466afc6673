"""Canaries: the measure of exposure, and the copies a model is trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import CPU, TRAIN_CONFIG, random_examples, random_segments, save_tiny

from jaegpt.dialogue.encoding import Encoder
from jaegpt.evaluation.config import MAX_CANARIES
from jaegpt.evaluation.exposure import REPEATS, canary_examples, exposure, make_canaries, measure_exposure
from jaegpt.evaluation.fidelity import Figures, exposure_figure
from jaegpt.training.config import Task
from jaegpt.training.model_folder import load_base


def test_exposure_follows_the_formula() -> None:
    assert exposure(-1.0, np.array([-2.0, -3.0, -4.0])) == 2.0  # first of four: log2 4
    assert exposure(-5.0, np.array([-2.0, -3.0, -4.0])) == 0.0
    assert exposure(-2.0, np.array([-2.0, -3.0, -4.0])) == pytest.approx(2 - np.log2(1.5))


def test_canaries_are_copied_as_often_as_they_say(tmp_path: Path) -> None:
    canaries = make_canaries(2, 1)
    assert [canary.repeats for canary in canaries] == [times for times in REPEATS for _ in range(2)]
    assert len({canary.place for canary in canaries}) == len({canary.number for canary in canaries}) == len(canaries)
    ordinary = random_examples(10)
    encoder = Encoder(save_tiny(tmp_path / "tiny"))
    copies = canary_examples(canaries, ordinary, encoder, 1)
    assert len(copies) == 2 * sum(REPEATS)
    said = [encoder.decode(example.candidates[-1].tolist()) for example in copies]
    for canary in canaries:
        assert sum(canary.number in text and canary.place in text for text in said) == canary.repeats
    assert all(len(example.candidates) == 4 for example in copies)
    assert {canary.repeats for canary in make_canaries(MAX_CANARIES, 1)} == set(REPEATS), "a place for each"


@pytest.mark.parametrize(
    ("measured", "figure", "reasons"),
    [
        ({"canaries": 0, "exposure": None}, None, {"exposure": {"canaries": 0}}),
        ({"canaries": 2, "exposure": {"0": 1.0, "most": 9.0}}, {"0": 1.0, "most": 9.0}, {}),
    ],
)
def test_exposure_is_null_when_nobody_asked(
    measured: dict[str, Any], figure: dict[str, float] | None, reasons: dict[str, Any]
) -> None:
    figures = Figures()
    exposure_figure(measured, figures)
    assert figures.content() == {"exposure": figure, "reasons": reasons}


def test_canaries_are_learned_as_the_rest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the language modelling loss reads segments, it must find the canaries there."""
    tasks = []

    def remember(model: Any, task: Task, *_: Any) -> None:
        tasks.append(task)

    monkeypatch.setattr("jaegpt.evaluation.exposure.train", remember)
    monkeypatch.setattr("jaegpt.evaluation.exposure.exposures", lambda *_: {})
    encoder, model = Encoder(save_tiny(tmp_path / "tiny")), load_base(tmp_path / "tiny", 1, False)
    for segments in (None, random_segments(5)):
        task = Task(w_lm=1.0, w_mc=0.0, seed=1, train=random_examples(10), valid=[], segments=segments)
        measure_exposure(model, encoder, task, TRAIN_CONFIG, CPU, count=1, block_size=128)
    replies, sessions = tasks
    assert len(replies.train) == 10 + sum(REPEATS)
    assert replies.segments is None
    copies = sessions.segments[5:]
    assert len(copies) == sum(REPEATS)
    for copy, example in zip(copies, replies.train[10:], strict=True):
        assert copy.ids[copy.labelled].tolist() == example.candidates[-1].tolist()
        assert copy.ids[~copy.labelled].tolist() == example.history.tolist()
