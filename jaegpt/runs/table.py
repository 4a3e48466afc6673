"""`jaegpt table`: the original's table of loss weights over the runs at hand, with real accuracies beside its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from jaegpt.runs.records import PRIVATE, SWEEP_PREFIX, WITHOUT_EFFECT, Run, shown_value

# Figure of metrics/evaluate.json -> its column's head, and whether more of it is better. H is the entropy of a guess.
# Of the original's accuracy neither is: it counts tokens one place off, which the worst models get most of.
COLUMNS = {
    "mc_loss": ("L_MC", False),
    "mc_ratio": ("L_MC/H", False),
    "lm_loss": ("L_LM", False),
    "lm_ratio": ("L_LM/H", False),
    "seed_accuracy": ("orig acc", None),
    "token_accuracy": ("token acc", True),
    "mc_accuracy": ("MC acc (95 %)", True),
}
OF_CANDIDATES = ("mc_loss", "mc_accuracy")  # the more replies to choose from, the worse; L_MC/H_MC allows for it
BASE = "untouched base model"
WIDTH = 100  # characters of a terminal; columns beyond it follow below the others
STARRED = "best of its column, of the rows measured on the same replies"


def make_table(runs: Sequence[Run], with_trials: bool = False) -> dict[str, Any]:
    """The runs side by side, as one JSON object.

    Returns:
        rows: one per run with figures, by w_mc from the highest, as the original prints them; `best` names the figures
            in which no other row is better, `changed` the other parameters in which the rows differ (#1, #2 ... where
            they may name people). `candidates` is null in records from before it was kept.
        bases: the figures of the untouched base model, once for each set of replies it was measured on; `changed` as
            of the rows that share them, null where those differ.
        without_figures: the runs that have none, and why.
        trials_left_out: how many trials of sweeps are not shown.
    """
    shown = _without_names([run for run in runs if with_trials or not run.name.startswith(SWEEP_PREFIX)])
    done = _without_doubles([run for run in shown if run.state == "done"])
    differing = _differing([run for run, _ in done])
    rows = [
        {
            "experiment": run.name,
            "rev": run.rev,
            "also": also,
            "w_mc": run.params.get("w_mc"),
            **{key: run.figures.get(key) for key in COLUMNS},
            "mc_accuracy_ci": run.figures.get("mc_accuracy_ci"),
            "candidates": run.figures.get("candidates"),
            "examples": run.figures.get("examples"),
            "changed": {key: run.params.get(key) for key in differing},
            "best": [],
            "note": run.note,
        }
        for run, also in done
    ]
    rows.sort(key=lambda row: (-_number(row["w_mc"]), _number(row["lm_loss"]), row["experiment"]))
    _mark_best(rows)
    return {
        "rows": rows,
        "bases": _bases([run for run, _ in done], differing),
        "without_figures": [
            {"experiment": run.name, "state": run.state, "reason": run.note} for run in shown if run.state != "done"
        ],
        "trials_left_out": len(runs) - len(shown),
    }


def table_text(table: Mapping[str, Any]) -> str:
    """The table for a terminal; `*` marks the best of a column."""
    lines = ["No run has figures yet. `dvc exp run -S w_mc=1` makes one."]
    if table["rows"]:
        frame = frame_of(table).rename_axis(None)
        text = frame.to_string()
        if max(map(len, text.splitlines())) > WIDTH:  # pandas alone would break a line that just fits
            text = frame.to_string(line_width=WIDTH)
        lines = [*(line.rstrip() for line in text.splitlines()), "", f"* {STARRED}"]
    notes = notes_on(table)
    if table["trials_left_out"]:
        notes.append(f"{table['trials_left_out']:,} trials of sweeps are not shown; `jaegpt table --all` shows them.")
    return "\n".join(lines + (["", *notes] if notes else []))


def notes_on(table: Mapping[str, Any]) -> list[str]:
    """What to mind when reading the table, and the runs that are not in it."""
    notes = [f"{row['experiment']}: {row['note']}" for row in table["rows"] if row["note"]]
    counts = sorted({row["examples"] for row in table["rows"]})
    if len(counts) > 1:
        notes.append(
            f"The rows were measured on different examples ({', '.join(f'{count:,}' for count in counts)}): "
            "compare losses only within one number."
        )
    choices = sorted({row["candidates"] for row in table["rows"] if row["candidates"]})
    if len(choices) > 1:
        notes.append(
            f"The rows chose among different numbers of candidates ({', '.join(map(str, choices))}): compare L_MC and "
            "MC accuracy only within one number."
        )
    for left in table["without_figures"]:
        notes.append(f"{left['experiment']}: {left['state']}" + (f" ({left['reason']})" if left["reason"] else ""))
    return notes


def frame_of(table: Mapping[str, Any], private: tuple[str, ...] = ()) -> pd.DataFrame:
    """The rows and those of the base model by experiment, as text; without the parameters that begin as `private`.

    A parameter's column is named by its last part, where no other has the same. The number of examples is a column
    where the rows differ in it.
    """
    changed = [key for key in table["rows"][0]["changed"] if not key.startswith(private)]
    last = [key.rpartition(".")[2] for key in changed]
    heads = [name if last.count(name) == 1 else key for key, name in zip(changed, last, strict=True)]
    several = len({row["examples"] for row in table["rows"]}) > 1
    lines, names = [], []
    for row in [*table["rows"], *table["bases"]]:
        marks = [cell(key, row) + ("*" if key in row["best"] else " ") for key in COLUMNS]
        others = [_short(shown_value(key, row["changed"][key])) for key in changed] + [f"{row['examples']:,}"] * several
        lines.append([_short(row["w_mc"]), *marks, *others])
        names.append(" = ".join([row["experiment"], *row["also"]]))
    columns = ["w_mc", *(head for head, _ in COLUMNS.values()), *heads, *["examples"] * several]
    return pd.DataFrame(lines, index=pd.Index(names, name="experiment"), columns=columns)


def cell(key: str, row: Mapping[str, Any]) -> str:
    """A figure as the table prints it."""
    value = row[key]
    if value is None:
        return "-"
    if key == "mc_accuracy":
        low, high = row["mc_accuracy_ci"]
        return f"{value:.1%} ({100 * low:.1f}-{100 * high:.1f})"
    if key == "token_accuracy":
        return f"{value:.1%}"
    return f"{value:.5f}" if key == "seed_accuracy" else f"{value:.3f}"


def weight_groups(
    rows: Sequence[Mapping[str, Any]], at_least: int, private: tuple[str, ...] = ()
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows that agree in all parameters but w_mc, by the others; first those with the most different weights.

    Args:
        at_least: different weights that a group must have.
        private: how parameters begin that the names leave out; groups that are then named alike get a number.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr(row["changed"]), []).append(row)
    named: dict[str, list[Mapping[str, Any]]] = {}
    for group in sorted(groups.values(), key=lambda group: -_num_weights(group)):
        if _num_weights(group) >= at_least:
            settings = [(key, value) for key, value in group[0]["changed"].items() if not key.startswith(private)]
            name = (
                ", ".join(f"{key} {shown_value(key, value)}" for key, value in settings) or "the same export settings"
            )
            named[f"{name} ({len(named) + 1})" if name in named else name] = group
    return named


def _num_weights(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["w_mc"] for row in rows})


def _without_doubles(runs: Sequence[Run]) -> list[tuple[Run, list[str]]]:
    """Each run once, with the other names it has: after `dvc exp run` the workspace holds the experiment's figures."""
    found: list[tuple[Run, list[str]]] = []
    order = {"experiment": 0, "commit": 1, "workspace": 2}
    # Experiments first: each keeps its row, and the workspace only adds its name to it.
    for run in sorted(runs, key=lambda run: order[run.kind]):
        same = [also for other, also in found if run.kind != "experiment" and other.figures == run.figures]
        if same and not run.note:
            same[0].append(run.name)
        else:
            found.append((run, []))
    return found


def _without_names(runs: Sequence[Run]) -> list[Run]:
    """The runs with #1, #2 ... for the values of parameters that may name people; switches and numbers stay."""
    seen: dict[str, list[Any]] = {}

    def numbered(key: str, value: Any) -> Any:
        if not key.startswith(PRIVATE) or value is None or isinstance(value, (bool, int, float)):
            return value
        values = seen.setdefault(key, [])
        if value not in values:
            values.append(value)
        return f"#{values.index(value) + 1}"

    return [replace(run, params={key: numbered(key, value) for key, value in run.params.items()}) for run in runs]


def _differing(runs: Sequence[Run]) -> list[str]:
    """The parameters other than w_mc in which the runs differ."""
    keys = sorted({key for run in runs for key in run.params} - {"w_mc"})
    keys = [key for key in keys if not key.startswith(WITHOUT_EFFECT)]
    return [key for key in keys if len({repr(_plain(run.params.get(key))) for run in runs}) > 1]


def _bases(runs: Sequence[Run], differing: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the untouched base model."""
    keys_shown = (*COLUMNS, "mc_accuracy_ci", "examples")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if isinstance(base := run.figures.get("base"), Mapping):
            groups.setdefault(repr([base.get(key) for key in keys_shown]), []).append(run)
    rows = []
    for group in groups.values():
        first, keys = group[0], [key for key in differing if not key.startswith("train.")]
        shared = {key: len({repr(_plain(run.params.get(key))) for run in group}) == 1 for key in keys}
        rows.append(
            {
                "experiment": BASE,
                "also": [],
                "w_mc": None,
                **{key: first.figures["base"].get(key) for key in keys_shown},
                "changed": {key: first.params.get(key) if shared.get(key) else None for key in differing},
                "best": [],
            }
        )
    return rows


def _mark_best(rows: Sequence[dict[str, Any]]) -> None:
    for key, (_, more_is_better) in COLUMNS.items():
        if more_is_better is None:
            continue
        groups: dict[Any, list[dict[str, Any]]] = {}
        for row in rows:
            if row[key] is not None:  # only figures on the same examples, with as many candidates, compare
                kind = (row["examples"], row["candidates"] if key in OF_CANDIDATES else None)
                groups.setdefault(kind, []).append(row)
        for group in groups.values():
            if len(group) > 1:
                best = (max if more_is_better else min)(row[key] for row in group)
                for row in group:
                    if row[key] == best:
                        row["best"].append(key)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("-inf")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
