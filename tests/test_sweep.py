"""A sweep of `tiny`, killed and taken up again; the spaces it searches; what it refuses."""

import csv
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dump_yaml
from helpers.clones import ROOT, own_copy, set_params
from helpers.commands import call, environment

from jaegpt.errors import JaegptError
from jaegpt.params import Params
from jaegpt.sweep.space import TAIL, SweepConfig, make_dimension
from jaegpt.sweep.trial import clear_leftovers

SPACE = {"train.learning_rate": {"loguniform": [0.001, 0.01]}, "w_mc": {"choice": [0, 0.5, 1]}}
SWEEP = ("jaegpt", "sweep", "--trials", "3")


@pytest.fixture(scope="module")
def project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with quick trials, its data made, and no model yet."""
    folder = own_copy(shared, tmp_path_factory.mktemp("sweep") / "jaegpt")
    shutil.rmtree(folder / "models/jaegpt")
    set_params(
        folder, dataset__train_fraction=0.05, train__evaluations=1, train__valid_examples=16, sweep__space=SPACE,
        sweep__random_trials=1, sweep__keep_percent=100,
    )  # fmt: skip
    call(folder, "dvc", "repro", "encode", "block_size")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "quick trials")
    return folder


def test_killed_and_taken_up_again_it_loses_the_running_trial_at_most(project: Path) -> None:
    process = subprocess.Popen(
        SWEEP, cwd=project, env=environment(SWEEP[0]), stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
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
    assert re.search(r"sweep: trial 2: validation lm_loss [\d.]+ after 1.00 epochs", output), "followed as it trains"
    assert "sweep: 3 done" in output
    assert "sweep: to work with it: dvc exp apply sweep-tiny-" in output
    left = {path.name for path in (project / ".dvc/tmp/sweep/tiny").iterdir() if path.suffix != ".log"}
    assert left <= {"scratch"}, "no copy of the killed trial, and no number of its processes"

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
    assert "failed to load" not in call(project, "dvc", "plots", "show")
    page = (project / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "Sweep: L_LM by setting" in page
    assert "Sweep: share of the losses" not in page, "no importance of so few trials"
    call(project, "git", "checkout", "--quiet", ".")


def test_another_space_or_setting_is_another_study(project: Path) -> None:
    for changes, said in (
        (
            {"sweep__space": {key: SPACE[key] for key in list(SPACE)[:1]}},
            "another space (differing: `w_mc: {choice: [0, 0.5, 1]}`)",
        ),
        ({"train__batch_size": 4}, "other settings or code (train.batch_size 8 there, 4 here"),
        ({"sweep__space": {"w_mcc": {"uniform": [0, 1]}}}, "params.yaml: sweep.space: there is no parameter `w_mcc`."),
    ):
        set_params(project, **changes)
        try:
            assert said in call(project, *SWEEP, expect=1)
        finally:
            call(project, "git", "checkout", "--quiet", "params.yaml")


def test_two_sweeps_at_once_are_refused(project: Path) -> None:
    (project / ".dvc/tmp/sweep").mkdir(parents=True, exist_ok=True)
    with open(project / ".dvc/tmp/sweep/lock", "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "error: sweep: another one runs in this clone" in call(project, *SWEEP, expect=1)


def test_what_a_killed_sweep_left_is_ended_and_removed(tmp_path: Path) -> None:
    copy = tmp_path / "tiny/sweep-tiny-003"
    copy.mkdir(parents=True)
    (copy / "params.yaml").touch()
    (tmp_path / "tiny/scratch").mkdir()
    file = copy.with_name("sweep-tiny-003.pid")
    with open(file, "w", encoding="utf-8") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        trial = subprocess.Popen(["sleep", "60"], pass_fds=(alive.fileno(),), start_new_session=True)
        alive.write(f"{trial.pid}\n")
    another = subprocess.Popen(["sleep", "60"], start_new_session=True)  # took the number of one that ended
    file.with_name("sweep-tiny-002.pid").write_text(f"{another.pid}\n", encoding="utf-8")
    try:
        assert clear_leftovers(tmp_path) == 1
        assert trial.wait(timeout=10) == -signal.SIGKILL
        assert another.poll() is None
    finally:
        for process in (trial, another):
            process.kill()
            process.wait()
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["scratch"]


def test_draws_become_settings_and_back() -> None:
    learning_rate = make_dimension("train.learning_rate", {"lognormal": [-10, 3.33]})
    assert learning_rate.setting(0.5) == pytest.approx(math.exp(-10), rel=1e-3)
    assert learning_rate.draw(math.exp(-10)) == pytest.approx(0.5)
    assert learning_rate.draw(1e9) is None, "beyond the tail"
    low, high = (learning_rate.setting(end) for end in (TAIL, 1 - TAIL))
    assert 0 < low < 1e-8
    assert 0.5 < high < 2
    for mean in (-11, -8, -7):  # rounding carries one end or the other beyond its quantile
        dimension = make_dimension("train.learning_rate", {"lognormal": [mean, 2]})
        ends = [dimension.setting(end) for end in (TAIL, 1 - TAIL)]
        assert [dimension.position(end) for end in ends] == pytest.approx([TAIL, 1 - TAIL], rel=1e-2)
        assert [dimension.draw(end * by) for end, by in zip(ends, (0.99, 1.01), strict=True)] == [None, None]
    weight = make_dimension("w_mc", {"loguniform": [0.01, 100]})
    assert weight.position(1) == pytest.approx(0.5)
    assert weight.draw(0) is None
    sizes = make_dimension("train.batch_size", {"choice": [16, 1, 8, 4]})
    assert [sizes.setting(number) for number in range(4)] == [1, 4, 8, 16]
    assert sizes.position(16) == 1


@pytest.mark.parametrize(("space", "said"), [
    ({}, "sweep.space must hold parameters, .*, found {}"),
    (["w_mc = uniform(0, 1)"], "sweep.space must hold parameters, "),
    ({"w_mc": 1}, "sweep.space.w_mc must be one kind with its values, such as `uniform: .0, 1.`, found 1"),
    ({"w_mc": {"uniform": [0, 1], "choice": [0, 1]}}, "sweep.space.w_mc must be one kind"),
    ({"w_mc": {"unifrom": [0, 1]}}, "sweep.space.w_mc: there is no kind `unifrom`. There are lognormal, loguniform, "),
    ({"w_mc": {"uniform": [2, 1]}}, "uniform takes the lowest and the highest number, found .2, 1."),
    ({"w_mc": {"uniform": [0, 1, 2]}}, "uniform takes the lowest and the highest number, found .0, 1, 2."),
    ({"w_mc": {"uniform": "0, 1"}}, "uniform takes the lowest and the highest number, found '0, 1'"),
    ({"w_mc": {"uniform": [False, True]}}, "uniform takes"),
    ({"w_mc": {"uniform": [0, math.inf]}}, "uniform takes"),
    ({"w_mc": {"loguniform": [0, 1]}}, "loguniform takes"),
    ({"w_mc": {"lognormal": [0, 0]}}, "lognormal takes the mean and the standard deviation"),
    ({"train.epochs": {"integer": [1, 2.5]}}, "sweep.space.train.epochs: integer takes"),
    ({"w_mc": {"choice": [1]}}, "choice takes at least two different values"),
    ({"w_mc": {"choice": [1, 1.0]}}, "choice takes at least two different values"),
    ({"w_mc": {"choice": [[1], [2]]}}, "choice takes at least two different values"),
])  # fmt: skip
def test_spaces_that_are_none_are_refused(space: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    dump_yaml(str(path), {"sweep": {"space": space, "random_trials": 1, "keep_percent": 100}})
    with pytest.raises(JaegptError, match=f"params.yaml: {said}" if said.startswith("sweep.") else said):
        Params(path).section("sweep", SweepConfig)


def test_the_space_of_params_yaml_is_read_as_typed() -> None:
    found = Params(ROOT / "params.yaml").section("sweep", SweepConfig).dimensions
    assert [str(dimension) for dimension in found] == [
        "train.learning_rate: {lognormal: [-10, 3.33]}",
        "w_mc: {loguniform: [0.000912, 1096.6]}",
        "train.epochs: {integer: [1, 4]}",
        "train.batch_size: {choice: [1, 4, 8, 16]}",
    ]
    words = make_dimension("model", {"choice": ["tiny", "1", True]})
    assert [words.setting(value) for value in words.arguments] == ["tiny", "1", True], "a text of digits stays one"
