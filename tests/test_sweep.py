"""A sweep of `tiny`, killed and taken up again; the spaces it searches; what it refuses."""

import csv
import fcntl
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from clones import clone, set_params
from commands import call, environment

from jaegpt.errors import JaegptError
from jaegpt.experiments import sweep as sweep_module
from jaegpt.experiments.records import FIGURES
from jaegpt.experiments.space import TAIL, SweepConfig, parse_dimension
from jaegpt.experiments.sweep import Budget
from jaegpt.experiments.trial import Interrupted, Outcome, Runner, TrialFailed, clear_leftovers
from jaegpt.files import write_json

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
    call(folder, "python", "-m", "jaegpt.experiments.plots_page")
    call(folder, "dvc", "repro", "encode", "block_size")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "quick trials")
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
    assert "Sweep: each line is a trial" in page
    assert "Sweep: share of the loss" not in page, "no importance of so few trials"
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


class FakeRunner:
    """Trials that are done at once, by `trial`, which is told the runner and the trial's watch."""

    trial: Callable[[Any, Any], Outcome]

    def __init__(self, snapshot: Any, folder: Path) -> None:
        self.folder, self.stopping, self.killed = folder, False, False

    def run(self, name: str, settings: Any, params: Any, watch: Any) -> Outcome:
        return type(self).trial(self, watch)

    def stop_all(self) -> None:
        self.stopping = True

    def kill_all(self) -> None:
        self.killed = True


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., sweep_module._Sweep]:
    """Makes a sweep in an empty folder, with invented trials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep_module, "Runner", FakeRunner)

    def make(trial: Callable[[Any, Any], Outcome], trials: int | None = 3, minutes: float | None = None,
             workers: int = 1) -> sweep_module._Sweep:  # fmt: skip
        monkeypatch.setattr(FakeRunner, "trial", trial, raising=False)
        study = optuna.create_study(study_name="fake", sampler=optuna.samplers.RandomSampler(seed=1))
        config = SweepConfig(space=SPACE, random_trials=1, keep_percent=100)
        budget = Budget(trials=trials, minutes=minutes, workers=workers)
        params = {"train.evaluations": 4, "train.batch_size": 8, "train.learning_rate": 0.002, "w_mc": 1}
        return sweep_module._Sweep(study, None, config, params, {}, budget, False)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("error", "stopping", "said"), [
    (TrialFailed("no disk"), False, "3 trials in a row failed, the last with: no disk"),
    (Interrupted(), True, "the interrupted trial is run again"),
    (JaegptError("git fetch: ended, too"), True, "the interrupted trial is run again"),
    (OSError("no space left"), False, "no space left"),
])  # fmt: skip
def test_errors_and_interruptions_are_not_lost(begin: Any, workers: int, error: Any, stopping: bool, said: str) -> None:
    def end(runner: FakeRunner, watch: Any) -> Outcome:
        runner.stopping = stopping
        raise error

    begun = begin(end, trials=3 if isinstance(error, TrialFailed) else workers, workers=workers)
    with pytest.raises((JaegptError, OSError), match=said):
        begun.run()
    assert {trial.state.is_finished() for trial in begun.study.trials} == {not stopping}


def test_trials_that_failed_are_made_up_for_once_the_cause_is_mended(begin: Any) -> None:
    failing = [TrialFailed("no disk")] * 3

    def trial(runner: FakeRunner, watch: Any) -> Outcome:
        if failing:
            raise failing.pop()
        return Outcome(state="done", loss=3.0)

    begun = begin(trial, trials=3)
    with pytest.raises(JaegptError, match="3 trials in a row failed"):
        begun.run()
    again = begin(trial, trials=3)
    again.study = begun.study
    again.run()
    trials = begun.study.trials
    assert [trial.user_attrs["outcome"] for trial in trials] == ["failed"] * 3 + ["done"] * 3
    assert trials[3].user_attrs["settings"] == {"train.learning_rate": pytest.approx(0.002), "w_mc": 1}


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_leaves_the_trial_to_be_resumed(begin: Any, first: signal.Signals) -> None:
    def signalled(runner: FakeRunner, watch: Any) -> Outcome:
        signal.raise_signal(first)
        assert (runner.stopping, runner.killed) == (True, False)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second acts at once")

    begun = begin(signalled)
    begun.shared = True
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(JaegptError, match="run again, here or on another machine, 120 s after its last sign"):
        begun.run()
    assert begun.runner.killed
    assert [trial.state for trial in begun.study.trials] == [optuna.trial.TrialState.RUNNING]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_minutes_alone_do_not_cap_the_trials(begin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ran = 0

    def count(runner: FakeRunner, watch: Any) -> Outcome:
        nonlocal ran
        ran += 1
        if ran == 25:
            begun.budget = Budget(trials=25, minutes=1, workers=1)  # an end before the minute's
        return Outcome(state="done", loss=3.0 + ran)

    begun = begin(count, trials=None, minutes=1)
    begun.run()
    assert ran == 25
    output = capsys.readouterr().out
    assert "0 trials there, 1 minutes to go" in output
    assert "sweep: 24 trials; best so far: lm_loss 4.000" in output
    assert output.endswith("as pictures: dvc plots show, jaegpt report\n")


def test_a_hopeless_trial_counts_no_worse_than_untrained(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[bool]] = []
    losses = [[5.0, 4.0, 3.5, 3.2, 3.1], [5.0, 4.9, 4.8, 5.1, 5.2], [5.0, math.nan], [5.0, 4.0, 3.0]]

    def follow(runner: Runner, copy: Path, name: str, settings: Any, scratch: Path, reader: Any) -> int:
        seen = losses[len(asked)]
        reader.read("train: 32 examples")  # four steps of 8: one a quarter
        asked.append([reader.read(f"step {step}: validation lm_loss {loss}") for step, loss in enumerate(seen)])
        write_json(copy / FIGURES, {"lm_loss": min(seen)})
        return -signal.SIGKILL if reader.stopped else 0

    begun = begin(None, trials=4)
    snapshot: Any = SimpleNamespace(copy=nullcontext, keep_experiment=lambda copy, name: None)
    begun.runner = Runner(snapshot, begun.runner.folder)
    monkeypatch.setattr(Runner, "_follow", follow)
    begun.run()
    assert asked == [[False] * 5, [False] * 4 + [True], [False, True], [False] * 3]
    trials = begun.study.trials
    assert [trial.user_attrs["outcome"] for trial in trials] == ["done", "stopped", "diverged", "done"]
    assert [trial.value for trial in trials] == [3.1, 5.0, 5.0, 3.0]


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


@pytest.mark.parametrize(("lines", "said"), [
    ([], "space is empty"),
    (["w_mc 1"], "cannot read 'w_mc 1'"),
    (["w_mc = uniform(2, 1)"], "uniform takes the lowest and the highest number"),
    (["w_mc = loguniform(0, 1)"], "loguniform takes"),
    (["train.epochs = integer(1, 2.5)"], "integer takes"),
    (["w_mc = choice(1)"], "choice takes at least two values"),
    (["w_mc = uniform(0, 1)", "w_mc = uniform(0, 2)"], "two lines for `w_mc`"),
])  # fmt: skip
def test_spaces_that_are_none_are_refused(lines: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        SweepConfig(space=lines, random_trials=1, keep_percent=100)
