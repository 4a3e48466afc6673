"""What Git tracks, a report shows or a study holds, beside a list of names, shows nobody who is in the export."""

import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.clones import set_params
from helpers.paths import ROOT

from jaegpt.runs.records import Run
from jaegpt.runs.table import make_table, table_text
from jaegpt.sweep.snapshot import fixed_settings, private_salt
from jaegpt.sweep.space import SweepConfig
from jaegpt.sweep.study import open_study
from jaegpt.sweep.trial import Runner, TrialFailed, Watch
from jaegpt.tables import read_table
from stages import extract, filter_language

OWNER = "Zoë Somebody"
NAMES = [f"{first} {last}" for first in ("Ann", "Bo", "Cyd", "Dee", "Eve") for last in ("Ash", "Birk", "Colt", "Dorn")]
SPACE = SweepConfig(space={"w_mc": {"choice": [0, 1]}}, random_trials=1, keep_percent=100)
LEAST = 8  # hexadecimal digits of an id that distinguish two of a few thousand names


def guesses(folders: list[str]) -> set[str]:
    """How the ids of these names and folders begin, by the usual hashes of the usual ways to write them."""
    keys = [
        form
        for name in (*NAMES, OWNER, *folders)
        for form in (name, f"folder/{name}", f"inbox/{name}", f"messages/inbox/{name}", f"encrypted/{name}",
                     repr(name), repr([name]), json.dumps(name), json.dumps([name]), f"owner: {name}")
    ]  # fmt: skip
    hashes: list[Any] = [hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512, hashlib.blake2b, hashlib.blake2s]
    hashes += [lambda key, size=size: hashlib.blake2b(key, digest_size=size) for size in (8, 16, 20, 32)]
    return {make(key.encode()).hexdigest()[:LEAST] for key, make in itertools.product(keys, hashes)}


def found_in(content: bytes, folders: list[str]) -> list[str]:
    """The names, and the ids that were guessed, in a file of any kind."""
    text = content.decode("utf-8", "replace")
    ids = set(re.findall(rf"(?=([0-9a-f]{{{LEAST}}}))", text.lower()))  # at every place
    return [name for name in (*NAMES, OWNER, *folders) if name in text] + sorted(ids & guesses(folders))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A project on an export of twenty threads, and their folders."""
    folder = tmp_path_factory.mktemp("names") / "project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("jaegpt", "stages"):
        (folder / name).symlink_to(ROOT / name)
    folders = []
    for number, name in enumerate(NAMES):
        folders.append(f"{name.replace(' ', '').lower()}_{1000 + number}")
        thread = folder / "data/export/messages/inbox" / folders[-1]
        thread.mkdir(parents=True)
        messages = [
            {"sender_name": sender, "timestamp_ms": 1_600_000_000_000 + 1000 * line, "type": "Generic",
             "content": f"what is the number {line} of the day, and why is it that one?"}
            for line, sender in zip(range(4 + number % 7), itertools.cycle((name, OWNER)))
        ]  # fmt: skip
        content = {"participants": [{"name": name}, {"name": OWNER}], "messages": messages[::-1], "title": name,
                   "thread_path": f"inbox/{folders[-1]}", "is_still_participant": True}  # fmt: skip
        (thread / "message_1.json").write_text(json.dumps(content), encoding="utf-8")
    set_params(folder, export__path="data/export", export__owner=[OWNER], export__exclude=[NAMES[0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        extract.main()
        filter_language.main()
        yield folder, folders


def test_metrics_and_plots_number_threads_by_size_alone(project: tuple[Path, list[str]]) -> None:
    folder, folders = project
    ids = set(read_table(folder / "data/messages", "messages")["thread_id"].to_pylist())
    assert len(ids) == len(NAMES) - 1
    files = [*folder.glob("metrics/*.json"), *folder.glob("plots/*.csv")]
    assert len(files) == 3
    for path in files:
        assert found_in(path.read_bytes(), folders) == [], path.name
        assert not [one for one in ids if one in path.read_text(encoding="utf-8")], path.name
    head, *rows = (line.split(",") for line in (folder / "plots/language.csv").read_text(encoding="utf-8").split())
    assert head[:2] == ["thread", "messages"]
    assert [int(row[0]) for row in rows] == list(range(1, len(ids) + 1))
    sizes = [int(row[1]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 3
    assert rows == sorted(rows, key=lambda row: [-float(value) for value in row[1:]]), "not in the tables' order"


def test_a_study_holds_nothing_to_try_names_against(project: tuple[Path, list[str]]) -> None:
    folder, folders = project
    salt = private_salt(Path("sweeps/salt"))
    assert private_salt(Path("sweeps/salt")) == salt
    assert len(salt) == 32
    assert stat.S_IMODE(Path("sweeps/salt").stat().st_mode) == 0o600
    fixed = fixed_settings(folder, {"model": "tiny"}, {"w_mc"}, salt)
    for _ in range(2):  # the second time it is the same study
        open_study("names", SPACE, fixed, 1)
    assert found_in(Path("sweeps/names.db").read_bytes(), folders) == []
    assert fixed["model"] == "'tiny'"
    assert "w_mc" not in fixed
    assert not [key for key in fixed if key.startswith(("generate.", "fidelity.", "jaegpt/chat"))], "no loss needs them"
    # Another name is another study; another salt hashes otherwise.
    other = fixed_settings(folder, {"model": "tiny", "export.exclude": [NAMES[1]]}, {"w_mc"}, salt)
    assert [key for key in fixed if fixed[key] != other[key]] == ["export.exclude"]
    assert fixed_settings(folder, {"model": "tiny"}, {"w_mc"}, b"other")["export.owner"] != fixed["export.owner"]


def test_the_table_distinguishes_values_that_may_be_names_by_numbers() -> None:
    figures = json.loads((ROOT / "metrics/evaluate.json").read_text(encoding="utf-8"))
    params = {"w_mc": 1.0, "export.owner": OWNER, "export.exclude": [], "export.redact": False}
    run = Run(name="a", rev="a", kind="experiment", state="done", params=params, figures=figures)
    changed = {"export.owner": NAMES[0], "export.exclude": [NAMES[1]], "export.redact": True}
    other = dataclasses.replace(run, name="b", rev="b", params=params | changed, figures=figures | {"lm_loss": 3.0})
    table = make_table([run, other])
    assert {row["experiment"]: row["changed"] for row in table["rows"]} == {
        "a": {"export.exclude": "#1", "export.owner": "#1", "export.redact": False},
        "b": {"export.exclude": "#2", "export.owner": "#2", "export.redact": True},
    }
    assert found_in((table_text(table) + json.dumps(table)).encode(), []) == []


def test_the_log_of_a_trial_names_no_owner_and_is_private(
    project: tuple[Path, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, folders = project
    extract.main()  # typed by hand it says whom it took
    assert f"owner: {OWNER} (" in capfd.readouterr().out
    log = tmp_path / "sweep-x-000.log"
    log.write_text("of an earlier version, for all to read", encoding="utf-8")
    log.chmod(0o644)
    program = tmp_path / "dvc"  # in the place of DVC: a trial that ends after its first stage
    program.write_text(f"#!/bin/sh\ncd '{folder}'\n'{sys.executable}' -m stages.extract\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    snapshot: Any = SimpleNamespace(copy=nullcontext)
    watch = Watch(on_validation=lambda interval, loss: False, on_data_ready=lambda: None)
    with pytest.raises(TrialFailed, match="ended with code 3"):
        Runner(snapshot, tmp_path, [str(program)]).run(
            "sweep-x-000", {}, {"train.epochs": 1, "train.evaluations": 4}, watch
        )
    text = log.read_text(encoding="utf-8")
    assert re.search(r"^owner: \(name left out\), [1-9]\d* messages$", text, re.MULTILINE), text
    assert found_in(text.encode(), folders) == []
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
