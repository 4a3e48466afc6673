"""Commands as a user types them, in a folder of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def environment() -> dict[str, str]:
    """This environment's programs first, on the CPU."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JAEGPT_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",  # an unknown model is looked for in the cache only, without waiting for a network
    }


def call(folder: Path, *command: str, expect: int = 0, **variables: str) -> str:
    """Run a command in `folder` with nothing to read, and `variables` in its environment; its output, both streams."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | variables,
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
        command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8",
        preexec_fn=_mind_interrupts, start_new_session=True,
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
