"""One trial of a sweep: a DVC experiment in a copy of the project, watched as it trains, and stopped when hopeless."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from jaegpt.runs.records import FIGURES, SWEEP_PREFIX
from jaegpt.sweep.snapshot import TARGETS, Snapshot

STOP_S = 30  # a process that was asked to end has this long, to write its checkpoint, before it is ended

_EXAMPLES = re.compile(r"train: ([\d,]+) examples")
_VALIDATION = re.compile(r"step ([\d,]+): validation lm_loss ([-\w.]+)")
_ERROR = re.compile(r"(?:ERROR|error): (.+)")
_DATA_READY = re.compile(r"(?:Running stage|Stage) '(?:train|evaluate)'")
_OWNER = re.compile(r"^owner: [^\n]*")  # as `extract` prints whom it takes for the owner
_NOT_FINITE = "is not finite"  # of the trainer's message when a loss or its gradient is infinite or not a number


class TrialFailed(Exception):
    """The run ended with an error that says nothing about the setting's loss."""


class Interrupted(BaseException):
    """The sweep was stopped from outside; the trial stays open, and the next sweep runs it again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended.

    state: done, stopped (hopeless), or diverged (a loss that is not finite).
    loss: the evaluation's lm_loss when done, otherwise the last validation's.
    """

    state: str
    loss: float


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a trial tells while it runs.

    on_validation: (quarters of an epoch seen, or however often an epoch is validated; lm_loss) -> whether to stop.
    on_data_ready: the data stages are done, so that another trial finds them in the cache.
    """

    on_validation: Callable[[int, float], bool]
    on_data_ready: Callable[[], None]


class Runner:
    """Runs trials of one study; `stop_all` may be called from another thread or a signal handler."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        self.snapshot, self.folder = snapshot, folder
        self.stopping = False
        self._running: set[subprocess.Popen[str]] = set()

    def stop_all(self) -> None:
        """Ask every running trial to end."""
        self.stopping = True
        for process in list(self._running):
            _signal(process, signal.SIGTERM)
        timer = threading.Timer(STOP_S, self.kill_all)
        timer.daemon = True
        timer.start()

    def kill_all(self) -> None:
        """End every running trial at once."""
        for process in list(self._running):
            _signal(process, signal.SIGKILL)

    def run(self, name: str, settings: Mapping[str, Any], params: Mapping[str, Any], watch: Watch) -> Outcome:
        """Run one experiment up to its evaluation and record it under `name`.

        Args:
            settings: parameters to set, by dotted name.
            params: all parameters of the trial, for the length of an epoch.

        Raises:
            TrialFailed: the pipeline ended with an error; its output is in `folder`/NAME.log.
            Interrupted: `stop_all` was called.
        """
        if self.stopping:
            raise Interrupted
        # Checkpoints of trials stay among themselves: those of a trial that is stopped for good go with it.
        scratch = self.folder / "scratch" / hashlib.md5(repr(sorted(settings.items())).encode()).hexdigest()[:16]
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        reader = _Reader(params, watch)
        with self.snapshot.copy(copy):
            code = self._follow(copy, name, settings, scratch, reader)
            if self.stopping and code:
                raise Interrupted
            shutil.rmtree(scratch, ignore_errors=True)
            if reader.stopped:
                return Outcome(state="diverged" if reader.diverged else "stopped", loss=reader.last)
            if code and _NOT_FINITE in reader.error:
                return Outcome(state="diverged", loss=reader.last)
            if code:
                raise TrialFailed(reader.error or f"`dvc exp run` ended with code {code}")
            self.snapshot.keep_experiment(copy, name)
            loss = json.loads((copy / FIGURES).read_text(encoding="utf-8"))["lm_loss"]
        return Outcome(state="done", loss=loss)

    def _follow(self, copy: Path, name: str, settings: Mapping[str, Any], scratch: Path, reader: "_Reader") -> int:
        """Start the experiment and read along until it ends or is hopeless; its exit code."""
        changes = [part for key, value in settings.items() for part in ("-S", f"{key}={_quoted(value)}")]
        command = [sys.executable, "-m", "dvc", "exp", "run", "--name", name, *changes, *TARGETS]
        with (
            _private(self.folder / f"{name}.log") as log,
            _alive(self.folder / f"{name}.pid") as alive,
            subprocess.Popen(
                command, cwd=copy, env=_environment(scratch), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", errors="replace", start_new_session=True, pass_fds=(alive.fileno(),),
            ) as process,
        ):  # fmt: skip
            self._running.add(process)
            if self.stopping:  # since it was asked for the last time
                _signal(process, signal.SIGTERM)
            try:
                alive.write(f"{process.pid}\n")
                alive.flush()
                assert process.stdout is not None
                for line in process.stdout:
                    log.write(_OWNER.sub("owner: (name left out)", line))
                    if reader.read(line.strip()):
                        _signal(process, signal.SIGKILL)
                        break
                if not reader.stopped:
                    return process.wait(STOP_S)
                return process.wait()
            except subprocess.TimeoutExpired:
                return -1
            finally:
                _signal(process, signal.SIGKILL)  # a worker that outlived it, too
                self._running.discard(process)


def clear_leftovers(work: Path) -> int:
    """End the trials that a killed sweep left running, and remove the copies it left; how many were running.

    For who holds the lock of `work`, or it would end the trials of a sweep at work.
    """
    ended = 0
    for path in sorted(work.glob("*/*.pid")):
        with open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # it lives; otherwise its number may be another program's by now
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.killpg(int(file.read()), signal.SIGKILL)
                    ended += 1
        path.unlink()
    for copy in work.glob(f"*/{SWEEP_PREFIX}*"):
        if copy.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
    return ended


def _private(path: Path) -> TextIO:
    """A file to write that nobody else may read: what stages print can name people and files of the export."""
    path.unlink(missing_ok=True)  # one of an earlier version may be open to others
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")


@contextlib.contextmanager
def _alive(path: Path) -> Iterator[TextIO]:
    """A file for a process group's number; its lock lasts as long as a process that was given it, ours or the trial."""
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield file
        finally:
            path.unlink()


class _Reader:
    """Makes sense of the pipeline's output, a line at a time."""

    def __init__(self, params: Mapping[str, Any], watch: Watch) -> None:
        self.watch = watch
        self.batch_size, self.evaluations = params["train.batch_size"], params["train.evaluations"]
        self.examples = 0
        self.last, self.error, self.stopped, self.diverged = math.inf, "", False, False

    def read(self, line: str) -> bool:
        """Whether the trial should be stopped."""
        if found := _EXAMPLES.match(line):
            self.examples = int(found[1].replace(",", ""))
        elif _DATA_READY.match(line):
            self.watch.on_data_ready()
        elif (found := _ERROR.match(line)) and not self.error:
            self.error = found[1]
        elif (found := _VALIDATION.match(line)) and self.examples:
            loss = float(found[2])
            self.diverged = not math.isfinite(loss)
            self.last = self.last if self.diverged else loss
            steps = int(found[1].replace(",", ""))
            quarter = round(steps / math.ceil(self.examples / self.batch_size) * self.evaluations)
            self.stopped = self.watch.on_validation(max(quarter, min(steps, 1)), loss)  # 0 is before training alone
        return self.stopped


def _quoted(value: Any) -> str:
    """A value in the grammar of `dvc exp run -S`, which reads some characters of a path as its own."""
    text = str(value)
    return text if re.fullmatch(r"[\w.+/-]+", text) else "'" + text.replace("'", "\\'") + "'"


def _environment(scratch: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent  # `python` in dvc.yaml is this one, whether or not its environment is active
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",  # otherwise the validation losses come in one piece at the end
        "HF_HOME": os.environ.get("HF_HOME") or str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(scratch.resolve()),
    }


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To the whole group: dvc, the stage, and the stage's workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
