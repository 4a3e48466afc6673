"""Commands as a user types them, in a folder of their own.

`dvc`, `jaegpt`, `torchrun` and `python -m stages.NAME` are forked from a process that has loaded torch and DVC (see
forking.py), and so is what they start. Below another program, such as the tracer of network.py, all are started anew.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers import forking


def environment(program: str = "") -> dict[str, str]:
    """This environment's programs first, on the CPU; those that fork before them, if `program` is one."""
    forks = forking.programs() if program in forking.NAMES else None
    found = {
        **os.environ,
        "PATH": os.pathsep.join(
            [*([str(forks)] if forks else []), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "JAEGPT_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",  # an unknown model is looked for in the cache only, without waiting for a network
    }
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles the project's code again
    return found


def call(folder: Path, *command: str, expect: int = 0, **variables: str) -> str:
    """Run a command in `folder` with nothing to read, and `variables` in its environment; its output, both streams."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(command[0]) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == expect, done.stdout[-4000:]
    return done.stdout


def started(folder: Path, *command: str, use: Callable[[str], object] = lambda line: None) -> str:
    """The first line of a server that listens, which is then interrupted as by Ctrl-C, after `use` of that line."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(command[0]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        encoding="utf-8", preexec_fn=_mind_interrupts, start_new_session=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            use(line)
            os.killpg(server.pid, signal.SIGINT)  # as a terminal does: also what a tracer has started
            assert server.wait(timeout=60) == 0, "it ends on an interrupt"
        finally:
            server.kill()
    return line


def _mind_interrupts() -> None:
    """Where the tests run in the background of a shell, interrupts are ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
