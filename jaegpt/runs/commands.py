"""The commands that compare runs: `jaegpt table`, `sweep` and `report`. What is heavy is imported once one runs."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

NAMES = ("table", "sweep", "report")
REPORT = Path("report")  # not in Git
TRIALS = 20  # of a sweep that is given no budget


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
    sweep = commands.add_parser(
        "sweep",
        help="search for the settings of the lowest evaluation loss",
        description="Bayesian search over `sweep.space` of params.yaml. Each trial is a DVC experiment. A sweep that "
        "was stopped goes on when the same command is typed again.",
        epilog="example: jaegpt sweep --model tiny --trials 10",
    )
    sweep.add_argument("--trials", type=int, help=f"trials of the study in all ({TRIALS}; with --minutes, no limit)")
    sweep.add_argument("--minutes", type=float, help="begin no trial after so many minutes")
    sweep.add_argument("--workers", type=int, default=1, help="trials at a time (1)")
    sweep.add_argument("--model", help="base model of every trial, instead of the one in params.yaml")
    sweep.add_argument("--study", metavar="NAME", help="name of the study (the base model's)")
    sweep.add_argument(
        "--storage", metavar="URL", help="database that several machines share, such as postgresql://user@host/sweeps"
    )
    commands.add_parser(
        "report",
        help="one page with the figures of this run and of the experiments",
        description=f"Write {REPORT}/index.html, which needs no network, and each of its pictures as SVG beside it. "
        "Numbers only.",
        epilog="example: jaegpt report, then open report/index.html",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command that was parsed; its errors are JaegptErrors."""
    from jaegpt.runs.dvc_lock import check_lock

    check_lock(Path("."))
    if arguments.command == "table":
        from jaegpt.runs.records import collect_runs
        from jaegpt.runs.table import make_table, table_text

        found = make_table(collect_runs(Path("."), all_commits=arguments.all), with_trials=arguments.all)
        print(json.dumps(found, indent=2) if arguments.json else table_text(found))
    elif arguments.command == "sweep":
        _sweep(arguments)
    else:
        from jaegpt.runs.records import collect_runs
        from jaegpt.runs.report import write_report

        print(write_report(Path("."), collect_runs(Path(".")), REPORT))


def _sweep(arguments: argparse.Namespace) -> None:
    from ruamel.yaml import YAML

    from jaegpt.errors import JaegptError
    from jaegpt.params import Params
    from jaegpt.runs.dvc_lock import flatten
    from jaegpt.sweep.space import SweepConfig

    checked = Params()
    config = checked.section("sweep", SweepConfig)
    params = flatten(YAML(typ="safe").load(checked.path.read_text(encoding="utf-8")))
    overrides = {"model": arguments.model} if arguments.model else {}
    model = str(overrides.get("model", checked.value("model")))
    name = arguments.study or re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.").lower()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise JaegptError(f"sweep: --study takes letters, digits, dots and dashes, found {name!r}.")
    from jaegpt.sweep.sweep import Budget, sweep

    trials = TRIALS if arguments.trials is None and arguments.minutes is None else arguments.trials
    budget = Budget(trials=trials, minutes=arguments.minutes, workers=arguments.workers)
    sweep(config, params, overrides, budget, name, arguments.storage)
