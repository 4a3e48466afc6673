"""Strict parameters: what is read is what was meant, and anything else is one clear line."""

import dataclasses
import importlib
from pathlib import Path
from typing import Literal

import pytest
from helpers.paths import ROOT

from jaegpt.errors import JaegptError
from jaegpt.exports.config import ExportConfig
from jaegpt.params import SECTIONS, VALUES, Params
from jaegpt.training.config import TrainConfig
from jaegpt.yaml12 import load_yaml

CLASSES = {
    "export": "jaegpt.exports.config.ExportConfig",
    "language": "jaegpt.dialogue.language.LanguageConfig",
    "session": "jaegpt.dialogue.session_gaps.SessionConfig",
    "dataset": "jaegpt.dialogue.examples.DatasetConfig",
    "train": "jaegpt.training.config.TrainConfig",
    "tpu": "jaegpt.tpu.report.TpuConfig",
    "generate": "jaegpt.generation.settings.GenerateSettings",
    "fidelity": "jaegpt.evaluation.config.FidelityConfig",
    "sweep": "jaegpt.sweep.space.SweepConfig",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    rate: float
    count: int
    names: list[str]
    source: str | list[str]
    limit: float | None
    mode: Literal["stop", "skip"]
    on: bool

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, found {self.count}.")


GOOD = """
seed: 1
w_mc: 1
train:
  rate: 1e-05
  count: 2
  names: [en, no]
  source: a.zip
  limit: null
  mode: stop
  on: true
"""


def write(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return Params(path)


def test_values_are_read_as_meant(tmp_path: Path) -> None:
    params = write(tmp_path, GOOD)
    section = params.section("train", Section)
    assert section.rate == 1e-5
    assert section.names == ["en", "no"], "YAML 1.1 would read `no` as false"
    assert section == Section(rate=1e-5, count=2, names=["en", "no"], source="a.zip", limit=None, mode="stop", on=True)
    assert params.value("w_mc") == 1.0
    assert isinstance(params.value("w_mc"), float)
    assert params.field("train.count", int) == params.field("train.count", Section) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("w_mc: 1", "w_mcc: 1", "unknown key `w_mcc`. Did you mean `w_mc`?"),
        ("count: 2", "count: two", "`train.count` must be a whole number, found str 'two'"),
        ("count: 2", "count: 2.5", "`train.count` must be a whole number, found float 2.5"),
        ("count: 2", "count: true", "`train.count` must be a whole number, found bool True"),
        ("count: 2", "count: 0", "train.count must be at least 1, found 0"),
        ("count: 2", "", "missing key `train.count`"),
        ("count: 2", "count: 2\n  epochs: 3", "unknown key `train.epochs`"),
        ("rate: 1e-05", "rate: .nan", "`train.rate` must be a number, found float nan"),
        ("mode: stop", "mode: halt", "`train.mode` must be one of stop, skip, found str 'halt'"),
        ("names: [en, no]", "names: en", "`train.names` must be a list of str, found str 'en'"),
        ("source: a.zip", "source: 3", "`train.source` must be a text or a list of str, found int 3"),
        ("w_mc: 1", "w_mc: -1", "`w_mc` is a loss weight and cannot be negative, found -1.0"),
        (
            "w_mc: 1",
            "w_mc: 1\nw_mc: 2",
            "YAML: line 4, column 1: the key `w_mc` stands here a second time",
        ),
        # What the parser itself, or Python, gives up on.
        (
            "seed: 1",
            f"seed: {'1' * 5000}",
            "(length 5,000) cannot be read as int",
        ),
        ("w_mc: 1", f"w_mc: {'1' * 400}", "`w_mc` must be a number, found int 111111"),
        ("w_mc: 1", f"w_mc: 0x{'f' * 5000}", "`w_mc` must be a number, found int"),
        ("count: 2", f"count: [{', '.join('9' * 99)}]", "`train.count` must be a whole number, found list [9, 9,"),
        ("seed: 1", "seed: 2020-13-45", "`seed` must be a whole number, found str '2020-13-45'"),
        ("seed: 1", "seed: \x07", "not readable as YAML: unacceptable character #x0007"),
        *(
            ("seed: 1", f"seed: {opening * depth}1{closing * depth}", "nested too deeply. Look for stray brackets")
            for opening, closing in (("[", "]"), ("{a: ", "}"), ("[", ""))
            for depth in (1_000, 300_000)  # the second ends the process where nothing looks before
        ),
    ],
)
def test_anything_else_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD

    def read() -> None:
        params = write(tmp_path, GOOD.replace(old, new))
        params.field("train.mode", Section)
        params.value("w_mc")
        params.value("seed")

    with pytest.raises(JaegptError) as caught:
        read()
    assert said in str(caught.value)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        *((value, "`export.path` must be a text or a list of str") for value in ("null", "3", "[3]", "{}", "[null]")),
        *((value, "export.path: found [") for value in ("[]", "['a', '']")),
        ("''", "export.path: found ''. Give the folder or the zip"),
    ],
)
def test_an_export_path_that_names_nothing(tmp_path: Path, path: str, said: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(JaegptError) as caught:
        write(tmp_path, text.replace("path: data/sample_export", f"path: {path}")).section("export", ExportConfig)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_instead_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match=r"cannot be opened \(Is a directory\)"):
        Params(tmp_path)


def test_every_parameter_has_a_field_and_every_field_a_commented_parameter() -> None:
    params = Params(ROOT / "params.yaml")
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    content = load_yaml("\n".join(lines))
    assert set(content) == {*VALUES, *CLASSES}
    assert set(CLASSES) <= set(SECTIONS)
    for key in VALUES:
        params.value(key)
    for name, path in CLASSES.items():
        module, cls = path.rsplit(".", 1)
        section = params.section(name, getattr(importlib.import_module(module), cls))
        assert {field.name for field in dataclasses.fields(section)} == set(content[name])
    keys = [index for index, line in enumerate(lines) if line.strip() and not line.strip().startswith(("#", "-"))]
    keys = [index for index in keys if not lines[index].startswith("    ")]  # parts of a value, such as sweep.space's
    uncommented = [
        lines[index] for index in keys if not lines[index - 1].strip().startswith("#") and lines[index].split(":")[1]
    ]
    assert [line for line in uncommented if line.split(":")[0].strip() not in ("w_mc",)] == []


def test_a_key_that_went_elsewhere_says_where(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("train:\n", "train:\n  checkpoint_steps: 100\n")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(JaegptError, match=r"unknown key `train.checkpoint_steps`\. .*JAEGPT_CHECKPOINT_MINUTES"):
        Params(tmp_path / "params.yaml").section("train", TrainConfig)
