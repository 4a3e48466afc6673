"""The report: what it says of figures known by hand, and the page in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import open_page
from helpers.commands import call
from helpers.paths import ROOT
from test_fidelity_words import FIGURES as FIDELITY
from test_plots import OVERLAPS

from jaegpt.errors import JaegptError
from jaegpt.runs.pictures import weights
from jaegpt.runs.records import Run
from jaegpt.runs.report import MOST_CURVES, _weights, make_sections, write_report
from jaegpt.runs.table import make_table

METRICS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("metrics/*.json")}
COMMITTED = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("plots/*.csv")}
METRICS["evaluate"] = METRICS["evaluate"] | {"candidates": 4}
CURVES = COMMITTED | {
    "sweep": "study,model,trial,outcome,lm_loss,parameter,setting,position\n"
    "mine,tiny,0,done,3.6,w_mc,0.1,0.3\nmine,tiny,0,done,3.6,train.epochs,2,0.5\n"
    "mine,tiny,1,stopped,3.2,w_mc,9,0.6\nmine,tiny,1,stopped,3.2,train.epochs,1,0.0\n",
    "sweep_importance": "parameter,importance\nw_mc,0.8\ntrain.epochs,0.2\n",
}
EXPERIMENT = "light"
TPU = {
    "v5e:2x2": {
        "compiles": True, "devices": 4, "hbm_needed_bytes": 2e9, "hbm_available_bytes": 16e9, "flops": 1,
        "bytes_accessed": 1, "roofline_step_s": 0.004, "examples_per_second": 2000, "minutes_per_epoch": 0.03,
    },
    "v9x:1x1": {"compiles": False, "message": "no such TPU"},
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with this pipeline and invented curves, whose params.yaml names somebody."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("dvc.yaml", ".dvc/config", ".dvc/plots"):
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "owner: auto" in params
    (folder / "params.yaml").write_text(params.replace("owner: auto", "owner: Zoë Somebody"), encoding="utf-8")
    for name, content in CURVES.items():
        (folder / "plots").mkdir(exist_ok=True)
        (folder / f"plots/{name}.csv").write_text(content, encoding="utf-8")
    (folder / "metrics").mkdir()
    for name, content in {**METRICS, "fidelity": FIDELITY, "tpu": TPU}.items():
        (folder / f"metrics/{name}.json").write_text(json.dumps(content), encoding="utf-8")
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"],
        ["tag", EXPERIMENT],  # DVC finds an experiment by its name as it does any revision
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, where words alone are looked at: they take seconds."""
    monkeypatch.setattr("jaegpt.runs.pictures.dvc_plots", lambda root, experiments=(): {})


def run_of(name: str, w_mc: float, kind: str = "workspace", epochs: int = 1, **figures: Any) -> Run:
    return Run(
        name=name, rev=name, kind=kind, state="done", params={"w_mc": w_mc, "train.epochs": epochs},
        figures=METRICS["evaluate"] | figures,
    )  # fmt: skip


RUNS = [
    run_of(EXPERIMENT, 0.01, "experiment", lm_loss=3.6, mc_accuracy=0.3),
    run_of("even", 1.0, lm_loss=3.7, mc_accuracy=0.6),
    run_of("heavy", 100.0, lm_loss=4.9, mc_accuracy=0.5),
]


def test_the_page_in_a_browser_asks_for_nothing_and_fits_any_width(project: Path) -> None:
    page_file = write_report(project, RUNS, project / "report")
    names = {"data-funnel", "loss-weights", "sweep", "sweep-importance", "l_lm-by-step", "l_mc-by-step", "style"}
    names |= {"gradient-norms", "block-size-yield", "context-by-cut", "gaps-between-messages", "next-token-right"}
    assert names <= {path.stem for path in page_file.parent.glob("*.svg")}
    for curves in ("l_lm-by-step", "gradient-norms"):
        drawn = (page_file.parent / f"{curves}.svg").read_text(encoding="utf-8")
        assert f">{EXPERIMENT}<" in drawn, "the experiment's curve stands in the legend"
        assert ">undefined<" not in drawn
    for width in (390, 1280):
        with open_page(page_file.as_uri(), width) as (page, errors, requests):
            assert errors == []
            assert requests == []
            assert page.locator("figure svg").count() == len(list(page_file.parent.glob("*.svg")))
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
            assert len(ids) == len(set(ids)), "a picture would be cut by another's outline"
            assert page.evaluate(OVERLAPS) == []
            columns = page.evaluate("""[...document.querySelectorAll('.pictures')].map(all =>
                new Set([...all.children].map(figure => Math.round(figure.getBoundingClientRect().left))).size)""")
            assert max(columns) == (2 if width >= 1000 else 1)
            text = page.inner_text("body")
    assert "Zoë" not in text
    assert "3.700" in text
    assert "0.600" not in text
    assert "60.0%" in text
    assert "2 trials of the study 'mine', of the base model tiny." in text
    assert "The lowest L_LM is 3.600, with w_mc 0.1, train.epochs 2" in text, "of those that ran to the end"
    assert "no: no such TPU" in text


def test_what_is_missing_says_what_makes_it(project: Path) -> None:
    for path in [*project.glob("metrics/*.json"), *project.glob("plots/sweep*.csv")]:
        path.rename(path.with_suffix(".away"))
    try:
        sections = make_sections(project, {}, [])
    finally:
        for path in project.glob("*/*.away"):
            path.rename(path.with_suffix(".csv" if path.parent.name == "plots" else ".json"))
    said = {section.title: " ".join(section.text) for section in sections}
    assert len(sections) >= 10
    assert "`jaegpt sweep`" in said["Sweep"]
    assert "`make tpu && dvc repro -f tpu_report`" in said["On a TPU"]
    assert "`dvc exp run -S w_mc=1`" in said["Runs side by side"]
    for title in ("Did it learn?", "Learning", "Data", "Sessions", "Block size"):
        assert re.search("`dvc repro", said[title]), title


def test_a_short_run_of_little_says_what_it_could_not_measure(
    project: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaegpt.runs.report.changed_since", lambda root, stages: {})
    metrics: dict[str, Any] = {"train": METRICS["train"] | {"wall_s": 31, "examples": 98, "device": "cpu"}}
    few = {"contexts": 8, "needed": 100}
    metrics["fidelity"] = FIDELITY | {"told_apart": None, "leak": None, "reasons": {"told_apart": few, "leak": few}}
    metrics["sessions"] = METRICS["sessions"] | {"threshold_ms": {"p50": 82_916_000}}
    sections = make_sections(project, metrics, [])
    assert sections[0].text == [
        "It learned from 98 pieces of sessions and examples in 31 seconds on CPU.",
        "Whether it can be told from the person was not measured (contexts 8, needed 100).",
        "Whether it repeats messages of the training data was not measured (contexts 8, needed 100).",
    ]
    assert "The middle thread is cut at gaps of 23.0 hours." in sections[3].text[0]


def test_figures_of_another_version_are_said_to_be_so(project: Path, undrawn: None) -> None:
    older = {name: figure for name, figure in FIDELITY.items() if name != "told_apart_text"}
    (sound,) = (one for one in make_sections(project, {"fidelity": older}, []) if one.title.startswith("Does it sound"))
    assert sound.text == ["metrics/fidelity.json has no 'told_apart_text': `dvc repro` makes these figures again."]


def test_the_head_is_said_to_help_only_where_it_does(project: Path, undrawn: None) -> None:
    evaluate = METRICS["evaluate"]
    for interval, said in (([0.3, 0.5], "the head helps"), ([0.2, 0.5], "the head does not help")):
        sections = make_sections(project, {"evaluate": evaluate | {"mc_accuracy_ci": interval}}, [])
        assert said in sections[1].text[1]
        assert "A guess picks it in 25%" in sections[1].text[1]
    for candidates in (None, 1):  # not known, or nothing to choose from
        sections = make_sections(project, {"evaluate": evaluate | {"candidates": candidates}}, [])
        assert len(sections[1].text) == 1


def test_weights_are_drawn_of_runs_that_differ_in_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures: list[Any] = []
    monkeypatch.setattr("jaegpt.runs.pictures.svg", lambda spec: str(pictures.append(spec)))
    two = {"mc_loss": 0.6, "candidates": 2}
    pair = [run_of(f"pair{w_mc:g}", w_mc, "experiment", epochs=2, **two) for w_mc in (200.0, 0.02, 0.2)]
    section = _weights([*RUNS[:2], *pair])
    assert "The picture is of the 3 rows with train.epochs 2." in section.text
    assert {value["w_mc"] for value in pictures[0]["data"]["values"]} == {200.0, 0.02, 0.2}
    chance = pictures[0]["hconcat"][1]["layer"][2:]
    assert [layer["encoding"]["y"]["datum"] for layer in chance] == [0.5]
    assert not any("picture" in sentence for sentence in _weights(RUNS).text), "one group needs no naming"
    assert _weights([*RUNS[:2], *pair[:2]]).pictures == {}
    both = _weights([*RUNS, *pair])
    assert not any("picture" in sentence for sentence in both.text), "all rows are in it"
    assert {value["group"] for value in pictures[-1]["data"]["values"]} == {"train.epochs 1", "train.epochs 2"}
    weights({"": [row | {"candidates": None} for row in make_table(RUNS)["rows"]]})
    assert len(pictures[-1]["hconcat"][1]["layer"]) == 2, "no line where a guess's share is not known"


def test_curves_left_out_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.runs.pictures.dvc_plots", lambda root, experiments=(): {"L_LM by step": "<svg/>"})
    monkeypatch.setattr("jaegpt.runs.report.changed_since", lambda root, stages: {})
    (tmp_path / "params.yaml").write_text("w_mc: 2\n", encoding="utf-8")

    def learning(count: int) -> list[str]:
        runs = [run_of(f"e{number}", number, "experiment", lm_loss=number) for number in range(count)]
        return next(one.text for one in make_sections(tmp_path, {}, runs) if one.title == "Learning")[1:]

    assert learning(0) == []
    assert [line[:35] for line in learning(MOST_CURVES)] == ["Each run has a colour; the total lo"]
    assert learning(MOST_CURVES + 2)[1] == "Of 8 experiments the first 6 are drawn."


def test_figures_of_another_model_or_of_other_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaegpt.runs.pictures.dvc_plots", lambda root, experiments=(): {})
    (tmp_path / "params.yaml").write_text("w_mc: 2\nseed: 1\nmodel: /home/zoe/models/own\n", encoding="utf-8")
    deps = {"fidelity": "models/jaegpt", "block_size": "data/tokens", "tpu_report": "data/tokens"}
    stages = {name: {"cmd": "true", "deps": [dep, "jaegpt/code.py"], "params": ["seed"]} for name, dep in deps.items()}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    inputs = [tmp_path / name for name in ("models/jaegpt", "data/tokens", "jaegpt/code.py")]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a", encoding="utf-8")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "commit", "--force"]):
        call(tmp_path, *command)
    note = "from before params.yaml was changed (w_mc 1.0 -> 2); run `dvc repro`"
    named = {"w_mc": 1.0, "export.owner": "Zoë Somebody"}
    run = Run(name="workspace", rev="workspace", kind="workspace", state="done", params=named,
              figures=METRICS["evaluate"], note=note)  # fmt: skip

    def sections() -> dict[str, str]:
        made = make_sections(tmp_path, {**METRICS, "fidelity": FIDELITY, "tpu": TPU}, [run, *RUNS])
        return {section.title: f"{section.text} {section.table}" for section in made}

    def old() -> list[str]:
        return [title for title, text in sections().items() if "not of this run, but of an earlier one" in text]

    same = sections()
    sound = next(title for title in same if title.startswith("Does it sound"))
    assert old() == []
    inputs[2].write_text("edited", encoding="utf-8")
    inputs[1].rename(tmp_path / "away")
    assert old() == [], "code is no figure's run, and what is not here is not another's"
    (tmp_path / "away").rename(inputs[1])
    inputs[0].write_text("another model", encoding="utf-8")
    assert old() == [sound]
    params = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params.replace("seed: 1", "seed: 2"), encoding="utf-8")
    assert old() == ["Block size", sound, "On a TPU"]
    assert "both w_lm and w_mc above 0" in same["The two tasks' gradients"], "nothing is drawn here"
    for title in ("Did it learn?", "Settings, and how to repeat it"):
        assert f"Mind: {note}." in same[title]
    assert "Zoë" not in str(same)
    assert "/home/zoe" not in str(same)
    assert "own" in same["Settings, and how to repeat it"]


def test_figures_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/train.json").write_text("<<<<<<< ours\n", encoding="utf-8")
    with pytest.raises(JaegptError, match=r"metrics/train.json: not readable as JSON .* `git checkout HEAD -- "):
        write_report(tmp_path, [], tmp_path / "report")
