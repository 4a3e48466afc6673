"""A project in a notebook: what docs/notebook.md shows, run on a small project."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.chats import chat_tables
from helpers.commands import call
from helpers.paths import ROOT

import jaegpt
from jaegpt.errors import JaegptError
from jaegpt.tables import part_name, write_part

EVALUATE = json.loads((ROOT / "metrics/evaluate.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with a table, figures and a curve, committed."""
    folder = tmp_path_factory.mktemp("notebook")
    for name in ("data/examples", "metrics", "plots"):
        (folder / name).mkdir(parents=True)
    write_part(chat_tables(num_threads=2, turns=40)[1], folder / "data/examples" / part_name(0), "examples")
    (folder / "metrics/evaluate.json").write_text(json.dumps(EVALUATE), encoding="utf-8")
    (folder / "plots/train.csv").write_text("step,examples,lm_loss\n1,8,4.5\n2,16,4.25\n", encoding="utf-8")
    (folder / "params.yaml").write_text("w_mc: 0.05\nexport:\n  owner: Zoe\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/data/\n", encoding="utf-8")
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    stage = {"cmd": "true", "params": ["w_mc", "export"], "metrics": [{"metrics/evaluate.json": {"cache": False}}]}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"evaluate": stage}}), encoding="utf-8")
    call(folder, "dvc", "commit", "--force")
    call(folder, "git", "add", "--all")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")
    return folder


def test_the_notebooks_code_runs(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/notebook.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(project)
    shown: dict[str, Any] = {}
    exec(code, shown)
    printed = capsys.readouterr().out
    assert f"{EVALUATE['lm_loss']:.6f}" in printed
    assert "4.375" in printed, "the mean of both steps"
    assert len(shown["examples"]) > 10
    assert {"example_id", "split", "history", "reply"} <= set(shown["examples"].columns)
    figures = shown["metrics"].set_index("figure")["value"]
    assert figures["base.lm_loss"] == EVALUATE["base"]["lm_loss"]
    assert set(shown["runs"]["kind"]) == {"workspace", "commit"}
    assert list(shown["runs"]["w_mc"]) == [0.05, 0.05]
    assert list(shown["runs"]["lm_loss"]) == [EVALUATE["lm_loss"]] * 2
    assert "Zoe" not in shown["runs"].to_string()


def test_what_is_not_there_is_named(project: Path, tmp_path: Path) -> None:
    opened = jaegpt.open_project(project)
    with pytest.raises(JaegptError, match=r"there is no table `example`. There are messages, filtered, "):
        opened.table("example")
    with pytest.raises(JaegptError, match=r"data/turns: no table here .* Run `dvc repro`"):
        opened.table("turns")
    with pytest.raises(JaegptError, match=r"plots/gaps.csv: not found. There are: train."):
        opened.plot_data("gaps")
    with pytest.raises(JaegptError, match=r"params.yaml: not found. Give the top folder of a jaegpt clone."):
        jaegpt.open_project(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'open_projects'"):
        jaegpt.open_projects  # noqa: B018


def test_the_package_itself_is_light() -> None:
    code = "import sys, jaegpt; assert not {'pandas', 'torch', 'dvc', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
