"""Runs of train_script.py, each in a process of its own."""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_SCRIPT = _TESTS / "helpers/train_script.py"
_LIMIT_S = 300


def train(out: Path, settings: dict[str, Any], fresh: bool = False, **variables: str) -> subprocess.CompletedProcess:
    """Train as `settings` say (see train_script.py), with `variables` in the environment.

    The process is forked from one that has loaded torch and transformers, which takes longer than the training; `fresh`
    starts Python anew, with hashes of another seed: compare the two, and no order of a set has decided.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS.parent), str(_TESTS)]), **variables}
    arguments = [str(_SCRIPT), str(out), json.dumps(settings)]
    if fresh:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=_LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder, "stdout"), Path(folder, "stderr")]
        for path in printed:
            path.touch()
        request = {"arguments": arguments, "environment": environment, "printed": [str(path) for path in printed]}
        code = _ask(json.dumps(request))
        return subprocess.CompletedProcess(arguments, code, *(path.read_text(encoding="utf-8") for path in printed))


def _ask(request: str) -> int:
    """Have the process that forks fulfil a request; the exit code."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    limit = threading.Timer(_LIMIT_S, os.killpg, (server.pid, signal.SIGKILL))  # of its forks, too
    limit.start()
    try:
        server.stdin.write(f"{request}\n")
        server.stdin.flush()
        answer = server.stdout.readline()
    finally:
        limit.cancel()
    if not answer:
        _server.cache_clear()  # the next one asks a process that lives
    assert answer, f"no answer in {_LIMIT_S} s"
    return int(answer)


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process that forks; it ends with this one."""
    server = subprocess.Popen(
        [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS.parent), str(_TESTS)])}, start_new_session=True,
    )  # fmt: skip
    atexit.register(server.communicate)
    return server
