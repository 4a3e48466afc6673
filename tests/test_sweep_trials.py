"""How a sweep goes through its trials: budgets, failures, interruptions, and a study that machines share."""

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from jaegpt.errors import JaegptError
from jaegpt.files import write_json
from jaegpt.runs.records import FIGURES
from jaegpt.sweep import sweep as sweep_module
from jaegpt.sweep.space import SweepConfig
from jaegpt.sweep.study import open_study
from jaegpt.sweep.sweep import Budget
from jaegpt.sweep.trial import Interrupted, Outcome, Runner, TrialFailed, Watch, _Reader
from jaegpt.training.loop import evaluation_steps

SPACE = {"train.learning_rate": {"loguniform": [0.001, 0.01]}, "w_mc": {"choice": [0, 0.5, 1]}}


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
             workers: int = 1, study: Any = None, shared: bool = False) -> sweep_module._Sweep:  # fmt: skip
        monkeypatch.setattr(FakeRunner, "trial", trial, raising=False)
        study = study or optuna.create_study(study_name="fake", sampler=optuna.samplers.RandomSampler(seed=1))
        config = SweepConfig(space=SPACE, random_trials=1, keep_percent=100)
        budget = Budget(trials=trials, minutes=minutes, workers=workers)
        params = {"train.evaluations": 4, "train.batch_size": 8, "train.learning_rate": 0.002, "w_mc": 1}
        return sweep_module._Sweep(study, None, config, params, {}, budget, shared)  # type: ignore[arg-type]

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


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_that_may_name_people_stays_on_this_machine(begin: Any, shared: bool) -> None:
    def fail(runner: FakeRunner, watch: Any) -> Outcome:
        raise TrialFailed("export.owner: Zoë Somebody wrote none of the messages")

    begun = begin(fail, shared=shared)
    with pytest.raises(JaegptError, match="3 trials in a row failed") as caught:
        begun.run()
    reasons = {trial.user_attrs["reason"] for trial in begun.study.trials}
    assert ("Somebody" in str(reasons)) == (not shared)
    assert "its output: .dvc/tmp/sweep/fake/sweep-fake-" in str(caught.value)


def test_trials_that_failed_are_made_up_for_once_the_cause_is_mended(begin: Any) -> None:
    failing = [TrialFailed("no disk")] * 3

    def trial(runner: FakeRunner, watch: Any) -> Outcome:
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

    def trial(runner: FakeRunner, watch: Any) -> Outcome:
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

    def trial(runner: FakeRunner, watch: Any) -> Outcome:
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


def test_machines_that_share_a_study_agree_in_what_its_trials_were_made_with(tmp_path: Path) -> None:
    url, config = f"sqlite:///{tmp_path}/shared.db", SweepConfig(space=SPACE, random_trials=1, keep_percent=50)
    fixed = {"train.batch_size": "8", "export.owner": "a hash"}
    first = open_study("ours", config, fixed, 1, url)
    first.add_trial(optuna.create_trial(value=3.0, user_attrs={"outcome": "done"}))
    second = open_study("ours", config, fixed, 1, url)
    assert [trial.value for trial in second.trials] == [3.0]
    with pytest.raises(JaegptError, match=r"1 trials .* other settings or code \(export.owner, train.batch_size 8 "):
        open_study("ours", config, {"train.batch_size": "4", "export.owner": "other"}, 1, url)
    with pytest.raises(JaegptError, match=r"the storage nosuch://\.\.\.@host/db cannot") as caught:
        open_study("ours", config, fixed, 1, "nosuch://me:secret@host/db")
    assert "secret" not in str(caught.value)


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


def test_only_what_is_measured_before_training_counts_as_untrained() -> None:
    quarters: list[int] = []
    watch = Watch(on_validation=lambda quarter, loss: bool(quarters.append(quarter)), on_data_ready=lambda: None)
    for evaluations in (4, 0):
        reader = _Reader({"train.batch_size": 8, "train.evaluations": evaluations}, watch)
        reader.read("train: 800 examples, 9 held out")
        for step in (0, 1, 100):
            assert not reader.read(f"step {step}: validation lm_loss 3.5")
    assert quarters == [0, 1, 4, 0, 1, 1]
    quarters.clear()
    reader = _Reader({"train.batch_size": 8, "train.evaluations": 4}, watch)
    reader.read("train: 50 examples, 9 held out")
    for step in sorted(evaluation_steps(7 * 5, 5, 4)):
        reader.read(f"step {step}: validation lm_loss 3.5")
    assert quarters == list(range(1, 21)), "7 steps an epoch, the last of them not full"


def test_a_trial_that_begins_as_the_sweep_is_stopped_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"  # in the place of DVC
    program.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr("jaegpt.sweep.trial.sys.executable", str(program))
    runner = Runner(SimpleNamespace(), tmp_path)  # type: ignore[arg-type]
    runner.stopping = True
    watch = Watch(on_validation=lambda quarter, loss: False, on_data_ready=lambda: None)
    reader = _Reader({"train.batch_size": 8, "train.evaluations": 4}, watch)
    assert runner._follow(tmp_path, "sweep-x-000", {}, tmp_path / "scratch", reader) == -signal.SIGTERM
