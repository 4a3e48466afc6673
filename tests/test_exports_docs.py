"""docs/exports.md: its example is read, its commands run, and it speaks of every messenger and parameter there is."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pandas
import pytest
from helpers.paths import ROOT
from helpers.reader_checks import messages, read_path

from jaegpt.cli import main
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.readers.table import COLUMNS, READER
from jaegpt.exports.registry import all_readers

PAGE = (ROOT / "docs/exports.md").read_text(encoding="utf-8")


def test_the_example_is_read_by_the_commands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    (name,) = re.findall(r"For example `(.*?)`:", PAGE)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shown = []
    for command in commands.splitlines():
        monkeypatch.setattr("sys.argv", shlex.split(command))
        main()
        shown.append(capsys.readouterr().out)
    assert len(shown) == 2
    assert "viber      1 thread, 3 of 3 messages kept, 2024" in shown[0]
    report = json.loads(shown[1])
    assert (report["owner"], report["owner_messages"], report["problems"]) == ("Ben Ødeby", 2, [])
    assert set(report["sources"]) == {"viber"}


def test_the_example_is_the_same_as_json_lines_and_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (line,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (command,) = re.findall(r"`(pandas\..*?)`", PAGE)
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "viber.csv").write_text(example, encoding="utf-8")
    (folder / "viber.jsonl").write_text(line, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    eval(command, {"pandas": pandas})
    found = {path.suffix: messages(read_path(READER, path)[0]) for path in folder.iterdir()}
    assert len(found[".csv"]) == 3
    assert found == {".csv": found[".csv"], ".jsonl": found[".csv"][:1], ".parquet": found[".csv"]}


def test_it_speaks_of_all_columns_parameters_and_messengers() -> None:
    for column in COLUMNS:
        assert f"\n| {column} |" in PAGE
    elsewhere = {"path", "owner", "on_error"}
    for field in fields(ExportConfig):
        assert f"| `{field.name}` |" in PAGE or (field.name in elsewhere and field.name in PAGE), field.name
    for reader in all_readers():
        word = reader.name.split(",")[0].split(" (")[0].split(":")[0].split()[0]
        assert word.lower() in PAGE.lower(), reader.name
    assert 60 <= PAGE.count("\n") <= 150
