"""Several messengers in one folder: what is found there, by which reader, and through which zips and streams."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.export_fixtures import OWNER, START, TALKS, config, expected, files_of, read, rows, workers, write_folder
from helpers.source_fixtures import TALK, TALK_ROWS, both

from jaegpt.errors import JaegptError
from jaegpt.exports import registry, sniffing
from jaegpt.exports.archives import BadFileError
from jaegpt.exports.extract import survey_export
from jaegpt.exports.message_files import thread_id
from jaegpt.exports.reader import Reader, SourceFile, SourceThread
from jaegpt.exports.readers.table import READER


def test_messenger_and_another_one_in_one_folder(tmp_path: Path) -> None:
    report, found = read(both(tmp_path / "e"), tmp_path / "out")
    assert rows(found) == expected() + TALK_ROWS
    assert found.column_names[0] == "source"
    by_source = dict(zip(found["thread_id"].to_pylist(), found["source"].to_pylist(), strict=True))
    assert by_source == {
        **{thread_id(f"folder/{talk.folder}"): "messenger" for talk in TALKS},
        thread_id("viber/Dag Moe"): "viber",
    }
    assert {name: source.messages_kept for name, source in report.sources.items()} == {"messenger": 10, "viber": 2}
    assert report.sources["viber"].owner_messages == 1
    assert report.owner is not None
    assert report.owner.names == (OWNER,)


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path, count: int) -> None:
    with workers(1):
        read(both(tmp_path / "e"), tmp_path / "one")
    with workers(count):
        read(tmp_path / "e", tmp_path / "other")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_one_file_alone_and_one_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "chat.csv"
    path.write_bytes(TALK)
    with zipfile.ZipFile(tmp_path / "WhatsApp Chat - Dag.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_chat.csv", TALK)
        archive.writestr("IMG-20250330-WA0010.jpg", b"\xff\xd8")
    for number, given in enumerate((path, tmp_path / "WhatsApp Chat - Dag.zip")):
        _, found = read(given, tmp_path / str(number), owner=OWNER)
        assert rows(found) == TALK_ROWS
    _, found = read(tmp_path, tmp_path / "two", owner=OWNER)
    assert rows(found) == TALK_ROWS, "the same message of two files is one"


def test_a_file_that_nobody_reads_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(JaegptError, match=r"notes\.txt is neither a folder nor a zip, nor a file of a messenger"):
        read(tmp_path / "notes.txt", tmp_path / "out")


def test_what_was_sent_in_a_thread_is_no_export(tmp_path: Path) -> None:
    sent = {f"messages/inbox/bo_1002/{name}": TALK for name in ("files/chat.csv", "chat.csv")}
    sent |= {"messages/new_box/bo_1002/files/chat.csv": TALK}
    report, found = read(write_folder(tmp_path / "e", files_of("2022") | sent), tmp_path / "out")
    assert rows(found) == expected()
    assert set(report.sources) == {"messenger"}


HINTED = {
    "Databases/msgstore.db.crypt15": (b"\0\1", "WhatsApp's encrypted backup"),
    "signal-2024-03-05-10-00-00.backup": (b"\0\1", "Signal's encrypted backup"),
    "ChatExport_2024-03-05/messages.html": (
        b"<!DOCTYPE html><html><head><title>Exported Data</title>",
        "Machine-readable JSON",
    ),
    "All mail.mbox": (b"From 1 Mon", "e-mail"),
}


@pytest.mark.parametrize("name", HINTED)
def test_what_could_hold_messages_and_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    content, says = HINTED[name]
    report, _ = read(write_folder(tmp_path / "e", files_of("2022") | {name: content}), tmp_path / "out")
    (problem,) = report.problems
    assert says in problem
    assert name in problem
    write_folder(tmp_path / "alone", {name: content})
    with pytest.raises(JaegptError, match=says.replace("'", ".")):
        read(tmp_path / "alone", tmp_path / "none")


def fake(name: str, certainty: float, read_as: Any = None) -> Reader:
    def sniff(_: str, head: bytes) -> float:
        return certainty if head.startswith((b"FAKE", sniffing.SQLITE)) else 0.0

    def read_threads(file: SourceFile, options: Any, say: Any) -> Any:
        if read_as is None:
            raise BadFileError(file.name, "not_this_format", "no table of mine")
        say("a date order had to be assumed")
        thread = SourceThread("1", title="Dag Moe", owner=("Me",), owner_is_marked=True, box="archived")
        for sender, time, text in read_as:
            thread.add(sender, time, text)
        thread.dropped["call"] += 2
        yield thread

    return Reader(name.split()[0].lower(), name, sniff, read_threads, "Press the button.")


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes these the readers, before the one for tables."""
    monkeypatch.setenv("JAEGPT_WORKERS", "1")

    def use(*found: Reader) -> None:
        for module in (registry, sniffing):
            monkeypatch.setattr(module, "all_readers", lambda: (*found, READER))

    return use


SAID = [("Dag Moe", START, "hello"), ("Me", START + 1, "hi \ud800 there\0"), ("Me", START + 2, " \ufe0f")]


def test_ties_are_named_and_the_surest_reads(tmp_path: Path, readers: Any) -> None:
    path = write_folder(tmp_path / "e", {"a": b"FAKE"})
    readers(fake("Alpha one", 0.8, SAID), fake("Beta two", 0.8, SAID), fake("Gamma three", 0.7, SAID))
    report, found = read(path, tmp_path / "out")
    assert set(found["source"].to_pylist()) == {"alpha"}
    assert found["text"].to_pylist() == ["hello", "hi \ufffd there"]
    assert report.dropped == {"call": 2, "empty": 1}
    assert report.problems == [
        f"{path}/a: could be of Alpha one or of Beta two; it was read as Alpha one",
        f"{path}/a: a date order had to be assumed",
    ]
    source = report.sources["alpha"]
    assert (source.certainty, source.how, source.owner_names, source.dropped) == (
        0.8,
        "Press the button.",
        ["Me"],
        {"call": 2, "empty": 1},
    )
    readers(fake("Alpha one", 0.5, SAID))
    with pytest.raises(JaegptError, match="look a little like Alpha one"):
        read(path, tmp_path / "none")


def test_databases_are_tried_in_turn(tmp_path: Path, readers: Any) -> None:
    path = write_folder(tmp_path / "e", {"x.db": sniffing.SQLITE + b"rest", "backup/chat.csv": TALK})
    readers(fake("Alpha one", 0.3), fake("Beta two", 0.3, SAID), fake("Gamma three", 0.2, SAID))
    report, found = read(path, tmp_path / "out", owner="Me")
    assert set(found["source"].to_pylist()) == {"beta", "viber"}
    readers(fake("Alpha one", 0.3), fake("Beta two", 0.9))
    report, found = read(path, tmp_path / "none", owner=OWNER)
    assert rows(found) == TALK_ROWS
    assert report.problems[1:] == [f"{path}/x.db: a database, but of no messenger that is read here"]


@pytest.mark.parametrize("trick", ["encrypted", "bomb", "damaged", "unsafe"])
def test_zips_are_as_guarded_as_messengers(tmp_path: Path, trick: str) -> None:
    path = tmp_path / "e" / "chat.zip"
    write_folder(tmp_path / "e", files_of("2022"))
    content = TALK + (b" " * 5_000_000 if trick == "bomb" else b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../chat.csv" if trick == "unsafe" else "chat.csv", content)
    raw = bytearray(path.read_bytes())
    if trick == "encrypted":
        for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            raw[raw.index(signature) + offset] |= 1
    elif trick == "damaged":
        raw[raw.index(b"chat.csv") + 8 + len(raw) // 8] ^= 0xFF
    path.write_bytes(raw)
    report, found = read(tmp_path / "e", tmp_path / "out", on_error="skip")
    assert rows(found) == expected()
    assert report.problems
    assert "chat.csv" in report.problems[0]


def test_a_stream_that_breaks_off_says_so_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chat.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.csv", b"".join(b"%d,%d\n" % (n * n % 977, n) for n in range(400_000)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with SourceFile(str(path), "chat.csv").open() as stream:
        assert stream.read(10)
        with pytest.raises(BadFileError, match=r"not readable from its zip"):
            stream.read()
    with pytest.raises(BadFileError, match="no such file"), SourceFile(str(path), "other.csv").open():
        pass
    assert not SourceFile(str(path), "chat.csv").beside("other.csv").exists()
    assert SourceFile(str(path), "chat.csv").exists()


def test_the_survey_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    report = survey_export(config(both(tmp_path / "e"), timezone=None), 10)
    assert set(report.sources) == {"messenger", "viber"}
    assert not list((tmp_path / "tmp").iterdir())


def test_reading_a_stream_by_blocks_gives_the_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    write_folder(tmp_path, {"a.bin": content})
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("b\\a.bin", content)
    for file in (SourceFile(str(tmp_path / "a.bin")), SourceFile(str(tmp_path / "a.zip"), "b/a.bin")):
        with file.open() as stream:
            assert stream.read(5) == content[:5]
            stream.seek(3)
            assert stream.read() == content[3:]


def test_boxes_and_what_is_too_old_are_counted(tmp_path: Path, readers: Any) -> None:
    readers(fake("Alpha one", 0.8, SAID))
    boxes = ("inbox", "archived_threads", "message_requests")
    talks = [replace(talk, box=box) for talk, box in zip(TALKS, boxes, strict=True)]
    path = write_folder(tmp_path / "e", files_of("2022", tuple(talks)) | {"a": b"FAKE"})
    report, _ = read(path, tmp_path / "all")
    assert "box" not in report.dropped
    for chosen, kept, lost in ((["inbox"], 4, 3 + 3 + 2), (["archived", "requests"], 3 + 3 + 2, 4)):
        report, found = read(path, tmp_path / "-".join(chosen), boxes=chosen, owner=[OWNER, "Me"])
        assert (len(found), report.dropped["box"]) == (kept, lost)
