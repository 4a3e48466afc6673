"""`jaegpt inspect`: what a download holds, for a person and for a program."""

import json
from pathlib import Path

import pytest
from export_fixtures import OWNER, as_json, expected, files_of, read, rows, write_folder

from jaegpt.cli import main


def _jaegpt(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["jaegpt", *arguments])
    main()


def test_inspect_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_folder(tmp_path / "export", files_of("2022") | {"messages/inbox/bad_1/message_1.json": b"{"})
    _jaegpt(monkeypatch, "inspect", str(path), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["format"] == "messenger"
    assert report["eras"] == {"Messenger, 2018 to 2023": 3}
    assert (report["threads"], report["messages_read"], report["messages_kept"]) == (
        3,
        len(expected()),
        len(expected()),
    )
    assert (report["owner"], report["owner_messages"]) == (OWNER, sum(row[3] for row in rows_of(tmp_path, path)))
    assert report["runner_up"] == {"name": "Anaïs Sølvay", "threads": 2}
    assert report["years"] == {"2018": len(expected())}
    assert report["dropped"] == {}
    assert report["files_skipped"] == {"not_json": 1}
    assert len(report["problems"]) == 1


def rows_of(tmp_path: Path, path: Path) -> list[tuple[str, int, str, bool]]:
    return rows(read(path, tmp_path / "out", on_error="skip")[1])


def test_inspect_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_folder(tmp_path / "export", files_of("since 2024"))
    _jaegpt(monkeypatch, "inspect", str(path))
    shown = capsys.readouterr().out
    for word in ("Messenger, since 2024", "10 kept of 10 read", OWNER, "next in line: Anaïs Sølvay", "problems   none"):
        assert word in shown
    assert not any(text in shown for _, _, text, _ in expected() if len(text) > 4), "a report shows no messages"


def test_inspect_of_nothing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        _jaegpt(monkeypatch, "inspect", str(tmp_path / "none"))
    shown = capsys.readouterr()
    assert stop.value.code == 1
    assert shown.out == ""
    assert shown.err.startswith("error: export.path: ")
    assert shown.err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        _jaegpt(monkeypatch, "inspect", "--help")
    assert stop.value.code == 0
    assert "example: jaegpt inspect" in capsys.readouterr().out


def test_a_tie_is_shown_and_not_fatal_to_inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"messages/inbox/bo_1/message_1.json": as_json({"participants": [], "messages": []})}
    _jaegpt(monkeypatch, "inspect", str(write_folder(tmp_path / "export", files)), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["owner"] is None
    assert report["problems"] == [
        "export.owner: nobody is named in any thread. Check that export.path is a whole download."
    ]
