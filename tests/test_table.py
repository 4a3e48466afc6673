"""What is said of runs and of trials known by hand: `jaegpt table`, and the lines and tables of a sweep."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.commands import call
from optuna.trial import TrialState

from jaegpt.errors import JaegptError
from jaegpt.runs.records import FIGURES, Run, _figures, _recorded, collect_runs
from jaegpt.runs.table import WIDTH, frame_of, make_table, table_text
from jaegpt.sweep.results import PLOTS, describe, write_results
from jaegpt.sweep.space import make_dimension
from jaegpt.sweep.study import counted, finished
from jaegpt.yaml12 import load_yaml

BASE = {"lm_loss": 5.0, "mc_loss": 1.4, "lm_ratio": 0.46, "mc_ratio": 1.0, "token_accuracy": 0.2, "mc_accuracy": 0.25,
        "mc_accuracy_ci": [0.2, 0.3], "seed_accuracy": 0.001, "candidates": 4, "examples": 100}  # fmt: skip


def run_of(name: str, w_mc: float, kind: str = "experiment", state: str = "done", **figures: Any) -> Run:
    return Run(
        name=name, rev=name, kind=kind, state=state, params={"w_mc": w_mc, "train.epochs": 1},
        figures={} if state != "done" else BASE | {"base": BASE} | figures, note="" if state == "done" else "why",
    )  # fmt: skip


def test_rows_stand_by_weight_and_the_best_of_each_column_is_marked() -> None:
    table = make_table(
        [run_of("a", 0.1, lm_loss=3.6), run_of("b", 10.0, lm_loss=3.9, mc_accuracy=0.6), run_of("c", 1.0, lm_loss=3.7)]
    )
    assert [row["experiment"] for row in table["rows"]] == ["b", "c", "a"]
    best = {row["experiment"]: set(row["best"]) for row in table["rows"]}
    assert "lm_loss" in best["a"]
    assert "lm_loss" not in best["b"] | best["c"]
    assert "mc_accuracy" in best["b"]
    assert "mc_accuracy" not in best["a"] | best["c"]
    assert [base["lm_loss"] for base in table["bases"]] == [5.0]
    text = table_text(table)
    assert "60.0% (20.0-30.0)*" in text
    assert "3.600*" in text
    assert "3.700 " in text
    assert "untouched base model" in text


def test_figures_on_other_examples_are_no_rivals() -> None:
    table = make_table([run_of("a", 1.0, lm_loss=3.0, examples=50), run_of("b", 2.0, lm_loss=4.0), run_of("c", 3.0)])
    best = {row["experiment"]: row["best"] for row in table["rows"]}
    assert "lm_loss" in best["b"]
    assert best["a"] == []
    assert "The rows were measured on different examples (50, 100)" in table_text(table)


def test_the_base_model_stands_once_for_each_set_of_replies() -> None:
    other = BASE | {"lm_loss": 4.4, "examples": 50}
    runs = [run_of("a", 1.0), run_of("b", 2.0), run_of("c", 3.0, base=other, examples=50)]
    runs[2] = dataclasses.replace(runs[2], params={"w_mc": 3.0, "session.percentile": 99, "train.epochs": 2})
    table = make_table(runs)
    found = [(base["lm_loss"], base["examples"], base["changed"]) for base in table["bases"]]
    assert found == [
        (5.0, 100, {"session.percentile": None, "train.epochs": None}),
        (4.4, 50, {"session.percentile": 99, "train.epochs": None}),
    ]
    last = frame_of(table).iloc[-1]
    assert last.name == "untouched base model"
    assert (last["L_LM"], last["percentile"], last["epochs"], last["examples"]) == ("4.400 ", "99", "", "50")


def test_a_table_fits_a_terminal() -> None:
    runs = [run_of("xeric-doge = workspace", 0.123, lm_loss=3.6), run_of("b", 100.0, lm_loss=13.7)]
    narrow = table_text(make_table(runs))
    assert max(map(len, narrow.splitlines())) <= WIDTH
    assert narrow.count("w_mc") == 1, "nothing stands below"
    changes = [{"dataset.train_fraction": 0.5, "train.epochs": 2, "x.epochs": 4}, {"model": "a/long-name-of-a-model"}]
    runs = [dataclasses.replace(run, params={**run.params, **more}) for run, more in zip(runs, changes, strict=True)]
    wide = make_table(runs)
    assert max(map(len, table_text(wide).splitlines())) <= WIDTH
    heads = {"train_fraction", "train.epochs", "x.epochs", "model"}
    assert heads <= set(frame_of(wide).columns), frame_of(wide).columns
    assert all(head in table_text(wide) for head in heads)


def test_what_decides_when_to_look_makes_no_runs_differ() -> None:
    runs = [run_of("a", 1.0), run_of("b", 2.0)]
    runs[1] = dataclasses.replace(runs[1], params={"w_mc": 2.0, "train.evaluations": 2, "model": "/home/zoe/models/x"})
    table = make_table(runs)
    assert set(table["rows"][0]["changed"]) == {"train.epochs", "model"}
    assert "zoe" not in table_text(table)


def test_an_easier_choice_is_no_rival() -> None:
    two = {"mc_loss": 0.6, "mc_ratio": 0.6 / math.log(2), "mc_accuracy": 0.7, "candidates": 2}
    four = {"mc_loss": 1.1, "mc_ratio": 1.1 / math.log(4), "mc_accuracy": 0.5}
    table = make_table([run_of("a", 1.0, **two), run_of("b", 2.0, **four), run_of("c", 3.0),
                        run_of("d", 4.0, mc_loss=0.1, mc_ratio=None, candidates=None)])  # fmt: skip
    best = {row["experiment"]: {key for key in row["best"] if key.startswith("mc_")} for row in table["rows"]}
    assert best == {"a": set(), "b": {"mc_loss", "mc_ratio", "mc_accuracy"}, "c": set(), "d": set()}
    assert "different numbers of candidates (2, 4)" in table_text(table)


def test_the_workspace_that_holds_an_experiment_is_no_second_row() -> None:
    table = make_table([run_of("workspace", 1.0, "workspace", lm_loss=3.5), run_of("a", 1.0, lm_loss=3.5)])
    assert [(row["experiment"], row["also"]) for row in table["rows"]] == [("a", ["workspace"])]


def test_runs_without_figures_are_named_and_trials_counted() -> None:
    runs = [run_of("a", 1.0), run_of("broken", 2.0, state="failed"), run_of("sweep-x-001", 3.0)]
    table = make_table(runs)
    assert [row["experiment"] for row in table["rows"]] == ["a"]
    assert table["without_figures"] == [{"experiment": "broken", "state": "failed", "reason": "why"}]
    assert table["trials_left_out"] == 1
    assert len(make_table(runs, with_trials=True)["rows"]) == 2
    assert "broken: failed (why)" in table_text(table)
    assert "No run has figures yet" in table_text(make_table([]))


FILE = b'{"lm_loss": 3.5}'
LOCK: dict[str, Any] = {
    "extract": {
        "params": {"params.yaml": {"export": {"owner": "Zoe"}}},
        "outs": [{"path": "data/messages", "md5": "m"}],
    },
    "train": {
        "deps": [{"path": "data/messages", "md5": "m"}],
        "params": {"params.yaml": {"w_mc": 1.0, "seed": 7}},
        "outs": [{"path": "models/jaegpt", "md5": "t"}],
    },
    "evaluate": {
        "deps": [{"path": "models/jaegpt", "md5": "t"}],
        "params": {"params.yaml": {"w_mc": 1.0}},
        "outs": [{"path": FIGURES, "md5": hashlib.md5(FILE).hexdigest()}],
    },
    "tpu_report": {"params": {"params.yaml": {"w_mc": 0.05, "seed": 3}}},
}
PARAMS = {"w_mc": 1.0, "seed": 7, "export.owner": "Zoe"}


def recorded(folder: Path, lock: dict[str, Any], kind: str = "workspace", **params: Any) -> Run:
    """A run as its folder's records have it."""
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / FIGURES).write_bytes(FILE)
    (folder / "dvc.lock").write_text(json.dumps({"stages": lock}), encoding="utf-8")
    run = Run(name="a", rev="workspace", kind=kind, state="done", params={**PARAMS, **params}, figures=json.loads(FILE))
    return _recorded(run, folder)


def test_a_runs_parameters_are_those_of_the_stages_that_made_its_figures(tmp_path: Path) -> None:
    run = recorded(tmp_path, LOCK)
    assert (run.params, run.note, run.state) == (PARAMS, "", "done")
    run = recorded(tmp_path, LOCK, w_mc=2.0)
    assert (run.params, run.note) == (
        PARAMS, "from before params.yaml was changed (w_mc 1.0 -> 2.0); run `dvc repro`"
    )  # fmt: skip
    run = recorded(tmp_path, LOCK, **{"export.owner": "Bo"})
    assert run.note == "from before params.yaml was changed (export.owner); run `dvc repro`"


def test_figures_of_a_model_that_was_trained_again_are_noted(tmp_path: Path) -> None:
    lock = LOCK | {"train": LOCK["train"] | {"outs": [{"path": "models/jaegpt", "md5": "newer"}]}}
    assert recorded(tmp_path, lock).note == "from before models/jaegpt was made again; run `dvc repro`"


@pytest.mark.parametrize(
    ("lock", "w_mc"),
    [
        (LOCK, 2.0),
        (LOCK | {"train": LOCK["train"] | {"outs": [{"path": "models/jaegpt", "md5": "newer"}]}}, 1.0),
        ({name: stage for name, stage in LOCK.items() if name != "evaluate"}, 1.0),
    ],
)
def test_an_experiment_that_was_not_evaluated_has_no_figures(tmp_path: Path, lock: dict[str, Any], w_mc: float) -> None:
    assert recorded(tmp_path, LOCK, "experiment").state == "done"
    run = recorded(tmp_path, lock, "experiment", w_mc=w_mc)
    assert (run.state, run.figures, run.params["w_mc"]) == ("without figures", {}, w_mc)
    assert run.note == "it was not run as far as `evaluate`"


def test_a_folder_inside_a_clone_is_no_clone(tmp_path: Path) -> None:
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["git", "-c", "user.name=t", "-c",
                    "user.email=t@t", "commit", "-qm", "t"]):  # fmt: skip
        call(tmp_path, *command)
    (tmp_path / "docs").mkdir()
    assert next(iter(collect_runs(tmp_path))).name == "workspace"
    with pytest.raises(JaegptError, match=r"is inside .* Run from the top folder"):
        collect_runs(tmp_path / "docs")


def test_figures_that_lack_one_are_none(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    assert _figures(tmp_path, "workspace") == ({}, f"no {FIGURES}: it was not run as far as `evaluate`")
    for content, reason in (('{"lm_loss": 1.0}', "holds no mc_loss"), ("[", "is not readable")):
        (tmp_path / FIGURES).write_text(content, encoding="utf-8")
        assert _figures(tmp_path, "workspace") == ({}, f"{FIGURES} {reason}")


DIMENSION = make_dimension("train.learning_rate", {"uniform": [0, 1]})


def study_of(*trials: tuple[float | None, str], state: TrialState = TrialState.FAIL, **attributes: Any) -> optuna.Study:
    """A study of trials given by loss and outcome; `state` of those without a loss."""
    study = optuna.create_study()
    for number, (loss, outcome) in enumerate(trials):
        rate = number / 10
        known = {"outcome": outcome, "settings": {DIMENSION.name: rate}, "experiment": f"sweep-x-{number:03d}"}
        study.add_trial(
            optuna.create_trial(
                params={DIMENSION.name: rate}, distributions={DIMENSION.name: DIMENSION.distribution}, value=loss,
                state=state if loss is None else TrialState.COMPLETE, user_attrs=known | attributes,
            )
        )  # fmt: skip
    return study


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_a_trial_killed_between_its_outcome_and_its_loss_has_not_ended(state: TrialState) -> None:
    study = study_of((3.5, "done"), (None, "done"), (None, "stopped"), state=state)
    assert [trial.number for trial in finished(study)] == [0]
    lines = describe(study, study.trials[1], 3)
    assert lines[1].startswith("sweep: 1 of 3; best so far: lm_loss 3.500 in trial 0")


def test_trials_that_failed_do_not_count() -> None:
    study = study_of((3.5, "done"), (None, "failed"), (None, "diverged"), (4.0, "stopped"))
    assert [trial.number for trial in counted(study)] == [0, 2, 3]
    assert describe(study)[0] == "sweep: 1 done, 1 stopped, 1 diverged, 1 failed"


def test_the_best_trial_is_named_by_what_applies_it() -> None:
    lines = describe(study_of((3.6, "done"), (3.5, "done"), (3.0, "stopped")))
    assert "sweep: to work with it: dvc exp apply sweep-x-001" in lines


def test_importance_is_drawn_once_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses = (3.5, 3.4, 3.9, 4.4, 4.0, 3.6, 3.8, 4.1)
    for number, drawn in ((7, ["Sweep trials"]), (8, ["Sweep trials", "Sweep importance"])):
        write_results(study_of(*((loss, "done") for loss in losses[:number])), [DIMENSION])
        plots = load_yaml(PLOTS.read_text(encoding="utf-8"))["plots"]
        assert [name for plot in plots for name in plot] == drawn
