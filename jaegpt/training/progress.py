"""How far a training run is, for a program that follows it: one JSON object per line, in a file.

`jaegpt sweep` names the file in the environment variable JAEGPT_PROGRESS; without it nothing is written. Events:
    {"event": "begun"}                                                  the data is there
    {"event": "validation", "step", "steps", "lm_loss", ...}   after `step` of the run's `steps`, over all its epochs
    {"event": "not finite", "step"} or {"event": "stopped", "step"}     how it ended, where it did not reach its end
A figure that is not finite is null.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

VARIABLE = "JAEGPT_PROGRESS"


def followed() -> bool:
    """Whether a program follows the run, and keeps what it prints."""
    return bool(os.environ.get(VARIABLE))


def note(event: str, **figures: Any) -> None:
    """Append an event to the file that JAEGPT_PROGRESS names; nothing where it is not set."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **finite}) + "\n")


class Follower:
    """Reads the events of a file as they come."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def new_events(self) -> list[dict[str, Any]]:
        """The events since the last call. A line whose end is not there yet is left for the next call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        return [json.loads(line) for line in whole.splitlines()]
