"""A sweep of `tiny`, killed and taken up again; the spaces it searches; what it refuses."""

import csv
import fcntl
import json
import math
import os
import signal
import subprocess
from pathlib import Path

import pytest
from commands import call, environment
from test_pipeline import clone, set_params

from jaegpt.experiments.records import collect_runs
from jaegpt.experiments.space import TAIL, SweepConfig, parse_dimension
from jaegpt.experiments.table import make_table

SPACE = ["train.learning_rate = loguniform(0.001, 0.01)", "w_mc = choice(0, 0.5, 1)"]
SWEEP = ("jaegpt", "sweep", "--trials", "3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with quick trials, its data made."""
    folder = clone(tmp_path_factory.mktemp("sweep") / "jaegpt")
    set_params(
        folder, dataset__train_fraction=0.05, train__evaluations=1, train__valid_examples=16, sweep__space=SPACE,
        sweep__random_trials=1, sweep__keep_percent=100,
    )  # fmt: skip
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "quick trials")
    call(folder, "dvc", "repro", "encode", "block_size")
    return folder


def test_killed_and_taken_up_again_it_loses_the_running_trial_at_most(project: Path) -> None:
    process = subprocess.Popen(
        SWEEP, cwd=project, env=environment(), stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if "sweep: 1 of 3" in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
    params = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(f"# not committed\n{params}", encoding="utf-8")
    output = call(project, *SWEEP)
    assert "sweep: study 'tiny': 1 trials there, 2 to go" in output
    assert "sweep: uncommitted changes are part of every trial: " in output
    assert "params.yaml" in output
    assert "sweep: 3 done" in output
    assert "sweep: to work with it: dvc exp apply sweep-tiny-" in output

    names = call(project, "dvc", "exp", "list", "--name-only").split()
    trials = sorted(name for name in names if name.startswith("sweep-tiny-"))
    assert len(trials) == 3
    with (project / "plots/sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["parameter"] for row in rows} == {"train.learning_rate", "w_mc"}
    assert len({row["trial"] for row in rows}) == 3
    assert all(0 <= float(row["position"]) <= 1 for row in rows)

    table = json.loads(call(project, "jaegpt", "table", "--all", "--json"))
    found = {row["experiment"]: row for row in table["rows"]}
    assert set(trials) <= set(found)
    of_sweep = {row["lm_loss"] for row in rows}
    assert {f"{found[name]['lm_loss']:.6f}" for name in trials} == {f"{float(loss):.6f}" for loss in of_sweep}
    assert "3 trials of sweeps are not shown" in call(project, "jaegpt", "table")
    assert "sweep: study 'tiny': 3 trials there, 0 to go" in call(project, *SWEEP)

    best = min(trials, key=lambda name: found[name]["lm_loss"])
    call(project, "git", "checkout", "--quiet", "params.yaml")
    call(project, "dvc", "exp", "apply", best)
    figures = json.loads((project / "metrics/evaluate.json").read_text(encoding="utf-8"))
    assert figures["lm_loss"] == found[best]["lm_loss"]
    assert (project / "models/jaegpt/model.safetensors").is_file()
    call(project, "git", "checkout", "--quiet", ".")


def test_another_space_or_setting_is_another_study(project: Path) -> None:
    for changes, said in (
        ({"sweep__space": SPACE[:1]}, "another space (differing lines: `w_mc = choice(0, 0.5, 1)`)"),
        ({"train__batch_size": 4}, "other settings or code (train.batch_size 8 there, 4 here"),
        ({"sweep__space": ["w_mcc = uniform(0, 1)"]}, "params.yaml: sweep.space: there is no parameter `w_mcc`."),
    ):
        set_params(project, **changes)
        try:
            assert said in call(project, *SWEEP, expect=1)
        finally:
            call(project, "git", "checkout", "--quiet", "params.yaml")


def test_two_sweeps_at_once_are_refused(project: Path) -> None:
    with open(project / ".dvc/tmp/sweep/lock", "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "error: sweep: another one runs in this clone" in call(project, *SWEEP, expect=1)


def test_a_run_without_figures_is_named_in_the_table(project: Path) -> None:
    metrics = project / "metrics/evaluate.json"
    content = metrics.read_bytes()
    metrics.write_text('{"lm_loss": 1.0}', encoding="utf-8")
    try:
        table = make_table(collect_runs(project))
    finally:
        metrics.write_bytes(content)
    left = {row["experiment"]: row["reason"] for row in table["without_figures"]}
    assert left["workspace"] == "metrics/evaluate.json holds no mc_loss"


def test_draws_become_settings_and_back() -> None:
    learning_rate = parse_dimension("train.learning_rate = lognormal(-10, 3.33)")
    assert learning_rate.setting(0.5) == pytest.approx(math.exp(-10), rel=1e-3)
    assert learning_rate.draw(math.exp(-10)) == pytest.approx(0.5)
    assert learning_rate.draw(1e9) is None, "beyond the tail"
    low, high = (learning_rate.setting(end) for end in (TAIL, 1 - TAIL))
    assert 0 < low < 1e-8
    assert 0.5 < high < 2
    weight = parse_dimension("w_mc = loguniform(0.01, 100)")
    assert weight.position(1) == pytest.approx(0.5)
    assert weight.draw(0) is None
    sizes = parse_dimension("train.batch_size = choice(16, 1, 8, 4)")
    assert [sizes.setting(number) for number in range(4)] == [1, 4, 8, 16]
    assert sizes.position(16) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "space is empty"),
        (["w_mc 1"], "cannot read 'w_mc 1'"),
        (["w_mc = uniform(2, 1)"], "uniform takes the lowest and the highest number"),
        (["w_mc = loguniform(0, 1)"], "loguniform takes"),
        (["train.epochs = integer(1, 2.5)"], "integer takes"),
        (["w_mc = choice(1)"], "choice takes at least two values"),
        (["w_mc = uniform(0, 1)", "w_mc = uniform(0, 2)"], "two lines for `w_mc`"),
    ],
)
def test_spaces_that_are_none_are_refused(lines: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        SweepConfig(space=lines, random_trials=1, keep_percent=100)
