"""The table `messages` as a whole: its order and bytes, the stage around it, suspects, redaction, and `inspect`."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from export_fixtures import OWNER, START, TALKS, Talk, as_json, expected, files_of, read, rows, workers, write_folder

import stages.extract
from jaegpt.cli import main
from jaegpt.errors import JaegptError
from jaegpt.exports import extract, parts, reading
from jaegpt.exports.redaction import redact_text
from jaegpt.sample import write_sample
from jaegpt.tables import SCHEMAS, part_paths, read_part

ROOT = Path(__file__).parent.parent


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, copies=2)
    return folder


def test_the_same_bytes_for_any_number_of_workers(sample: Path, tmp_path: Path) -> None:
    digests = []
    for count in (1, 2, 4):
        with workers(count):
            read(sample, tmp_path / str(count))
        digests.append(_digests(tmp_path / str(count)))
    assert len(digests[0]) == 2, "one part alone would show nothing"
    assert digests[0] == digests[1] == digests[2]


def test_the_same_rows_for_any_size_of_batch_and_part(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    _, whole = read(sample, tmp_path / "whole")
    monkeypatch.setattr(reading, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(parts, "MAX_PART_MESSAGES", 3_000)
    _, cut = read(sample, tmp_path / "cut")
    assert len(part_paths(tmp_path / "cut")) > 20
    assert cut.equals(whole)


def test_a_part_needs_neighbouring_batches_only(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps the memory of a part from growing with the export: it never opens all of the scratch files."""
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.setattr(reading, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(parts, "MAX_PART_MESSAGES", 3_000)
    jobs: list[parts.PartJob] = []

    def seen(function, items, label):  # type: ignore[no-untyped-def]
        jobs.extend(item for item in items if isinstance(item, parts.PartJob))
        return [function(item) for item in items]

    monkeypatch.setattr(extract, "map_parts", seen)
    read(sample, tmp_path / "out")
    assert len(jobs) > 20
    opened = [
        [int(Path(str(piece.messages)).stem) for thread in job.threads for piece in thread.pieces] for job in jobs
    ]
    in_turn = [number for batches in opened for number in batches]
    assert in_turn == sorted(in_turn)
    assert max(in_turn) > 50, "few batches would show nothing"


def test_parts_hold_whole_threads_in_order(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.setattr(parts, "MAX_PART_MESSAGES", 3_000)
    read(sample, tmp_path / "out")
    seen: list[str] = []
    for path in part_paths(tmp_path / "out"):
        table = read_part(path, "messages")
        assert table.schema.equals(SCHEMAS["messages"])
        threads = list(dict.fromkeys(table["thread_id"].to_pylist()))
        assert len(table) <= 3_000 or len(threads) == 1
        for thread in threads:
            times = table.filter(pc.equal(table["thread_id"], thread))["sent_at"].to_pylist()
            assert times == sorted(times)
        seen += threads
    assert len(seen) == len(set(seen)) == 278
    assert seen == sorted(seen)


def test_the_stage_writes_the_table_and_numbers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data/sample_export", files_of("since 2024"))
    stages.extract.main()
    metrics = json.loads((tmp_path / "metrics/extract.json").read_text())
    wanted = {"files", "threads", "messages_read", "messages_kept", "owner_messages", "dropped"}
    assert wanted <= set(metrics)
    assert metrics["messages_read"] == metrics["messages_kept"] + sum(metrics["dropped"].values()) == len(expected())
    assert not any(word in json.dumps(metrics, ensure_ascii=False) for talk in TALKS for word in talk.title.split())
    assert "10 of 10 messages in 3 threads" in capsys.readouterr().out
    before = _digests(tmp_path / "data/messages")
    write_folder(tmp_path / "data/sample_export", {"messages/inbox/bad_1/message_1.json": b"{"})
    with pytest.raises(JaegptError, match="1 file cannot be read"):
        stages.extract.main()
    assert _digests(tmp_path / "data/messages") == before, "a failed run must leave the last good table"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["messages", "sample_export"]


def test_lines_of_another_language_become_suspects(tmp_path: Path) -> None:
    names = ["Anaïs Sølvay", "Bo Łęck", "Cyd Vågen", "Dóra Wýnter", "Eda Quist", "Finn Halvøy", "Gül Čermák"]
    talks = tuple(
        Talk(
            f"t_{index}",
            name,
            (name, OWNER),
            (
                (name, START, "Vous êtes maintenant connectés sur Messenger."),
                (name, START + 1, f"{name.split()[0]} a envoyé une photo."),
                (name, START + 2, ("How are you doing?", "how are you doing", "How are you doing??")[index % 3]),
                (OWNER, START + 3, "Fine and you"),
            ),
        )
        for index, name in enumerate(names)
    )
    report, table = read(write_folder(tmp_path / "export", files_of("since 2024", talks)), tmp_path / "out")
    assert len(table) == 4 * len(names), "suspects are reported, not dropped"
    assert set(report.suspects) == {"Vous êtes maintenant connectés sur Messenger.", "NAME a envoyé une photo."}
    assert {suspect.threads for suspect in report.suspects.values()} == {len(names)}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to a.b+c@example.org.", "write to <email>."),
        ("call +44 20 7946 0958 now", "call <phone> now"),
        ("(801) 555-0199", "<phone>"),
        ("card 4111 1111 1111 1111, ok", "card <card>, ok"),
        ("DE89 3704 0044 0532 0130 00", "<account>"),
        ("account 123456789 please", "account <number> please"),
        ("see https://example.org/x?y=a@b.org!", "see <url>"),
        ("it is on sub.example.com/page", "it is on <url>"),
        ("www.example.net", "<url>"),
        ("2018-05-02 at 10.30, 12 of us", "2018-05-02 at 10.30, 12 of us"),
        ("3.14159265358979", "3.14159265358979"),
        ("e.g. tell.me", "e.g. tell.me"),
        ("9" * 20_000, "<number>"),
    ],
)
def test_redaction(text: str, redacted: str) -> None:
    assert redact_text(text) == redacted


def test_redaction_keeps_the_message_and_is_off_by_default(tmp_path: Path) -> None:
    messages = ((OWNER, START, "mail a@example.org"), ("Bo Łęck", START + 1, "thanks, see you"))
    path = write_folder(tmp_path / "export", files_of("since 2024", (replace(TALKS[1], messages=messages),)))
    _, plain = read(path, tmp_path / "plain", owner=OWNER)
    report, table = read(path, tmp_path / "redacted", owner=OWNER, redact=True)
    assert plain["text"].to_pylist() == [text for _, _, text in messages]
    assert table["text"].to_pylist() == ["mail <email>", "thanks, see you"]
    assert report.redacted == 1


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
