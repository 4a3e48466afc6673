"""Runs of train_script.py, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.forking import forked_python

_TESTS = Path(__file__).parents[1]


def train(out: Path, settings: dict[str, Any], fresh: bool = False, **variables: str) -> subprocess.CompletedProcess:
    """Train as `settings` say (see train_script.py), with `variables` in the environment.

    The process is forked from one that has loaded torch and transformers, which takes longer than the training; `fresh`
    starts Python anew, with hashes of another seed: compare the two, and no order of a set has decided.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS.parent), str(_TESTS)]), **variables}
    python = sys.executable if fresh else forked_python()
    command = [python, str(_TESTS / "helpers/train_script.py"), str(out), json.dumps(settings)]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
