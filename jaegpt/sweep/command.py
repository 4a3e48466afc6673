"""The command `jaegpt sweep`. What is heavy is imported once it runs."""

import argparse
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaegpt.sweep.space import SweepConfig

TRIALS = 20  # of a sweep that is given no budget


def add_command(commands: Any) -> None:
    """Add the command to an argument parser's subparsers."""
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
    sweep.add_argument("--space", metavar="FILE", type=Path, help="a space to search instead of sweep.space, as YAML")
    sweep.add_argument("--study", metavar="NAME", help="name of the study (the base model's)")
    sweep.set_defaults(run=_sweep)


def _with_space(config: "SweepConfig", path: Path) -> "SweepConfig":
    from jaegpt.errors import JaegptError
    from jaegpt.yaml12 import load_yaml

    try:
        return dataclasses.replace(config, space=load_yaml(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise JaegptError(f"sweep: --space {path}: {error}") from None


def _sweep(arguments: argparse.Namespace) -> None:
    from jaegpt.errors import JaegptError
    from jaegpt.params import Params
    from jaegpt.runs.dvc_lock import flatten
    from jaegpt.sweep.space import SweepConfig

    checked = Params()
    config = checked.section("sweep", SweepConfig)
    if arguments.space:
        config = _with_space(config, arguments.space)
    overrides = {"model": arguments.model} if arguments.model else {}
    model = str(overrides.get("model", checked.value("model")))
    name = arguments.study or re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.").lower()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise JaegptError(f"sweep: --study takes letters, digits, dots and dashes, found {name!r}.")
    from jaegpt.sweep.sweep import Budget, sweep

    trials = TRIALS if arguments.trials is None and arguments.minutes is None else arguments.trials
    budget = Budget(trials=trials, minutes=arguments.minutes, workers=arguments.workers)
    sweep(config, flatten(checked.content), overrides, budget, name)
