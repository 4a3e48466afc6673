"""A sweep's trials as tables for plots, and as lines for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from jaegpt.files import write_csv, write_text
from jaegpt.runs.records import SWEEP_IMPORTANCE, SWEEP_TRIALS, shown_value
from jaegpt.sweep.space import Dimension
from jaegpt.sweep.study import counted, finished, importances

PLOTS = Path("plots/dvc.yaml")
_IMPORTANCE = "  - Sweep importance:\n"  # begins the plot that the first trials have no data for
COLUMNS = ("study", "model", "trial", "outcome", "lm_loss", "parameter", "setting", "position")


def write_results(study: optuna.Study, dimensions: Sequence[Dimension]) -> None:
    """Write both tables (a line per trial and parameter; a line per parameter), and what `dvc plots` draws of them."""
    model = study.user_attrs.get("fixed", {}).get("model", "").strip("'")  # unless it is searched, too
    rows = [
        (
            study.study_name,
            shown_value("model", model),
            trial.number,
            trial.user_attrs["outcome"],
            trial.value,
            dimension.name,
            trial.user_attrs["settings"][dimension.name],
            round(dimension.position(trial.user_attrs["settings"][dimension.name]), 4),
        )
        for trial in finished(study)
        if trial.value is not None
        for dimension in dimensions
    ]
    write_csv(SWEEP_TRIALS, COLUMNS, rows)
    shares = importances(study)
    write_csv(SWEEP_IMPORTANCE, ("parameter", "importance"), [(key, round(share, 4)) for key, share in shares.items()])
    if rows:
        plots = Path(__file__).with_name("plots.yaml").read_text(encoding="utf-8")
        write_text(PLOTS, plots if shares else plots.partition(_IMPORTANCE)[0])


def describe(study: optuna.Study, trial: FrozenTrial | None = None, total: int | None = None) -> list[str]:
    """A trial that has just ended and the best so far; without a trial, how the whole sweep ended."""
    done = finished(study)
    best = best_trial(done)
    best_text = (
        f"lm_loss {best.value:.3f} in trial {best.number} ({_settings(best.user_attrs['settings'])})"
        if best
        else "none yet"
    )
    if trial is not None:
        outcome = trial.user_attrs.get("outcome", "interrupted")
        figure = {
            "done": f"lm_loss {trial.value:.3f}" if trial.value is not None else "",
            "stopped": "stopped, worse than most at this point",
            "diverged": "diverged: its loss was not finite",
            "failed": f"failed: {trial.user_attrs.get('reason', '')}",
        }.get(outcome, outcome)
        seconds = trial.user_attrs.get("seconds")
        took = f", {seconds:,.0f} s" if seconds is not None else ""
        settings = _settings(trial.user_attrs.get("settings", {}))
        return [
            f"sweep: trial {trial.number} ({settings}): {figure}{took}",
            f"sweep: {len(counted(study)):,} {f'of {total:,}' if total else 'trials'}; best so far: {best_text}",
        ]
    counts = {state: sum(one.user_attrs["outcome"] == state for one in done) for state in _STATES}
    lines = [f"sweep: {', '.join(f'{count:,} {state}' for state, count in counts.items() if count) or 'no trials'}"]
    if shares := importances(study):
        lines.append("sweep: importance: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    lines.append(f"sweep: best: {best_text}")
    if best:
        lines.append(f"sweep: to work with it: dvc exp apply {best.user_attrs['experiment']}")
        lines.append("sweep: parallel coordinates and importance as pictures: dvc plots show, jaegpt report")
    return lines


_STATES = ("done", "stopped", "diverged", "failed")


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial with the lowest loss among those that were run to the end."""
    done = [trial for trial in trials if trial.user_attrs["outcome"] == "done"]
    return min(done, key=lambda trial: (trial.value, trial.number), default=None)


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.split('.')[-1]} {value}" for name, value in settings.items())
