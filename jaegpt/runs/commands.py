"""The commands that show runs: `jaegpt table` and `report`. What is heavy is imported once a command runs."""

import argparse
import json
from pathlib import Path
from typing import Any

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
    table.set_defaults(run=_table)
    report = commands.add_parser(
        "report",
        help="one page with the figures of this run and of the experiments",
        description=f"Write {REPORT}/index.html, which needs no network, and each of its pictures as SVG beside it. "
        "Numbers only.",
        epilog="example: jaegpt report, then open report/index.html",
    )
    report.set_defaults(run=_report)


def _table(arguments: argparse.Namespace) -> None:
    from jaegpt.runs.dvc_lock import check_lock
    from jaegpt.runs.records import collect_runs
    from jaegpt.runs.table import make_table, table_text

    check_lock(Path("."))

    found = make_table(collect_runs(Path("."), all_commits=arguments.all), with_trials=arguments.all)
    print(json.dumps(found, indent=2) if arguments.json else table_text(found))


def _report(_: argparse.Namespace) -> None:
    from jaegpt.runs.dvc_lock import check_lock
    from jaegpt.runs.records import collect_runs
    from jaegpt.runs.report import write_report

    check_lock(Path("."))
    print(write_report(Path("."), collect_runs(Path(".")), REPORT))
