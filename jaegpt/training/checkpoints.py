"""Checkpoints of a run that is not finished: outside the workspace, where neither DVC nor Git looks.

A run finds its own state only: the file's name is a hash of everything that determines the result, the code included.
And it finds it whole or not at all: the file ends with a digest of all that is before it. How often one is written is
a setting of the machine, as the device is, and no parameter: JAEGPT_CHECKPOINT_MINUTES.
"""

import hashlib
import importlib.metadata
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self

import torch
from torch import nn
from tqdm import tqdm

from jaegpt.errors import JaegptError
from jaegpt.files import writing_file
from jaegpt.training.packing import Learned

VERSION = 2
LIBRARIES = ("torch", "transformers", "peft")  # whose versions may change the numbers
MINUTES = 5.0  # between checkpoints, where JAEGPT_CHECKPOINT_MINUTES does not say
_MARK = b"jaegpt checkpoint "  # followed by the version, 4 bytes, and the digest: what a checkpoint ends with
_DIGEST_BYTES = 32
_TRAILER_BYTES = len(_MARK) + 4 + _DIGEST_BYTES
_CHUNK_BYTES = 1 << 20


def run_key(model: nn.Module, settings: Mapping[str, Any], examples: Iterable[Learned], machine: str) -> str:
    """A hash of the untrained weights, the settings, the examples, the machine's kind, the libraries and this package.

    Args:
        machine: device, number of devices, precision and threads: what decides the order of summation.
    """
    digest = hashlib.blake2b(digest_size=16)
    libraries = [importlib.metadata.version(name) for name in LIBRARIES]
    digest.update(repr([VERSION, libraries, machine, sorted(settings.items())]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    for example in examples:
        digest.update(example.name.encode())
        for ids in example.arrays:
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return digest.hexdigest()


def checkpoint_minutes() -> float:
    """Minutes between checkpoints, as JAEGPT_CHECKPOINT_MINUTES says; 0: no checkpoints.

    Raises:
        JaegptError: it is not a number of minutes.
    """
    text = os.environ.get("JAEGPT_CHECKPOINT_MINUTES", "")
    try:
        minutes = float(text or MINUTES)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < math.inf:
        raise JaegptError(
            f"JAEGPT_CHECKPOINT_MINUTES must be a number of minutes, or 0 for no checkpoints, found {text!r}."
        )
    return minutes


class Scratch:
    """The one checkpoint of one run: $XDG_CACHE_HOME/jaegpt/runs/KEY.pt, in ~/.cache where that is not set.

    Raises:
        JaegptError: JAEGPT_CHECKPOINT_MINUTES is no number of minutes.
    """

    def __init__(self, key: str) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(home) / "jaegpt" / "runs" / f"{key}.pt"
        self._every_s = 60 * checkpoint_minutes()
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return bool(self._every_s) and time.monotonic() - self._saved_at >= self._every_s

    def load(self) -> dict[str, Any] | None:
        """The state saved last, or None. A file that cannot be used is reported, and None is returned."""
        try:
            with open(self.path, "rb") as file:
                problem = self._problem(file)
            if problem is None:
                return dict(torch.load(self.path, weights_only=True, map_location="cpu"))
        except FileNotFoundError:
            return None
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        tqdm.write(f"train: {self.path} {problem}; starting from the beginning")
        return None

    def save(self, state: Mapping[str, Any]) -> bool:
        """Replace the checkpoint; whether that worked. If not, the old one stays, and the run goes on."""
        if not self._every_s:
            return False
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with writing_file(self.path) as unfinished, open(unfinished, "wb") as file:
                digesting: Any = _Digesting(file, self._digest())
                torch.save(dict(state), digesting)
                file.write(_MARK + VERSION.to_bytes(4, "big") + digesting.digest.digest())
        except (OSError, RuntimeError, JaegptError) as error:  # torch reports a full disk as a RuntimeError
            reason = " ".join(str(error).split())[:200]
            tqdm.write(f"train: no checkpoint written to {self.path.parent} ({reason}); the run goes on")
            return False
        finally:
            self._saved_at = time.monotonic()  # also where it failed: trying at each step would take long
        return True

    def remove(self) -> None:
        """Called when the run's results are written. A run killed while saving also left an unfinished file."""
        for path in (self.path, self.path.with_name(f".{self.path.name}.tmp")):
            path.unlink(missing_ok=True)

    def _problem(self, file: IO[bytes]) -> str | None:
        """What is wrong with the open checkpoint, or None. It may be damaged, or of another run or version."""
        size = os.fstat(file.fileno()).st_size - _TRAILER_BYTES
        if size < 0:
            return "is damaged (it is too short)"
        digest, left = self._digest(), size
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        trailer = file.read(_TRAILER_BYTES)
        version = int.from_bytes(trailer[len(_MARK) : len(_MARK) + 4], "big")
        if not trailer.startswith(_MARK):
            return "is damaged (its end is not that of a checkpoint)"
        if trailer[-_DIGEST_BYTES:] != digest.digest():
            return "is damaged, or another run's (its digest is not that of its content)"
        return None if version == VERSION else f"is of version {version}, this is version {VERSION}"

    def _digest(self) -> "hashlib.blake2b":
        """Keyed with the run's own name, so that another run's checkpoint under this name does not fit either."""
        return hashlib.blake2b(digest_size=_DIGEST_BYTES, key=self.path.stem.encode()[:64])


class _Digesting:
    """A file that digests what is written to it, because torch.save wants to write to it in many pieces."""

    def __init__(self, file: IO[bytes], digest: "hashlib.blake2b") -> None:
        self._file, self.digest = file, digest

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


class Interruption:
    """While it is open, SIGTERM and Ctrl-C are only noted, so that the current step ends; a second one acts at once."""

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
        # Whoever sends it twice does not want to wait.
        signal.signal(number, self._before[self.signal])
