"""How a sweep goes through its trials: budgets, failures, interruptions, and how a trial is followed."""

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from jaegpt.errors import JaegptError
from jaegpt.sweep.snapshot import Snapshot, git
from jaegpt.sweep.space import SweepConfig
from jaegpt.sweep.study import open_study
from jaegpt.sweep.sweep import Budget, Search, Trials
from jaegpt.sweep.trial import Interrupted, Outcome, Runner, TrialFailed, Watch
from jaegpt.training.loop import evaluation_steps
from jaegpt.training.progress import VARIABLE, Follower, note

SPACE = {"train.learning_rate": {"loguniform": [0.001, 0.01]}, "w_mc": {"choice": [0, 0.5, 1]}}


class AtOnce:
    """Runs trials that are done at once, by a function of this object and the trial's watch."""

    def __init__(self, trial: Callable[[Any, Any], Outcome], folder: Path) -> None:
        self.trial, self.folder, self.stopping, self.killed = trial, folder, False, False

    def run(self, name: str, settings: Any, params: Any, watch: Any) -> Outcome:
        return self.trial(self, watch)

    def stop_all(self) -> None:
        self.stopping = True

    def kill_all(self) -> None:
        self.killed = True


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """Makes a search in an empty folder, with invented trials or a runner of its own."""
    monkeypatch.chdir(tmp_path)

    def make(trial: Callable[[Any, Any], Outcome] | Trials, trials: int | None = 3, minutes: float | None = None,
             workers: int = 1, study: optuna.Study | None = None) -> Search:  # fmt: skip
        runner = AtOnce(trial, tmp_path) if callable(trial) else trial
        study = study or optuna.create_study(study_name="fake", sampler=optuna.samplers.RandomSampler(seed=1))
        config = SweepConfig(space=SPACE, random_trials=1, keep_percent=100)
        budget = Budget(trials=trials, minutes=minutes, workers=workers)
        params = {"train.evaluations": 4, "train.epochs": 1, "train.learning_rate": 0.002, "w_mc": 1}
        return Search(study, runner, config.dimensions, params, {}, budget)

    return make


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("error", "stopping", "said"), [
    (TrialFailed("no disk"), False, "3 trials in a row failed, the last with: no disk"),
    (Interrupted(), True, "the interrupted trial is run again"),
    (JaegptError("git fetch: ended, too"), True, "the interrupted trial is run again"),
    (OSError("no space left"), False, "no space left"),
])  # fmt: skip
def test_errors_and_interruptions_are_not_lost(begin: Any, workers: int, error: Any, stopping: bool, said: str) -> None:
    def end(runner: AtOnce, watch: Any) -> Outcome:
        runner.stopping = stopping
        raise error

    begun = begin(end, trials=3 if isinstance(error, TrialFailed) else workers, workers=workers)
    with pytest.raises((JaegptError, OSError), match=said):
        begun.run()
    assert {trial.state.is_finished() for trial in begun.study.trials} == {not stopping}


def test_trials_that_failed_are_made_up_for_once_the_cause_is_mended(begin: Any) -> None:
    failing = [TrialFailed("no disk")] * 3

    def trial(runner: AtOnce, watch: Any) -> Outcome:
        if failing:
            raise failing.pop()
        return Outcome(state="done", loss=3.0)

    begun = begin(trial, trials=3)
    with pytest.raises(JaegptError, match="3 trials in a row failed"):
        begun.run()
    begin(trial, trials=3, study=begun.study).run()
    trials = begun.study.trials
    assert [trial.user_attrs["outcome"] for trial in trials] == ["failed"] * 3 + ["done"] * 3
    assert trials[3].user_attrs["settings"] == {"train.learning_rate": pytest.approx(0.002), "w_mc": 1}


def test_a_trial_that_failed_on_the_way_is_made_up_for(begin: Any) -> None:
    number = 0

    def trial(runner: AtOnce, watch: Any) -> Outcome:
        nonlocal number
        number += 1
        if number == 2:
            raise TrialFailed("out of memory")
        return Outcome(state="done", loss=3.0)

    begun = begin(trial, trials=3)
    begun.run()
    assert [one.user_attrs["outcome"] for one in begun.study.trials] == ["done", "failed", "done", "done"]


def test_a_trial_that_goes_on_remembers_its_loss_before_training(begin: Any) -> None:
    before = True

    def trial(runner: AtOnce, watch: Any) -> Outcome:
        nonlocal before
        if before:
            assert not watch.on_validation(0, 5.0)
            before = False
            runner.stopping = True
            raise Interrupted
        return Outcome(state="diverged", loss=math.inf)  # at once: nothing is measured of it

    begun = begin(trial, trials=1)
    with pytest.raises(JaegptError, match="run again"):
        begun.run()
    begin(trial, trials=1, study=begun.study).run()
    assert [one.value for one in begun.study.trials] == [None, 5.0]


def test_a_study_is_taken_up_with_the_same_settings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = SweepConfig(space=SPACE, random_trials=1, keep_percent=50)
    fixed = {"train.batch_size": "8", "export.owner": "a hash", "jaegpt/training": "another"}
    first = open_study("ours", config, fixed, 1)
    first.add_trial(optuna.create_trial(value=3.0, user_attrs={"outcome": "done"}))
    assert [trial.value for trial in open_study("ours", config, fixed, 1).trials] == [3.0]
    changed = {"train.batch_size": "4", "export.owner": "other", "jaegpt/training": "newer"}
    said = r"1 trials .* other settings or code \(export.owner, jaegpt/training, train.batch_size 8 there, 4 here\)"
    with pytest.raises(JaegptError, match=said):
        open_study("ours", config, changed, 1)
    (tmp_path / "sweeps/torn.db").write_text("no database", encoding="utf-8")
    with pytest.raises(JaegptError, match=r"sweeps/torn.db cannot be used .*. Move the file away."):
        open_study("torn", config, fixed, 1)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_leaves_the_trial_to_be_resumed(begin: Any, first: signal.Signals) -> None:
    def signalled(runner: AtOnce, watch: Any) -> Outcome:
        signal.raise_signal(first)
        assert (runner.stopping, runner.killed) == (True, False)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second acts at once")

    begun = begin(signalled)
    if signal.getsignal(first) is signal.SIG_IGN:  # so `nohup` begins it, and so a sweep leaves it
        signal.signal(first, signal.SIG_DFL)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(JaegptError, match="the interrupted trial is run again"):
        begun.run()
    assert begun.runner.killed
    assert [trial.state for trial in begun.study.trials] == [optuna.trial.TrialState.RUNNING]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_minutes_alone_do_not_cap_the_trials(begin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ran = 0

    def count(runner: AtOnce, watch: Any) -> Outcome:
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


# In the place of DVC: does what line NUMBER of a plan says, a JSON list of events and of bytes to write as they are.
STUB = """
import json, os, sys, time
from pathlib import Path
name = sys.argv[sys.argv.index("--name") + 1]
steps = json.loads(Path(sys.argv[1]).read_text())[int(name[-3:])]
for step in steps:
    if isinstance(step, dict):
        step = json.dumps(step) + chr(10)
    if step.startswith("print "):
        print(step[6:], flush=True)
    elif step == "fail":
        sys.exit(255)
    elif step == "wait":
        time.sleep(60)
    else:
        with open(os.environ["JAEGPT_PROGRESS"], "a") as file:
            file.write(step)
Path("metrics").mkdir(exist_ok=True)
Path("metrics/evaluate.json").write_text(json.dumps({"lm_loss": 3.0}))
os.system(f"git update-ref refs/exps/$(git rev-parse HEAD | sed 's/^../&\\//')/{name} HEAD")
"""


def validations(*losses: float | None) -> list[Any]:
    """The events of a run of four steps of 8 examples, with a validation before it and after each."""
    return [{"event": "validation", "step": step, "steps": 4, "lm_loss": loss} for step, loss in enumerate(losses)]


@pytest.fixture
def runner(tmp_path: Path) -> Callable[..., Runner]:
    """Makes a runner whose trials do what lists say, in copies of a small project."""
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").touch()
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "t")
    head = git(project, "rev-parse", "HEAD")
    snapshot = Snapshot(root=project, head=head, state=head, changed=(), cache=str(tmp_path / "cache"))
    (tmp_path / "stub.py").write_text(STUB, encoding="utf-8")
    (tmp_path / "work").mkdir()

    def make(*trials: list[Any]) -> Runner:
        (tmp_path / "plan.json").write_text(json.dumps(trials), encoding="utf-8")
        return Runner(
            snapshot, tmp_path / "work", [sys.executable, str(tmp_path / "stub.py"), str(tmp_path / "plan.json")]
        )

    return make


def test_a_hopeless_trial_counts_no_worse_than_untrained(begin: Any, runner: Any) -> None:
    trials = [
        validations(5.0, 4.0, 3.5, 3.2, 3.0),
        [*validations(5.0, 4.9, 4.8, 5.1, 5.2), "wait"],
        [*validations(5.0, None), "wait"],
        [*validations(5.0), {"event": "not finite", "step": 1}, "fail"],
        [{"event": "begun"}, "print ERROR: no disk", "print ERROR: failed to reproduce 'train'", "fail"],
        validations(5.0, 4.0, 3.0),
    ]
    begun = begin(runner(*trials), trials=5)
    begun.run()
    found = begun.study.trials
    outcomes = ["done", "stopped", "diverged", "diverged", "failed", "done"]
    assert [trial.user_attrs["outcome"] for trial in found] == outcomes
    assert [trial.value for trial in found] == [3.0, 5.0, 5.0, 5.0, None, 3.0]
    assert found[4].user_attrs["reason"] == "no disk"
    kept = git(begun.runner.snapshot.root, "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").splitlines()
    assert kept == ["sweep-fake-000", "sweep-fake-005"]
    assert {path.suffix for path in begun.runner.folder.iterdir()} == {".log"}


def follow(runner: Runner, **params: int) -> tuple[list[int], int]:
    """What a trial's watch is called with: the intervals of its validations, and how often the data was ready."""
    intervals: list[int] = []
    ready: list[bool] = []
    watch = Watch(on_validation=lambda interval, loss: bool(intervals.append(interval)),
                  on_data_ready=lambda: ready.append(True))  # fmt: skip
    runner.run("sweep-x-000", {}, {f"train.{key}": value for key, value in params.items()}, watch)
    return intervals, len(ready)


@pytest.mark.parametrize(
    ("epochs", "evaluations", "expected"), [(1, 4, [0, 1, 4]), (2, 4, [0, 1, 8]), (1, 0, [0, 1, 1])]
)
def test_only_what_is_measured_before_training_counts_as_untrained(
    runner: Any, epochs: int, evaluations: int, expected: list[int]
) -> None:
    events = [{"event": "validation", "step": step, "steps": 100, "lm_loss": 3.5} for step in (0, 1, 100)]
    assert follow(runner([{"event": "begun"}, *events]), epochs=epochs, evaluations=evaluations) == (expected, 1)


def test_validations_are_numbered_by_the_intervals_asked_for(runner: Any) -> None:
    steps = sorted(evaluation_steps(7 * 5, 5, 4))
    events = [{"event": "validation", "step": step, "steps": 35, "lm_loss": 3.5} for step in steps]
    assert follow(runner(events), epochs=5, evaluations=4) == (list(range(1, 21)), 0)


def test_half_a_line_is_read_once_it_is_whole(runner: Any) -> None:
    text = json.dumps(validations(5.0)[0])
    pieces = [text[:20], text[20:], "\n", text + "\n" + text[:5], text[5:] + "\n"]
    assert follow(runner(pieces), epochs=1, evaluations=4) == ([0, 0, 0], 0)


def test_progress_is_written_where_it_is_asked_for_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    note("begun")
    path = tmp_path / "progress.jsonl"
    follower = Follower(path)
    assert follower.new_events() == [], "no file yet"
    monkeypatch.setenv(VARIABLE, str(path))
    note("validation", step=3, lm_loss=math.nan, mc_loss=1.5)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "sto')
    assert follower.new_events() == [{"event": "validation", "step": 3, "lm_loss": None, "mc_loss": 1.5}]
    assert follower.new_events() == []
    with path.open("a", encoding="utf-8") as file:
        file.write('pped", "step": 4}\n')
    assert follower.new_events() == [{"event": "stopped", "step": 4}]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_trial_that_begins_as_the_sweep_is_stopped_ends_at_once(runner: Any) -> None:
    stopped = runner(["wait"])
    watch = Watch(on_validation=lambda interval, loss: False, on_data_ready=lambda: None)
    copying = stopped.snapshot.copy

    @contextmanager
    def stopping_copy(folder: Path) -> Iterator[Path]:
        with copying(folder) as copy:
            stopped.stopping = True  # after the runner has looked, before there is a process to end
            yield copy

    object.__setattr__(stopped.snapshot, "copy", stopping_copy)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        stopped.run("sweep-x-000", {}, {"train.epochs": 1, "train.evaluations": 4}, watch)
    assert time.monotonic() - began < 30, "not the minute that the trial takes"
