"""How long each stage of the last `make repro` took. Run: python -m jaegpt.runs.times BEGAN (seconds since 1970)"""

import json
import sys
import time
from pathlib import Path

import pandas as pd

from jaegpt.errors import STAGE_TIMES, run
from jaegpt.yaml12 import load_yaml


def main() -> None:
    began = float(sys.argv[1])
    print(table(stage_times(began), time.time() - began))


def stage_times(since: float, path: Path = STAGE_TIMES) -> "pd.Series[float]":
    """Seconds by stage of those begun since then, in their order, loading torch included."""
    lines = path.read_text().splitlines() if path.exists() else []
    whole = [line for line in lines if line.endswith("}")]  # a stage that is killed may leave half a line
    rows = [row for row in map(json.loads, whole) if row["began"] >= since]
    return pd.Series({row["stage"]: row["seconds"] for row in rows}, dtype=float)


def table(times: "pd.Series[float]", whole: float) -> str:
    """One line a stage, those that did not run in one, and what DVC itself took."""
    stages = list(load_yaml(Path("dvc.yaml").read_text())["stages"])
    rest = [stage for stage in stages if stage not in times]
    rows = {**times.to_dict(), "DVC itself": whole - times.sum(), "in all": whole}
    width = max(map(len, rows))
    lines = [f"{name:<{width}} {seconds:>8,.1f} s {seconds / whole:>6.1%}" for name, seconds in rows.items()]
    unchanged = f"Not run, because nothing they read has changed: {', '.join(rest)}." if rest else ""
    return "\n".join(filter(None, ["", *lines, unchanged]))


if __name__ == "__main__":
    run(main)
