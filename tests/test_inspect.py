"""`jaegpt inspect`: what a download holds, for a person and for a program."""

import json
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    ERAS,
    OWNER,
    TALKS,
    WRAPPINGS,
    as_json,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    wrap,
    write_folder,
)

from jaegpt.cli import main
from jaegpt.dialogue.cuts import CutCounts, advice, cost_in_words, usual_and_advised
from jaegpt.errors import JaegptError
from jaegpt.inspection import WIDTH
from jaegpt.tables import iterate_parts


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


KEYS = {"format", "threads", "messages_read", "messages_kept", "owner", "owner_messages", "dropped", "problems"}
SHOWN_ERAS = {
    "early 2018": "Messenger, early 2018: 3 files",
    "late 2018": "Messenger, 2018 to 2023: 3 files",
    "2022": "Messenger, 2018 to 2023: 3 files",
    "2023": "Messenger, 2023 to 2024: 3 files",
    "since 2024": "Messenger, since 2024: 3 files",
    "instagram": "Instagram, since 2022: 3 files",
    "old instagram": "Messenger, 2018 to 2023: 3 files",
    "encrypted": "end-to-end-encrypted download: 3 files",
}


@pytest.mark.parametrize("era", SHOWN_ERAS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_inspect_of_every_era_and_wrapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], era: str, wrapping: str
) -> None:
    assert set(SHOWN_ERAS) == {*ERAS, "encrypted"}
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    files, root = (encrypted_files(TALKS), ".") if era == "encrypted" else (files_of(era), ERAS[era][0])
    path = wrap(tmp_path, files, wrapping, root)
    _jaegpt(monkeypatch, "inspect", str(path), "--json")
    report = json.loads(capsys.readouterr().out)
    own = sum(is_owner for *_, is_owner in expected())
    assert set(report) >= KEYS
    assert report["format"] == {"instagram": "instagram", "encrypted": "encrypted"}.get(era, "messenger")
    assert (report["threads"], report["groups"]) == (3, 1)
    assert (report["messages_read"], report["messages_kept"]) == (len(expected()), len(expected()))
    assert (report["owner"], report["owner_messages"]) == (OWNER, own)
    assert (report["dropped"], report["problems"]) == ({}, [])
    _jaegpt(monkeypatch, "inspect", str(path))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == str(path)
    for line in (
        f"format     {SHOWN_ERAS[era]}",
        "threads    3, of which 1 group",
        "messages   10 kept of 10 read",
        "2018  10",
        f"owner      {OWNER} (named by most threads), in 3 threads",
        f"{own} messages of theirs kept",
        "next in line: Anaïs Sølvay, in 2 threads",
        "problems   none",
    ):
        assert line in lines, lines
    assert all(len(line) <= 120 and line.isprintable() for line in lines[1:])


def test_inspect_names_what_the_run_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = files_of("2022")
    name = "messages/inbox/bo_1002/message_1.json"
    content = json.loads(files[name])
    content["messages"][0]["timestamp_ms"] = str(content["messages"][0]["timestamp_ms"])
    path = write_folder(tmp_path / "export", files | {name: as_json(content)})
    _jaegpt(monkeypatch, "inspect", str(path))
    shown = capsys.readouterr().out
    assert "problems   1\n" in shown
    assert "1 of 3 messages malformed, the first is messages[0]: `timestamp_ms` is str" in shown
    with pytest.raises(JaegptError, match="1 file cannot be read"):
        read(path, tmp_path / "out")


def test_inspect_shows_names_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: raw.replace(b"Ana", b"\\u001b[31mAna") for name, raw in files_of("2022").items()}
    _jaegpt(monkeypatch, "inspect", str(write_folder(tmp_path / "export", files)))
    shown = capsys.readouterr().out
    assert "next in line: \\x1b[31mAnaïs Sølvay, in 2 threads" in shown
    assert all(line.isprintable() for line in shown.splitlines())


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


def test_inspect_says_what_the_usual_cut_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_folder(tmp_path / "export", files_of("2022"))
    read(path, tmp_path / "messages")
    cuts = [usual_and_advised(part) for part in iterate_parts(tmp_path / "messages", "messages")]
    now, then = (CutCounts.total(parts) for parts in zip(*cuts, strict=True))
    _jaegpt(monkeypatch, "inspect", str(path), "--json")
    found = json.loads(capsys.readouterr().out)["advice"]
    assert found == advice(now, then)
    assert found["percentile"] == 90
    assert found["owner_turns_with_context"] == {"now": now.with_context(), "then": then.with_context()}
    _jaegpt(monkeypatch, "inspect", str(path))
    lines = capsys.readouterr().out.splitlines()
    assert f" sessions {cost_in_words(now, then)} " in " ".join(" ".join(lines).split())
    assert any("`dvc exp run -S session.percentile=90`" in line for line in lines), "a command that can be copied"
    assert max(map(len, lines)) <= WIDTH
