"""Checkpoints of a run that is not finished: outside the workspace, where neither DVC nor Git looks.

A run finds its own state only: the file's name is a hash of everything that determines the result, the code included.
"""

import hashlib
import importlib.metadata
import os
import pickle
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import nn
from tqdm import tqdm

from jaegpt.training.packing import Example

VERSION = 1
LIBRARIES = ("torch", "transformers", "peft")  # that compute
# They decide when things are looked at or saved, not what comes out.
WITHOUT_EFFECT = {"checkpoint_steps"}


def run_key(model: nn.Module, settings: Mapping[str, Any], examples: Iterable[Example], machine: str) -> str:
    """A hash of the untrained weights, the settings, the examples, the machine's kind, the libraries and this package.

    Args:
        machine: device, number of devices, precision and threads: what decides the order of summation.
    """
    digest = hashlib.blake2b(digest_size=16)
    decisive = {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}
    libraries = [importlib.metadata.version(name) for name in LIBRARIES]
    digest.update(repr([VERSION, libraries, machine, sorted(decisive.items())]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    for example in examples:
        digest.update(example.example_id.encode())
        for ids in (example.history, example.roles, *example.candidates):
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return digest.hexdigest()


class Scratch:
    """The one checkpoint of one run: $XDG_CACHE_HOME/jaegpt/runs/KEY.pt, in ~/.cache where that is not set."""

    def __init__(self, key: str) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(home) / "jaegpt" / "runs" / f"{key}.pt"
        self._unfinished = self.path.with_suffix(".tmp")

    def load(self) -> dict[str, Any] | None:
        """The state saved last, or None. A file that cannot be used is named, and the run starts anew."""
        if not self.path.is_file():
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            found = state["version"]
        except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            tqdm.write(f"train: {self.path} cannot be read ({type(error).__name__}: damaged?); starting anew")
            return None
        if found != VERSION:
            tqdm.write(f"train: {self.path} is of version {found}, this is version {VERSION}; starting anew")
            return None
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> bool:
        """Replace the checkpoint. Where there is no room for a new one the old one stays, and the run goes on."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"version": VERSION, **state}, self._unfinished)
            os.replace(self._unfinished, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            self._unfinished.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200]
            tqdm.write(f"train: no checkpoint written to {self.path.parent} ({reason}); the run goes on")
            return False
        return True

    def remove(self) -> None:
        """Called when the run's results are written. A run killed while it saved left an unfinished file, too."""
        for path in (self.path, self._unfinished):
            path.unlink(missing_ok=True)


class Interruption:
    """While it is open, SIGTERM and Ctrl-C wait for the step at hand; a second one acts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(number, self._before[self.signal])
