"""A project's tables, figures and curves as pandas DataFrames, for a notebook: `jaegpt.open_project()`."""

import json
from pathlib import Path

import pandas as pd

from jaegpt.errors import JaegptError
from jaegpt.runs.dvc_lock import flatten
from jaegpt.runs.records import PRIVATE, collect_runs
from jaegpt.tables import SCHEMAS, read_table


class Project:
    """A jaegpt clone in the folder `root`. Nothing is written; a method reads its files again at each call."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, name: str) -> pd.DataFrame:
        """A table that a stage has written: messages, filtered, turns, sessions, examples or tokens.

        Raises:
            JaegptError: there is no such table, or it has not been made yet.
        """
        if name not in SCHEMAS:
            raise JaegptError(f"there is no table `{name}`. There are {', '.join(SCHEMAS)}.")
        frame: pd.DataFrame = read_table(self.root / "data" / name, name).to_pandas()
        return frame

    def metrics(self) -> pd.DataFrame:
        """The figures of the last run: file (such as `evaluate`), figure (such as `base.lm_loss`) and value."""
        rows = [
            (path.stem, figure, value)
            for path in sorted(self.root.glob("metrics/*.json"))
            for figure, value in flatten(json.loads(path.read_text(encoding="utf-8"))).items()
        ]
        return pd.DataFrame(rows, columns=["file", "figure", "value"])

    def runs(self, all_commits: bool = False) -> pd.DataFrame:
        """The workspace, the last commit and its experiments: a row each, with parameters and figures as columns.

        Parameters that may name people are left out. A run without figures says why in `note`.

        Raises:
            JaegptError: the folder is no clone, or has no commit.
        """
        return pd.DataFrame(
            {
                "name": run.name,
                "kind": run.kind,
                "state": run.state,
                **{key: value for key, value in run.params.items() if not key.startswith(PRIVATE)},
                **flatten(run.figures),
                "note": run.note,
            }
            for run in collect_runs(self.root, all_commits)
        )

    def plot_data(self, name: str) -> pd.DataFrame:
        """The curves or counts of plots/NAME.csv, such as `train`, `valid` or `gaps`.

        Raises:
            JaegptError: there is no such file.
        """
        path = self.root / f"plots/{name}.csv"
        if not path.is_file():
            there = ", ".join(sorted(found.stem for found in self.root.glob("plots/*.csv"))) or "none yet"
            raise JaegptError(f"{path}: not found. There are: {there}. `dvc repro` makes them.")
        return pd.read_csv(path)


def open_project(folder: str | Path = ".") -> Project:
    """The project in `folder`.

    Raises:
        JaegptError: the folder holds no params.yaml.
    """
    root = Path(folder)
    if not (root / "params.yaml").is_file():
        raise JaegptError(f"{root / 'params.yaml'}: not found. Give the top folder of a jaegpt clone.")
    return Project(root)
