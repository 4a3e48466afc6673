"""What holds for every process: private files, an end that leaves nothing, a full disk, one writer per folder."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from helpers.paths import ROOT

from jaegpt.errors import JaegptError, make_private
from jaegpt.files import write_csv, write_json, write_text, writing_folder
from jaegpt.runs.dvc_lock import check_lock
from jaegpt.training.model_card import model_card

FIGURES = {"steps": 1, "precision": "fp32", "device": "cpu"}


def python(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A main function's lines, as a stage runs them."""
    body = "\n".join(f"    {line}" for line in code.splitlines())
    program = f"from jaegpt.errors import run\ndef main():\n{body}\nrun(main)\n"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True, encoding="utf-8",
    )  # fmt: skip


def project(folder: Path) -> Path:
    for name in ("data/messages", "models", ".dvc/cache"):
        (folder / name).mkdir(parents=True)
    (folder / "dvc.yaml").touch()
    return folder


def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        project(tmp_path)
        code = "from jaegpt.files import write_text, writing_folder\nwrite_text('out/a.txt', 'x')\n"
        code += "with writing_folder('out/t') as f:\n"
        done = python(f"{code}    (f / 'part').write_text('x')\nimport os\nos.mkdir('new')", tmp_path)
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    for name in ("data", "models", ".dvc", "out", "out/a.txt", "out/t", "out/t/part", "new"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0, name


def test_folders_of_the_same_names_elsewhere_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    make_private()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o755


def test_dvcs_notes_on_the_files_are_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "site/repo/0123"
    notes.mkdir(parents=True)
    for folder in (notes, notes.parent):
        folder.chmod(0o755)  # whatever the umask is
    project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    make_private()
    assert stat.S_IMODE(notes.stat().st_mode) == 0o700
    assert stat.S_IMODE(notes.parent.stat().st_mode) & 0o055, "which others use, too"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_temporary(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    code = """
import tempfile, time
from jaegpt.errors import run
from jaegpt.files import writing_folder
def main():
    with tempfile.TemporaryDirectory(), writing_folder("data/table") as folder:
        (folder / "part").write_text("private")
        print("ready", flush=True)
        time.sleep(60)
run(main)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, encoding="utf-8",
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert list((tmp_path / "tmp").iterdir())
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    assert list((tmp_path / "tmp").iterdir()) == list((tmp_path / "data").iterdir()) == []


def test_a_signal_ends_the_parts_that_processes_are_at(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "parts.py").write_text("""
import os, tempfile, time
from pathlib import Path
from jaegpt.errors import run
from jaegpt.parallel import map_parts
def part(number):
    with tempfile.TemporaryDirectory():
        Path(f"began {number} {os.getpid()}").touch()
        time.sleep(60)
if __name__ == "__main__":
    run(lambda: map_parts(part, range(8), "test"))
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp"), "JAEGPT_WORKERS": "2"}
    with subprocess.Popen([sys.executable, "parts.py"], cwd=tmp_path, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while len(began := list(tmp_path.glob("began *"))) < 2:
                assert time.monotonic() < deadline, "the parts did not begin in a minute"
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 128 + signal.SIGTERM, "it does not wait for the parts"
        finally:
            process.kill()
    for path in began:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.split()[2]), 0)
    assert list(tmp_path.glob("began *")) == began, "nor begins others"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_names_are_printed_where_only_ascii_is(tmp_path: Path) -> None:
    done = python("print('owner: Zoë Łucja')", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "owner: Zo\\xeb \\u0141ucja\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        program = "from jaegpt.errors import run\nrun(lambda: print('x'))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=full, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_text(tmp_path / "a.txt", "old")
    with writing_folder(tmp_path / "table") as folder:
        (folder / "part").write_text("old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as a full disk: writing ends in the middle
    try:
        for name, write in (
            ("a.txt", lambda path: write_text(path, "x" * 10_000)),
            ("a.json", lambda path: write_json(path, {"x": "x" * 10_000})),
            ("a.csv", lambda path: write_csv(path, ("x",), [("x" * 10_000,)])),
            ("table", _write_folder),
        ):
            with pytest.raises(JaegptError, match=rf"{tmp_path / name}: cannot be written \(File too large\)"):
                write(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "table"]
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "table/part").read_text() == "old"


def _write_folder(path: Path) -> None:
    with writing_folder(path) as folder:
        (folder / "part").write_text("x" * 10_000)


def test_what_libraries_say_of_a_full_disk_is_understood(tmp_path: Path) -> None:
    for error in (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ):
        with pytest.raises(JaegptError, match=r"table: cannot be written \(No space left on device\)"):
            _fail(tmp_path / "table", error)
    with pytest.raises(KeyError):
        _fail(tmp_path / "table", KeyError("a fault of ours"))
    assert list(tmp_path.iterdir()) == []


def _fail(path: Path, error: Exception) -> None:
    with writing_folder(path):
        raise error


def test_of_two_processes_on_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    code = (
        "from jaegpt.files import writing_folder\nwith writing_folder('table') as f:\n    (f / 'part').write_text('2')"
    )
    with writing_folder(tmp_path / "table") as folder:
        (folder / "part").write_text("1")
        done = python(code, tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("error: table: another process is writing it now.")
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "table/part").read_text() == "1"
    assert python(code, tmp_path).returncode == 0, "it is free again"
    assert (tmp_path / "table/part").read_text() == "2"


def test_a_scratch_folder_is_one_process_s_and_nothing_stays_of_a_killed_one(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom jaegpt.files import scratch_folder\nwith scratch_folder('data/.use') as f:\n"
        "    print(len(list(f.iterdir())), flush=True)\n    (f / 'part').write_text('private')\n"
        "    time.sleep(float(os.environ['SECONDS']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECONDS": "60"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        done = python(code, tmp_path, SECONDS="0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: data/.use: another process is writing it now.")
        process.kill()
    assert (tmp_path / "data/.use/part").read_text() == "private", "a kill leaves it"
    assert python(code, tmp_path, SECONDS="0").stdout == "0\n"
    assert list((tmp_path / "data").iterdir()) == []


def test_a_file_that_two_processes_write_is_whole(tmp_path: Path) -> None:
    code = "from jaegpt.files import write_text\nimport sys\nfor _ in range(200): write_text('a', sys.argv[1] * 5000)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", code, letter], cwd=tmp_path, env=environment) for letter in "xy"]
    seen, deadline = set(), time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if (tmp_path / "a").exists():
            seen.add((tmp_path / "a").read_text())
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen <= {"x" * 5000, "y" * 5000}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("content", ["", "\n", "schema: '2.0'\nsta", "schema: '2.0'\nstages:\n  a: {"])
def test_a_dvc_lock_that_was_cut_off_is_one_line_with_the_remedy(content: str, tmp_path: Path) -> None:
    check_lock(tmp_path)
    (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(JaegptError, match=r"dvc.lock: empty or cut off.*`git checkout dvc.lock`, then `dvc repro`"):
        check_lock(tmp_path)
    check_lock(ROOT)


@pytest.mark.parametrize("model", ["/home/zoe/private/model", "private/of/zoe", "./zoe", "~/zoe", "zoe"])
def test_the_model_card_holds_no_private_path(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoe").mkdir()
    card = model_card({"model": model}, FIGURES, {}, 1, 1)
    assert "Base model: a local model." in card
    assert "zoe" not in card
    assert "Base model: owner/name." in model_card({"model": "owner/name"}, FIGURES, {}, 1, 1)


def test_the_wheel_holds_what_the_commands_read(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools writes beside what it builds
    source.mkdir()
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "jaegpt", "pyproject.toml", "README.md"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    ).stdout.splitlines():  # fmt: skip
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    built = subprocess.run([*command, "-w", str(tmp_path), str(source)], capture_output=True, encoding="utf-8")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    installed = tmp_path / "installed/jaegpt"
    data = [path for path in (source / "jaegpt").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(data) >= 2
    assert [path for path in data if not (installed / path.relative_to(source / "jaegpt")).is_file()] == []
    code = """
import jaegpt.runs.report as report, jaegpt.sweep.results as results, pathlib
assert "installed" in report.__file__
assert pathlib.Path(results.__file__).with_name("plots.yaml").read_text(encoding="utf-8")
assert pathlib.Path(report.__file__).with_name("report.html").read_text(encoding="utf-8")
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    used = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert used.returncode == 0, used.stderr
