"""The commands that compare runs: `jaegpt table`, `sweep` and `report`. What is heavy is imported once one runs."""

import argparse
import json
from pathlib import Path
from typing import Any

NAMES = ("table", "sweep", "report")
REPORT = Path("report")  # not in Git


def add_commands(commands: Any) -> None:
    """Add the commands to an argument parser's subparsers."""
    table = commands.add_parser(
        "table",
        help="the runs side by side: losses and accuracies by loss weight",
        description="The workspace, the last commit and its experiments side by side, from DVC's records.",
        epilog="example: dvc exp run --queue -S 'w_mc=0.01,0.1,1,10,100' && dvc queue start, then jaegpt table",
    )
    table.add_argument("--all", action="store_true", help="also the experiments of other commits and trials of sweeps")
    table.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command that was parsed; its errors are JaegptErrors."""
    if arguments.command == "table":
        from jaegpt.experiments.records import collect_runs
        from jaegpt.experiments.table import make_table, table_text

        found = make_table(collect_runs(Path("."), all_commits=arguments.all), with_trials=arguments.all)
        print(json.dumps(found, indent=2) if arguments.json else table_text(found))
