"""Canaries: the measure of exposure, and the copies a model is trained on."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.models import CPU, TRAIN_CONFIG, random_examples, random_segments, save_tiny
from helpers.paths import ROOT

from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.evaluation.config import MAX_CANARIES
from jaegpt.evaluation.exposure import REPEATS, canary_examples, exposure, make_canaries, measure_exposure
from jaegpt.evaluation.fidelity import Figures, exposure_figure
from jaegpt.training.config import Task
from jaegpt.training.model_folder import load_base
from stages import exposure as stage


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


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("base_bits: 4", "cpu", r"train\.base_bits: 4 needs the package bitsandbytes.*or set it to 16"),
        ("base_bits: 4", "mps", r"train\.base_bits: 4 works on CPUs and CUDA GPUs only; this run is on mps"),
        ("adamw_bits: 8", "cpu", r"train\.adamw_bits: 8 needs the package bitsandbytes.*or set it to 32"),
    ],
)
def test_the_stage_refuses_bits_that_cannot_be_before_it_reads_anything(
    setting: str, kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, found = (ROOT / "params.yaml").read_text(encoding="utf-8"), importlib.util.find_spec
    for old, new in (("lora_rank: 0", "lora_rank: 4"), ("canaries: 0", "canaries: 2")):
        assert f"  {old}\n" in text
        text = text.replace(f"  {old}\n", f"  {new}\n")
    name = setting.split(":")[0]
    old = next(line for line in text.splitlines() if line.startswith(f"  {name}:"))
    (tmp_path / "params.yaml").write_text(text.replace(old, f"  {setting}"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if "bits" in name else found(name, *_))
    monkeypatch.setattr("jaegpt.training.devices.choose_device", lambda precision: SimpleNamespace(kind=kind))
    with pytest.raises(JaegptError, match=message):
        stage.main()
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
