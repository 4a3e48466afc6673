"""The study of a sweep: Optuna's record of its trials, in a file of its own."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from jaegpt.errors import JaegptError
from jaegpt.files import lock_file
from jaegpt.runs.records import PRIVATE
from jaegpt.sweep.space import Dimension, SweepConfig

FOLDER = Path("sweeps")  # not in Git
# Trials that must be there before one is compared with them.
MIN_RIVALS = 3
LEAST_FOR_IMPORTANCE = 8

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_study(name: str, config: SweepConfig, fixed: Mapping[str, str], seed: int) -> optuna.Study:
    """The study `name`, kept in sweeps/NAME.db, which is made where it is missing.

    Args:
        fixed: what its trials must agree in, as `fixed_settings` gives it.

    Raises:
        JaegptError: the file is no study, or the study was made with another space or other settings.
    """
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    path = FOLDER / f"{name}.db"
    try:
        study = optuna.create_study(
            study_name=name,
            direction="minimize",
            load_if_exists=True,
            # SQLite locks the whole file; workers wait for each other.
            storage=optuna.storages.RDBStorage(f"sqlite:///{path}", {"connect_args": {"timeout": 60}}),
            pruner=(
                optuna.pruners.PercentilePruner(
                    config.keep_percent, n_startup_trials=MIN_RIVALS, n_min_trials=MIN_RIVALS
                )
                if config.keep_percent < 100
                else optuna.pruners.NopPruner()
            ),
        )
    except (SQLAlchemyError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise JaegptError(f"sweep: {path} cannot be used ({reason}). Move the file away.") from None
    _check_same(study, name, [str(dimension) for dimension in config.dimensions], dict(fixed))
    # A resumed study gets another seed than a new one: with the same it would draw the settings it has tried already.
    study.sampler = optuna.samplers.GPSampler(
        seed=seed + len(study.trials),
        n_startup_trials=config.random_trials,
        warn_independent_sampling=False,
    )
    return study


def _check_same(study: optuna.Study, name: str, space: list[str], fixed: dict[str, str]) -> None:
    """Refuse a study whose trials would not compare with new ones."""
    made = study.user_attrs
    if "space" not in made:
        study.set_user_attr("fixed", fixed)
        study.set_user_attr("space", space)  # written last: its presence means both are complete
        return
    differing = [f"`{line}`" for line in [*made["space"], *space] if line not in made["space"] or line not in space]
    if differing:
        what = f"another space (differing: {', '.join(differing)})"
    else:
        keys = sorted({*made["fixed"], *fixed})
        keys = [key for key in keys if made["fixed"].get(key) != fixed.get(key)]
        if not keys:
            return
        what = "other settings or code (" + ", ".join(
            key
            if key.startswith(("jaegpt/", "stages/")) or key.startswith(PRIVATE)
            else f"{key} {made['fixed'].get(key)} there, {fixed.get(key)} here"
            for key in keys[:4]
        )
        what += f" and {len(keys) - 4} more)" if len(keys) > 4 else ")"
    raise JaegptError(
        f"sweep: the study '{name}' has {len(finished(study)):,} trials made with {what}. "
        "The trials of a study must agree: begin another with `--study NAME`, or undo the change to go on."
    )


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ran to an end of their own: done, stopped, diverged or failed; in their order.

    The outcome is written before the loss: a trial that was killed in between, or that repeats such a one, has the
    outcome alone, and is run again.
    """
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return [
        trial
        for trial in ended
        if "outcome" in trial.user_attrs
        and (trial.value is not None or trial.user_attrs["outcome"] in ("diverged", "failed"))
    ]


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that a budget counts: those that failed say nothing about their settings."""
    return [trial for trial in finished(study) if trial.user_attrs["outcome"] != "failed"]


def reopen_interrupted(study: optuna.Study) -> int:
    """Queue the trials again that an earlier sweep left running."""
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in left:
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    return len(left)


def draw(trial: optuna.Trial, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Let the study choose a setting for each parameter."""
    settings = {}
    for dimension in dimensions:
        kind = dimension.distribution
        if isinstance(kind, optuna.distributions.FloatDistribution):
            drawn: Any = trial.suggest_float(dimension.name, kind.low, kind.high, log=kind.log)
        elif isinstance(kind, optuna.distributions.IntDistribution):
            drawn = trial.suggest_int(dimension.name, kind.low, kind.high)
        else:
            drawn = trial.suggest_categorical(dimension.name, list(dimension.arguments))
        settings[dimension.name] = dimension.setting(drawn)
    return settings


def importances(study: optuna.Study) -> dict[str, float]:
    """Shares of the losses' variance that parameters explain (fANOVA, Hutter et al. 2014), the largest first.

    Empty where there are fewer than LEAST_FOR_IMPORTANCE trials: of so few a share says nothing.
    """
    complete = [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (RuntimeError, ValueError):  # all trials alike in every parameter
        return {}


@contextmanager
def only_sweep(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` while the block runs; it falls with the process, however that ends.

    Raises:
        JaegptError: another sweep holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            lock_file(file.fileno(), wait=False)
        except BlockingIOError:
            file.seek(0)
            raise JaegptError(
                f"sweep: another one runs in this clone (process {file.read().strip() or 'unknown'}). Wait for it or "
                "stop it. `--workers 2` runs two trials at a time."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
