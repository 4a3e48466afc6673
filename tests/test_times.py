"""The table of stage times at the end of `make repro`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaegpt.errors import STAGE_TIMES
from jaegpt.runs.times import stage_times, table

STAGE = "import time; from jaegpt.errors import run; run(lambda: time.sleep(0.3))"


def stage(name: str | None, folder: Path, code: str = STAGE) -> int:
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    environment |= {"DVC_STAGE": name} if name else {}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    ).returncode


def test_each_stage_that_ends_well_leaves_its_time(tmp_path: Path) -> None:
    (tmp_path / STAGE_TIMES).parent.mkdir(parents=True)
    stage("extract", tmp_path)
    began = time.time() - 0.1
    stage("train", tmp_path)
    stage("encode", tmp_path)
    assert stage("evaluate", tmp_path, "from jaegpt.errors import run\ndef fail(): raise OSError\nrun(fail)")
    stage(None, tmp_path)  # a command, not a stage
    times = stage_times(began, tmp_path / STAGE_TIMES)
    assert list(times.index) == ["train", "encode"]
    assert times.between(0.3, 20).all()
    with (tmp_path / STAGE_TIMES).open("a") as file:
        file.write('{"stage": "fidel')
    assert list(stage_times(began, tmp_path / STAGE_TIMES).index) == ["train", "encode"]


def test_outside_of_a_project_nothing_is_written(tmp_path: Path) -> None:
    assert stage("extract", tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_table_says_what_ran_and_what_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  extract: {cmd: a}\n  train: {cmd: b}\n")
    (tmp_path / "times").write_text(
        '{"stage": "extract", "began": 5, "seconds": 2}\n{"stage": "train", "began": 9, "seconds": 75}\n'
    )
    monkeypatch.chdir(tmp_path)
    lines = table(stage_times(7, tmp_path / "times"), 100).splitlines()
    assert [line.split() for line in lines if line] == [
        ["train", "75.0", "s", "75.0%"],
        ["DVC", "itself", "25.0", "s", "25.0%"],
        ["in", "all", "100.0", "s", "100.0%"],
        ["Not", "run,", "because", "nothing", "they", "read", "has", "changed:", "extract."],
    ]
