"""Which addresses a command speaks to, as the kernel sees it: strace follows every process that the command starts."""

import os
import re
import shutil
from pathlib import Path

import pytest

NETWORK_LOG = "../network"  # of the whole `dvc repro` that the fixture `project` runs
_CALLS = "trace=execve,connect,sendto,sendmsg,sendmmsg"
_ADDRESS = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def tracing(log: Path) -> list[str]:
    """What to put before a command so that its network calls are written to `log`.

    Skips where strace is not installed; under CI=true that is a failure.
    """
    if shutil.which("strace") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no strace on this machine; .ci/run installs it")
        pytest.skip("no strace on this machine (Debian: apt-get install strace)")
    # --seccomp-bpf stops the traced programs at these calls alone, so that they run at their usual speed.
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-e", _CALLS, "-o", str(log)]


def addresses(log: Path) -> set[str]:
    """The internet addresses in a log of `tracing`, those of this machine left out."""
    text = log.read_text(encoding="utf-8", errors="replace")
    assert "execve(" in text, "the command's own start at least, or nothing was followed"
    found = {v4 or v6 for v4, v6 in _ADDRESS.findall(text)}
    return {address for address in found if not address.startswith("127.") and address != "::1"}
