"""Clones of this tree for tests that run the pipeline, and what they look at in them."""

import fcntl
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from dvc.utils.serialize import modify_yaml

from helpers.commands import call
from helpers.network import NETWORK_LOG, tracing
from helpers.paths import ROOT
from jaegpt.yaml12 import load_yaml


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def set_params(folder: Path, **changes: Any) -> None:
    """`set_params(folder, train__epochs=2)` sets train.epochs in params.yaml, written as by DVC's `-S`."""
    with modify_yaml(str(folder / "params.yaml")) as content:
        for name, value in changes.items():
            *sections, key = name.split("__")
            target = content
            for section in sections:
                target = target[section]
            target[key] = value


def outputs(project: Path) -> list[tuple[str, int]]:
    """Every file that stages write, and when it was last written."""
    folders = (project / name for name in ("data", "models", "metrics", "plots"))
    return sorted((str(path), path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*"))


def clone(folder: Path, **changes: Any) -> Path:
    """A clone of this tree into the new `folder`, uncommitted files included, with `tiny` and the `changes`."""
    call(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    listed = call(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    set_params(
        folder, model="tiny", train__learning_rate=5e-3, train__evaluations=2, train__valid_examples=64,
        fidelity__calibrate_contexts=100, **changes,
    )  # fmt: skip
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "tiny")
    return folder


def whole_run(shared: Path) -> Path:
    """`jaegpt` in this folder is a clone of this tree after `dvc repro` with `tiny`, whose connections are noted.

    It has learned from a part of the sample's training side. It takes a minute or two, so it is made once in the folder
    `shared` of all of pytest-xdist's processes: by the first that asks, while others wait. One test file may work on
    it; the others work on copies (see `own_copy`).
    """
    shared.mkdir(exist_ok=True)
    made, copy, failed = shared / "made", shared / "copy", shared / "failed"
    with open(shared / "lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not failed.exists(), f"the whole run failed before: {failed.read_text(encoding='utf-8')}"
        if not copy.is_dir():
            failed.write_text("see the first test that asked for it", encoding="utf-8")  # removed when it is there
            made.mkdir()
            # Most of its time would be training on the rest; test_pipeline_data has all of it.
            folder = clone(made / "jaegpt", dataset__train_fraction=0.3)
            output = call(folder, *tracing(folder / NETWORK_LOG), "dvc", "repro")
            assert set(stages_run(output)) == set(load_yaml((folder / "dvc.yaml").read_text("utf-8"))["stages"])
            call(shared, "cp", "-a", "made", "copy.tmp")
            (shared / "copy.tmp").rename(copy)
            failed.unlink()
    return made


def own_copy(shared: Path, folder: Path) -> Path:
    """A copy, in the new `folder`, of the project that `whole_run` made, as it was when it was made."""
    whole_run(shared)
    call(shared, "cp", "-a", str(shared / "copy/jaegpt"), str(folder))
    return folder


def metrics(project: Path, name: str) -> dict[str, Any]:
    return json.loads((project / f"metrics/{name}.json").read_text(encoding="utf-8"))


def wait_for_queue(project: Path) -> None:
    """Until no queued experiment waits or runs; all of them must have come to figures."""
    deadline = time.monotonic() + 300
    while (states := set(call(project, "dvc", "queue", "status").split())) & {"Queued", "Running"}:
        assert time.monotonic() < deadline, states
        time.sleep(2)  # a look takes DVC a part of a second of a core, which the experiment needs
    assert "Success" in states
    assert "Failed" not in states, call(project, "dvc", "queue", "status")
