"""A training run in a process of its own, for tests that kill it or run several: train_script.py OUT SETTINGS.

SETTINGS is JSON: `tiny` (its folder), `config` (changes to the usual settings), `signal_at` {step: signal number},
`file_limit` (bytes that a file may have, so that saving fails as on a full disk), `dropout`, `segments` (how many).
OUT gets the final weights, and the gradients of the first step as gradient.NAME; the figures are printed.

XLA takes over a process and its number of devices cannot change, so its tests use this too; JAEGPT_DEVICE chooses.
"""

import jaegpt.environment  # noqa: F401

import dataclasses
import itertools
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from helpers.models import TRAIN_CONFIG, random_examples, random_segments, recording_gradients, tiny_heads
from jaegpt.errors import run
from jaegpt.training import loop
from jaegpt.training.checkpoints import Scratch, run_key
from jaegpt.training.config import Task
from jaegpt.training.devices import choose_device


def main() -> None:
    """Train on random examples."""
    settings = json.loads(sys.argv[2])
    config = dataclasses.replace(TRAIN_CONFIG, **settings.get("config", {}))
    segments = random_segments(settings["segments"]) if "segments" in settings else None
    task = Task(
        w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(50), valid=random_examples(9, seed=4), segments=segments
    )
    device = choose_device(config.precision)
    model = tiny_heads(Path(settings["tiny"]), dropout=settings.get("dropout", True))
    described = dataclasses.asdict(config) | {"seed": task.seed}
    scratch = Scratch(run_key(model, described, [*task.train, *task.valid], f"{device.num_devices} x {device.reason}"))
    gradients = recording_gradients(pytest.MonkeyPatch(), model)
    _signal_at({int(step): number for step, number in settings.get("signal_at", {}).items()})
    if "file_limit" in settings:
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_limit"], resource.RLIM_INFINITY))
    log = loop.train(model, task, config, device, scratch)
    if device.processes.rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        save_file(
            weights | {f"gradient.{name}": gradient for first in gradients[:1] for name, gradient in first.items()},
            sys.argv[1],
        )
        print(
            json.dumps(
                {**log.figures, "losses": [row[2] for row in log.train], "valid": log.valid, "gradients": log.gradients}
            )
        )


def _signal_at(signals: dict[int, int]) -> None:
    """Send this process a signal in the middle of its n-th update."""
    update = loop.train_step
    count = itertools.count()

    def train_step(*arguments: Any) -> loop.Results:
        number = signals.get(next(count))
        if number is not None:
            os.kill(os.getpid(), number)
        return update(*arguments)

    loop.train_step = train_step  # type: ignore[assignment]


if __name__ == "__main__":
    run(main)
