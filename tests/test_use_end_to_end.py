"""The chats of three messengers in one folder, from `jaegpt use` to a model that answers, in a clone of its own."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from helpers.clones import clone, metrics
from helpers.commands import call
from helpers.three_messengers import NUM_MESSAGES, OWNER, write_three

from jaegpt.inspection import left_out_in_words
from jaegpt.params import Params
from jaegpt.yaml12 import load_yaml

KEPT = {"messenger": NUM_MESSAGES, "telegram": NUM_MESSAGES - 1, "whatsapp": NUM_MESSAGES}
READ = KEPT | {"telegram": NUM_MESSAGES, "whatsapp": NUM_MESSAGES + 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone under `jaegpt`, and the exports as they came beside it."""
    top = tmp_path_factory.mktemp("use")
    clone(top / "jaegpt")
    write_three(top / "chats")
    return top


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    """What `jaegpt use` says, which sets params.yaml up; with the base model there, it counts tokens."""
    call(folder / "jaegpt", "dvc", "repro", "base_model")
    return call(folder / "jaegpt", "jaegpt", "use", "../chats", "--yes", COLUMNS="100")


def test_use_sets_params_up_and_keeps_what_was_there(folder: Path, said: str) -> None:
    project = folder / "jaegpt"
    assert [line for line in said.splitlines() if len(line) > 100] == []
    assert said.splitlines()[-1] == "Next: dvc repro"
    before = load_yaml(call(project, "git", "show", "HEAD:params.yaml"))
    assert load_yaml((project / "params.yaml.before").read_text(encoding="utf-8")) == before
    now = Params(project / "params.yaml").content
    changed = {
        "export": before["export"] | {"path": str(folder / "chats")},
        "session": before["session"] | {"percentile": 90},
        "block_size": 512,
    }
    assert now == before | changed
    for value in ("data/sample_export -> ", "50 -> 90", "128 -> 512"):
        assert value in " ".join(said.split()), "long paths stand on a line of their own"
    changed_files = call(project, "git", "status", "--porcelain", "--untracked-files=no").split()
    assert changed_files == ["M", "dvc.lock", "M", "params.yaml"], "the lock by the base model's stage"
    again = call(project, "jaegpt", "use", "../chats", "--yes")
    assert "params.yaml is as it was." in again
    assert OWNER in again


def test_no_answer_writes_nothing(folder: Path, said: str) -> None:
    before = (folder / "jaegpt/params.yaml").read_text(encoding="utf-8")
    call(folder / "jaegpt", "jaegpt", "use", "data/sample_export", expect=1)
    assert "nobody is there to be asked" in call(folder / "jaegpt", "jaegpt", "use", "../chats", expect=1)
    assert (folder / "jaegpt/params.yaml").read_text(encoding="utf-8") == before
    assert subprocess.run(["git", "diff", "--quiet", "dvc.yaml"], cwd=folder / "jaegpt", check=False).returncode == 0


def test_the_run_does_what_use_said_and_the_model_answers(folder: Path, said: str) -> None:
    project = folder / "jaegpt"
    output = call(project, "dvc", "repro", "evaluate", "block_size")
    extract, dataset, block = (metrics(project, name) for name in ("extract", "dataset", "block_size"))
    assert f": {extract['messages_read']:,} messages, {extract['messages_kept']:,} kept, " in said
    assert f"{OWNER} (named by the mark in telegram); {extract['owner_messages']:,} messages of yours kept" in said
    assert {name: one["kept"] for name, one in extract["sources"].items()} == KEPT
    assert {name: one["read"] for name, one in extract["sources"].items()} == READ
    lines = [line.strip() for line in said.splitlines()]
    for name, one in extract["sources"].items():
        assert one["read"] == one["kept"] + sum(one["dropped"].values()), name
        (number,) = (number for number, line in enumerate(lines) if line.startswith(f"{name} "))
        assert f" {one['read']:,} messages, 2024; {one['kept']:,} kept, 80 of them yours" in lines[number]
        if one["dropped"]:
            assert lines[number + 1] == left_out_in_words(one["dropped"])
    assert f"{dataset['examples']:,} replies of yours, of {dataset['owner_turns']:,} turns" in said
    assert f"{dataset['dropped']['no_turn_before_in_session']:,} begin a session" in said
    assert f"{dataset['valid']:,} of them for measuring" in said
    (learned,) = re.findall(r"([\d,]+) turns learned", output)
    assert f"whole sessions teach {learned} turns" in said
    assert block["recommended"] == 512
    assert f"(here {block['yield']['512']:.1%})" in said
    (steps,) = re.findall(r"([\d,]+) steps", said)
    assert abs(int(steps) - metrics(project, "train")["steps"]) <= 1, "the tokens are an estimate"

    call(project, "jaegpt", "report")
    funnel = (project / "report/data-funnel.svg").read_text(encoding="utf-8")
    shown = re.findall(r">([^<>]+)</text>", funnel)
    steps_shown = dict(zip(shown, shown[len(shown) // 2 :], strict=False))
    assert steps_shown["messages read"] == str(sum(READ.values()))
    assert {name: steps_shown[f"of which {name}"] for name in KEPT} == {name: str(n) for name, n in KEPT.items()}
    assert steps_shown["examples"] == str(dataset["examples"])

    answer = json.loads(call(project, "jaegpt", "chat", "--once", "hello", "--json").splitlines()[-1])
    assert answer["reply"]
    assert answer["base_reply"]
