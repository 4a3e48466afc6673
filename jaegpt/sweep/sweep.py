"""`jaegpt sweep`: Bayesian search with a Gaussian process for the settings of the lowest evaluation lm_loss.

Every trial is a DVC experiment named sweep-STUDY-NUMBER, so it is cached, and `dvc exp apply` brings it back. A trial
that was stopped or that diverged is no experiment, but the Gaussian process gets its loss, to look elsewhere.
"""

import jaegpt.environment  # noqa: F401  before torch, which Optuna's sampler imports

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from jaegpt.errors import JaegptError
from jaegpt.runs.records import SWEEP_PREFIX
from jaegpt.sweep.results import describe, write_results
from jaegpt.sweep.snapshot import fixed_settings, private_salt, take_snapshot
from jaegpt.sweep.space import Dimension, SweepConfig
from jaegpt.sweep.study import FOLDER, counted, draw, only_sweep, open_study, reopen_interrupted
from jaegpt.sweep.trial import Interrupted, Outcome, Runner, TrialFailed, Watch, clear_leftovers

WORK = Path(".dvc/tmp/sweep")
FAILURES_IN_A_ROW = 3  # after so many the settings are not the reason


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to end: after `trials` trials of the study in all, or when `minutes` have passed (no trial begins then).

    Trials that failed do not count. `trials` None: the minutes alone decide.
    """

    trials: int | None
    minutes: float | None
    workers: int

    def __post_init__(self) -> None:
        assert self.trials is not None or self.minutes is not None, self
        if (
            (self.trials is not None and self.trials < 1)
            or self.workers < 1
            or (self.minutes is not None and self.minutes <= 0)
        ):
            raise JaegptError(
                f"sweep: --trials and --workers must be at least 1 and --minutes above 0, found {self.trials}, "
                f"{self.workers} and {self.minutes}."
            )


def sweep(
    config: SweepConfig,
    params: Mapping[str, Any],
    overrides: Mapping[str, Any],
    budget: Budget,
    name: str,
) -> None:
    """Run trials until the budget is spent, in the project at the working directory; print as they come.

    Args:
        params: all of params.yaml, by dotted name.
        overrides: parameters that every trial sets, such as the model.
        name: the study's; it is taken up where it was left.

    Raises:
        JaegptError: this is Windows, the space names unknown parameters, the study does not fit, another sweep runs
            here, or three trials in a row failed.
    """
    if not hasattr(os, "killpg"):
        raise JaegptError("sweep: it ends trials as whole groups of processes, which Windows has not. Use it in WSL.")
    root = Path(".")
    dimensions = config.dimensions
    for dimension in dimensions:
        if dimension.name not in params:
            raise JaegptError(f"params.yaml: sweep.space: there is no parameter `{dimension.name}`.")
    with only_sweep(WORK):
        if ended := clear_leftovers(WORK.resolve()):
            print(f"sweep: ended {ended:,} trials that a killed sweep had left running")
        snapshot = take_snapshot(root)
        if snapshot.changed:
            shown = ", ".join(snapshot.changed[:5]) + (", ..." if len(snapshot.changed) > 5 else "")
            print(f"sweep: uncommitted changes are part of every trial: {shown}")
        searched = {dimension.name for dimension in dimensions}
        fixed = fixed_settings(root, overrides, searched, private_salt(FOLDER / "salt"))
        study = open_study(name, config, fixed, params["seed"])
        folder = WORK / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runner = Runner(snapshot, folder.resolve())
        Search(study, runner, dimensions, {**params, **overrides}, overrides, budget).run()


class Trials(Protocol):
    """What runs a search's trials: a `Runner`. After `stop_all`, `run` raises Interrupted."""

    folder: Path
    stopping: bool

    def run(self, name: str, settings: Mapping[str, Any], params: Mapping[str, Any], watch: Watch) -> Outcome: ...
    def stop_all(self) -> None: ...
    def kill_all(self) -> None: ...


class Search:
    """A running sweep: lets the study choose settings, has trials run, and says what came of them.

    Args:
        params: of every trial, by dotted name, but for what is searched.
        overrides: those of `params` that differ from params.yaml, which each trial sets.
    """

    def __init__(
        self,
        study: optuna.Study,
        runner: Trials,
        dimensions: Sequence[Dimension],
        params: Mapping[str, Any],
        overrides: Mapping[str, Any],
        budget: Budget,
    ) -> None:
        self.study, self.runner, self.dimensions, self.budget = study, runner, dimensions, budget
        self.params, self.overrides = params, overrides
        self.data_ready = threading.Event()
        self.first = threading.Lock()
        self.ending = threading.Lock()  # two workers' trials may end at the same moment, and write the same files
        self.failures = 0  # in a row, up to now
        self.ends = time.monotonic() + 60 * (float("inf") if budget.minutes is None else budget.minutes)
        self.error: Exception | None = None  # of any worker: Optuna does not pass on those of the last trials

    def run(self) -> None:
        """Take the study up, run trials, and say how it ended."""
        study = self.study
        reopened = reopen_interrupted(study)
        there = len(counted(study))
        if not there:
            self._begin_with_todays_settings()
        left = self._left()
        to_go = f"{self.budget.minutes:g} minutes" if left is None else f"{left:,}"
        again = f", first the {reopened:,} interrupted" if reopened and left != 0 else ""
        print(f"sweep: study '{study.study_name}': {there:,} trials there, {to_go} to go{again}")
        try:
            with self._stoppable():
                while self._left() != 0 and not (self.runner.stopping or self.error) and time.monotonic() < self.ends:
                    study.optimize(
                        self._objective,
                        n_trials=self._left(),  # failed ones use it up too; the next round makes up for them
                        timeout=None if self.budget.minutes is None else self.ends - time.monotonic(),
                        n_jobs=self.budget.workers,
                        catch=(TrialFailed,),
                        callbacks=[self._after],
                    )
            if self.runner.stopping:
                raise Interrupted
            if self.error:
                raise self.error
        except (KeyboardInterrupt, Interrupted):
            raise JaegptError(
                "sweep: stopped. What had finished is kept. Type the same command again to go on; the interrupted "
                "trial is run again."
            ) from None
        finally:
            write_results(study, self.dimensions)
        for line in describe(study):
            print(line)

    def _left(self) -> int | None:
        """Trials of the budget that are still to be run; None where time alone decides."""
        return None if self.budget.trials is None else max(self.budget.trials - len(counted(self.study)), 0)

    def _begin_with_todays_settings(self) -> None:
        """The first trial is today's params.yaml, if the space holds it: what is found is measured against it."""
        draws = {dimension.name: dimension.draw(self.params.get(dimension.name)) for dimension in self.dimensions}
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
        queued = [trial.system_attrs.get("fixed_params", trial.params) for trial in waiting]
        if None not in draws.values() and draws not in queued:
            self.study.enqueue_trial(draws)

    def _objective(self, trial: optuna.Trial) -> float:
        settings = {**self.overrides, **draw(trial, self.dimensions)}
        searched = {dimension.name: settings[dimension.name] for dimension in self.dimensions}
        trial.set_user_attr("settings", searched)
        name = f"{SWEEP_PREFIX}{self.study.study_name}-{trial.number:03d}"
        # The loss before training, which a stopped trial's later losses are compared with. A trial that goes on from a
        # checkpoint does not measure it again, so it is taken from the earlier try with the same settings.
        begun = [one.user_attrs for one in self.study.get_trials(deepcopy=False) if "untrained" in one.user_attrs]
        untrained = [one["untrained"] for one in begun if one["settings"] == searched][-1:]

        def on_validation(interval: int, loss: float) -> bool:
            return self._hopeless(trial, interval, loss, untrained)

        with self._after_the_first():
            started = time.monotonic()
            watch = Watch(on_validation=on_validation, on_data_ready=self.data_ready.set)
            try:
                outcome = self.runner.run(name, settings, {**self.params, **settings}, watch)
            except Exception as error:
                if self.runner.stopping:  # the trial was ended on purpose, whatever its error says
                    raise Interrupted from error
                if isinstance(error, TrialFailed):
                    trial.set_user_attr("outcome", "failed")
                    trial.set_user_attr("reason", str(error))
                else:
                    self.error = error
                raise
            finally:
                self.data_ready.set()
        trial.set_user_attr("outcome", outcome.state)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        if outcome.state == "done":
            trial.set_user_attr("experiment", name)
            return outcome.loss
        return self._counted_as(outcome, untrained)

    def _counted_as(self, outcome: Outcome, untrained: list[float]) -> float:
        """The loss that the study gets of a trial that was not run to its end: finite, so that it can learn from it."""
        known = [loss for loss in (outcome.loss, *untrained) if loss < float("inf")]
        if not known:
            raise TrialFailed(f"{outcome.state} before the first validation")
        return min(known) if outcome.state == "stopped" else max(known)

    def _hopeless(self, trial: optuna.Trial, interval: int, loss: float, untrained: list[float]) -> bool:
        """Whether a loss after so many validation intervals says that the trial is not worth finishing."""
        if interval == 0:
            untrained[:] = [loss]
            trial.set_user_attr("untrained", loss)
            return False
        print(f"sweep: trial {trial.number}: validation lm_loss {loss:.3f} after {self._epochs(interval)}", flush=True)
        if not loss < float("inf"):
            return True
        trial.report(loss, interval)
        an_epoch = interval >= self.params["train.evaluations"]
        return trial.should_prune() or (an_epoch and bool(untrained) and loss >= untrained[0])

    def _epochs(self, interval: int) -> str:
        return f"{interval / max(1, self.params['train.evaluations']):.2f} epochs"

    @contextmanager
    def _after_the_first(self) -> Iterator[None]:
        """Of several workers one makes the data; the others wait, because they would all make the same."""
        first = self.first.acquire(blocking=False)
        try:
            if not first:
                self.data_ready.wait()
            yield
        finally:
            if first:
                self.first.release()

    def _after(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Say how a trial ended, write the tables, and stop where going on is no use."""
        with self.ending:
            write_results(study, self.dimensions)
            for line in describe(study, trial, self.budget.trials):
                print(line, flush=True)
            self.failures = self.failures + 1 if trial.user_attrs.get("outcome") == "failed" else 0
            give_up = self.failures >= FAILURES_IN_A_ROW
        if give_up:
            log = self.runner.folder / f"{SWEEP_PREFIX}{study.study_name}-{trial.number:03d}.log"
            self.error = JaegptError(
                f"sweep: {FAILURES_IN_A_ROW} trials in a row failed, the last with: {trial.user_attrs['reason']} "
                f"(its output: {log.relative_to(Path.cwd())})"
            )
        if give_up or (self.budget.trials is not None and len(counted(study)) >= self.budget.trials):
            study.stop()

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal end the running trials, then the sweep; a second one acts at once."""

        def stop(number: int, _: FrameType | None) -> None:
            if self.runner.stopping:
                self.runner.kill_all()
                raise Interrupted  # not KeyboardInterrupt, after which Optuna counts the trial as failed
            self.runner.stop_all()  # its thread sees it end, and raises Interrupted
            self.data_ready.set()
            with suppress(OSError):  # the terminal may be gone
                print(f"sweep: {signal.Signals(number).name}: ending the running trial", flush=True)

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
