"""Systems that are not Linux: Windows, of which its missing modules are hidden here, and Apple's GPUs, without one."""

import dataclasses
import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples, save_tiny, tiny_heads
from helpers.paths import ROOT

from jaegpt import files
from jaegpt.errors import JaegptError
from jaegpt.training.config import Task
from jaegpt.training.devices import choose_device
from jaegpt.training.loop import train
from jaegpt.training.runtime_choice import MpsRuntime, runtime_of

# What Windows lacks is hidden from this project's modules alone: others look on which system they are, as psutil does.
# The names of `os` and `signal` that it has not go once all is imported.
HIDDEN = """
import builtins, importlib, sys
missing = "fcntl resource termios tty pty pwd grp readline syslog curses".split()
real = builtins.__import__

def hiding(name, globals=None, *rest, **named):
    if name.partition(".")[0] in missing and str((globals or {}).get("__name__")).startswith(("jaegpt", "stages")):
        raise ImportError(name + " is hidden")
    return real(name, globals, *rest, **named)

builtins.__import__ = hiding
imported = []
for name in sys.argv[1:]:
    importlib.import_module(name)
    imported.append(name)

import os, signal
for module, names in ((os, "fork killpg getuid sysconf O_DIRECTORY sched_getaffinity"), (signal, "SIGHUP SIGKILL")):
    for name in names.split():
        delattr(module, name)

from pathlib import Path
from jaegpt.dialogue.bounded import WorkFailed, bounded
from jaegpt.errors import JaegptError, run
from jaegpt.files import write_json, writing_folder
from jaegpt.parallel import num_workers
from jaegpt.training.devices import choose_device, peak_memory_mb
from jaegpt.training.memory import available_bytes

def main():
    write_json("figures.json", {"a": 1})
    with writing_folder("table") as folder:
        (folder / "part").write_text("x")
    with writing_folder("table") as folder:
        (folder / "part").write_text("y")
    assert sorted(path.name for path in Path(".").iterdir()) == ["figures.json", "table"]
    assert Path("table/part").read_text() == "y"
    assert bounded(lambda: "text") == "text"
    try:
        bounded(lambda: 1 // 0)
    except WorkFailed as error:
        print(error)
    assert num_workers() >= 1
    assert peak_memory_mb() is None
    assert available_bytes(choose_device("fp32")) > 1e8
    print(len(imported), "imported")

run(main)
"""
# These are of torch_xla, which there is for Linux alone, and take over the process.
XLA_ALONE = ("jaegpt.training.xla", "jaegpt.tpu.lower", "jaegpt.tpu.compile")


def test_every_module_is_imported_where_unix_modules_are_missing(tmp_path: Path) -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("jaegpt", "stages")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    names = [name for name in names if name not in XLA_ALONE]
    assert len(names) > 200
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDDEN, *names],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "JAEGPT_DEVICE": "cpu"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-2:] == ["integer division or modulo by zero", f"{len(names)} imported"]


class Msvcrt:
    """Windows' module over this system's locks: of a byte, refused with an error of its own."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > 1e9, "where nobody reads"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None


def test_outputs_are_locked_on_windows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", Msvcrt)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with files.writing_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
        refused = pytest.raises(JaegptError, match="another process is writing it now")
        with refused, files.writing_folder(tmp_path / "out"):
            pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    order = []

    def second() -> None:
        files.write_text(tmp_path / "file", "second")
        order.append("second")

    thread = threading.Thread(target=second)
    with files.writing_file(tmp_path / "file") as temporary:
        thread.start()
        temporary.write_text("first", encoding="utf-8")
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out", "temporary"]


def test_an_apple_gpu_is_chosen_where_torch_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("JAEGPT_DEVICE", "mps")
    if not torch.backends.mps.is_available():
        with pytest.raises(JaegptError, match="torch sees no Apple GPU here"):
            choose_device("auto")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for wanted in ("mps", "auto"):
        monkeypatch.setenv("JAEGPT_DEVICE", wanted)
        device = choose_device("auto")
        assert (device.kind, device.torch_device.type, device.precision) == ("mps", "mps", "fp32")
        assert choose_device("bf16", eager=True).precision == "bf16"
    monkeypatch.setenv("JAEGPT_DEVICE", "cpu")
    assert choose_device("auto").kind == "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_update_is_that_of_the_cpu_in_plain_operations(tmp_path: Path, dtype: torch.dtype) -> None:
    """Run on the CPU: there is no such GPU here."""
    tiny = save_tiny(tmp_path / "tiny")
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(40), valid=random_examples(9, seed=4))
    config, losses = dataclasses.replace(TRAIN_CONFIG, epochs=1, learning_rate=1e-3), {}
    for kind in ("cpu", "mps"):
        device = dataclasses.replace(CPU, kind=kind, dtype=dtype)
        assert isinstance(runtime_of(device), MpsRuntime) == (kind == "mps")
        log = train(tiny_heads(tiny, dropout=False), task, config, device)
        losses[kind] = [row[2] for row in log.train] + [log.valid[-1][1]]
    assert len(losses["cpu"]) == 6
    assert losses["mps"] == pytest.approx(losses["cpu"], rel=1e-5 if dtype == torch.float32 else 1e-3)
    assert losses["cpu"][-1] < losses["cpu"][0]
