"""One trial of a sweep: a DVC experiment in a copy of the project, watched as it trains, and stopped when hopeless."""

import contextlib
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from jaegpt.files import lock_file
from jaegpt.runs.records import FIGURES, SWEEP_PREFIX
from jaegpt.sweep.snapshot import TARGETS, Snapshot
from jaegpt.training.progress import VARIABLE, Follower

STOP_S = 30  # a process that was asked to end has this long, to write its checkpoint, before it is ended

POLL_S = 0.1  # between looks at how far a trial is
_DVC = (sys.executable, "-m", "dvc")


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
    """What to call as a trial runs.

    on_validation: (validation intervals seen, `train.evaluations` per epoch; lm_loss) -> whether to stop.
    on_data_ready: the data stages are done, so that another trial finds them in the cache.
    """

    on_validation: Callable[[int, float], bool]
    on_data_ready: Callable[[], None]


class Runner:
    """Runs trials of one study; `stop_all` may be called from another thread or a signal handler.

    Args:
        folder: for the copies and logs of trials.
        dvc: the command that takes `exp run ...`.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, dvc: Sequence[str] = _DVC) -> None:
        self.snapshot, self.folder, self.dvc = snapshot, folder, dvc
        self.stopping = False
        self._running: set[subprocess.Popen[bytes]] = set()

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
            params: all parameters of the trial; train.epochs and train.evaluations say what an interval is.

        Raises:
            TrialFailed: the pipeline ended with an error; its output is in `folder`/NAME.log.
            Interrupted: `stop_all` was called.
        """
        if self.stopping:
            raise Interrupted
        # Named by the settings, so that a trial that is run again finds its checkpoint, and no other trial does.
        # Removed below, once the trial has come to an end of its own.
        scratch = self.folder / "scratch" / hashlib.md5(repr(sorted(settings.items())).encode()).hexdigest()[:16]
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        with self.snapshot.copy(copy):
            progress = _Progress(copy / ".dvc/tmp/progress.jsonl", params, watch)  # gone with the copy
            code = self._follow(copy, name, settings, scratch, progress)
            if self.stopping and code:
                raise Interrupted
            shutil.rmtree(scratch, ignore_errors=True)
            if progress.diverged or progress.stopped:
                return Outcome(state="diverged" if progress.diverged else "stopped", loss=progress.last)
            if code:
                raise TrialFailed(self._reason(name) or f"`dvc exp run` ended with code {code}")
            self.snapshot.keep_experiment(copy, name)
            loss = json.loads((copy / FIGURES).read_text(encoding="utf-8"))["lm_loss"]
        return Outcome(state="done", loss=loss)

    def _follow(self, copy: Path, name: str, settings: Mapping[str, Any], scratch: Path, progress: "_Progress") -> int:
        """Start the experiment and follow it until it ends or is hopeless; its exit code."""
        changes = [part for key, value in settings.items() for part in ("-S", f"{key}={_quoted(value)}")]
        command = [*self.dvc, "exp", "run", "--name", name, *changes, *TARGETS]
        with (
            _private(self.folder / f"{name}.log") as log,
            _alive(self.folder / f"{name}.pid") as alive,
            subprocess.Popen(
                command, cwd=copy, env=_environment(scratch, progress.path), stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, pass_fds=(alive.fileno(),),
            ) as process,
        ):  # fmt: skip
            self._running.add(process)
            if self.stopping:  # stop_all may have run after run() had looked, and before this process was in its set
                _signal(process, signal.SIGTERM)
            try:
                alive.write(f"{process.pid}\n")
                alive.flush()
                while process.poll() is None:
                    progress.look()
                    if progress.stopped:
                        _signal(process, signal.SIGKILL)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_S)
                progress.look()
                return process.returncode
            finally:
                _signal(process, signal.SIGKILL)  # also a worker that outlived it
                self._running.discard(process)

    def _reason(self, name: str) -> str:
        """The first error in a trial's output, without its mark."""
        with open(self.folder / f"{name}.log", encoding="utf-8", errors="replace") as log:
            lines = (line.strip().partition(": ") for line in log)
            return next((text for mark, _, text in lines if mark in ("error", "ERROR")), "")


def clear_leftovers(work: Path) -> int:
    """End the trials that a killed sweep left running, and remove the copies it left; how many were running.

    Call it with the lock of `work` held: otherwise it would end the trials of another sweep that is running.
    """
    ended = 0
    for path in sorted(work.glob("*/*.pid")):
        with open(path, encoding="utf-8") as file:
            try:
                lock_file(file.fileno(), wait=False)
            except BlockingIOError:  # it is still running; otherwise its number may be another program's by now
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.killpg(int(file.read()), signal.SIGKILL)
                    ended += 1
        path.unlink()
    for copy in work.glob(f"*/{SWEEP_PREFIX}*"):
        if copy.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
    return ended


def _private(path: Path) -> TextIO:
    """A file to write that nobody else may read: errors of stages can name people and files of the export."""
    path.unlink(missing_ok=True)  # one of an earlier version may be open to others
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")


@contextlib.contextmanager
def _alive(path: Path) -> Iterator[TextIO]:
    """A file for a process group's number; its lock is held until both this process and the trial have ended."""
    with open(path, "w", encoding="utf-8") as file:
        lock_file(file.fileno(), wait=True)
        try:
            yield file
        finally:
            path.unlink()


class _Progress:
    """How far a trial is, from the file that its training writes."""

    def __init__(self, path: Path, params: Mapping[str, Any], watch: Watch) -> None:
        self.path, self.watch = path, watch
        self.intervals = params["train.epochs"] * params["train.evaluations"]
        self.last, self.stopped, self.diverged = math.inf, False, False
        self._follower = Follower(path)
        path.parent.mkdir(parents=True, exist_ok=True)

    def look(self) -> None:
        """Act on what is new."""
        for event in self._follower.new_events():
            if self.stopped:
                return
            if event["event"] == "begun":
                self.watch.on_data_ready()
            elif event["event"] == "not finite":
                self.diverged = True
            elif event["event"] == "validation":
                self._validated(event)

    def _validated(self, event: Mapping[str, Any]) -> None:
        loss = math.nan if event["lm_loss"] is None else event["lm_loss"]
        self.diverged = not math.isfinite(loss)
        self.last = self.last if self.diverged else loss
        interval = round(event["step"] / event["steps"] * self.intervals)
        self.stopped = self.watch.on_validation(max(interval, min(event["step"], 1)), loss)  # only step 0 is untrained


def _quoted(value: Any) -> str:
    """A value in the grammar of `dvc exp run -S`, which reads some characters of a path as its own."""
    text = str(value)
    return text if re.fullmatch(r"[\w.+/-]+", text) else "'" + text.replace("'", "\\'") + "'"


def _environment(scratch: Path, progress: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent  # `python` in dvc.yaml is this one, whether or not its environment is active
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        VARIABLE: str(progress),
        "HF_HOME": os.environ.get("HF_HOME") or str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(scratch.resolve()),
    }


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the whole group: dvc, the stage, and the stage's workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
