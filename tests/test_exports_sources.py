"""Several messengers in one folder: what is found, how threads and doubles are told apart, and whose they are."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.export_fixtures import OWNER, START, TALKS, config, expected, files_of, read, rows, workers, write_folder
from helpers.reader_fixtures_table import as_csv

from jaegpt.errors import JaegptError
from jaegpt.exports import registry, sniffing
from jaegpt.exports.archives import BadFileError, open_entry
from jaegpt.exports.extract import survey_export
from jaegpt.exports.message_files import thread_id
from jaegpt.exports.reader import Reader, SourceFile, SourceThread
from jaegpt.exports.readers.table import READER
from jaegpt.tables import read_table

MINUTE = 60_000
EVEN = START - START % MINUTE


def table(*messages: tuple[str, int, str], thread: str = "Dag Moe", **extra: Any) -> bytes:
    """A CSV of (sender, ms after START, text)."""
    return as_csv(
        [
            {"thread": thread, "sender": sender, "sent_at": START + ms, "text": text, **extra}
            for sender, ms, text in messages
        ]
    )


TALK = table(("Dag Moe", 100_000, "are you there"), (OWNER, 105_000, "yes"), source="viber")
TALK_ROWS = [("Dag Moe", START + 100_000, "are you there", False), (OWNER, START + 105_000, "yes", True)]


def both(folder: Path, **more: bytes) -> Path:
    return write_folder(folder, files_of("2022") | {"backup/chat.csv": TALK} | more)


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
        f"{path}/a: could as well be of Beta two as of Alpha one; it was read as the latter",
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
    assert report.problems[1:] == [
        "files of a kind that holds messages, without those of any messenger that is read (1, the first is "
        f"{path}/x.db)"
    ]


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


def test_newest_months_count_back_from_the_newest_message_of_all(tmp_path: Path) -> None:
    day = 24 * 3600 * 1000
    said = [("Dag Moe", 0, "a"), (OWNER, 10 * day, "b"), (OWNER, 20 * day, "c"), ("Dag Moe", 45 * day, "d")]
    files = {"a.csv": table(*said, source="viber"), "b.csv": table(*said[:3], thread="Eva Lund", source="skype")}
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", newest_months=1, owner=OWNER)
    # 8 March 2018 + 45 days = 22 April; a month before is 22 March: "a" and "b" are older.
    assert sorted(found["text"].to_pylist()) == ["c", "c", "d"]
    assert report.dropped == {"too_old": 4}
    assert report.sources["skype"].dropped == {"too_old": 2}


SAME = [("Dag Moe", 0, "ok"), ("Dag Moe", 0, "ok"), (OWNER, 0, "ok"), ("Dag Moe", 0, "well"), (OWNER, MINUTE, "bye")]


@pytest.mark.parametrize("step", [1, 1000, MINUTE])
def test_doubles_of_two_files_and_words_said_twice_in_one(tmp_path: Path, step: int) -> None:
    def said(*which: int) -> bytes:
        shifted = EVEN - START if step == MINUTE else (-(START % step) if step > 1 else 7)
        listed = [(SAME[index][0], SAME[index][1] + shifted, SAME[index][2]) for index in which]
        filler = [("Dag Moe", shifted - MINUTE * number, f"before {number}") for number in range(30, 0, -1)]
        return table(*filler, *listed, source="viber")

    files = {"a.csv": said(0, 1, 2, 3), "b.csv": said(0, 2, 3, 4), "c.csv": said(0)}
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    texts = [(sender, text) for sender, _, text, _ in rows(found) if not text.startswith("before")]
    assert texts == [(sender, text) for sender, _, text in SAME], "the order of the file, and as many as there were"
    assert report.dropped == {"double": 2 * 30 + 3 + 1}


def test_a_coarse_copy_adds_nothing_to_an_exact_one(tmp_path: Path) -> None:
    exact = [("Dag Moe", number * 20_123, f"word {number % 3}") for number in range(60)]
    floors = [(sender, (START + ms) // MINUTE * MINUTE - START, text) for sender, ms, text in exact]
    seconds = [(sender, (START + ms) // 1000 * 1000 - START, text) for sender, ms, text in exact]
    files = {
        "exact.csv": table(*exact, (OWNER, 5, "mine"), source="viber"),
        "minutes.csv": table(*floors, source="viber"),
        "seconds.csv": table(*seconds, source="viber"),
    }
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    assert len(found) == 61
    assert report.dropped == {"double": 120}
    assert {row[1] for row in rows(found)} == {START + 5, *(START + ms for _, ms, _ in exact)}


def test_marked_owners_of_several_sources_need_no_setting(tmp_path: Path) -> None:
    files = {
        "a.csv": as_csv(
            [
                {
                    "thread": "Eva",
                    "sender": sender,
                    "sent_at": START,
                    "text": "x",
                    "is_owner": sender == "Me",
                    "source": "sms",
                }
                for sender in ("Eva", "Me")
            ]
        ),
        "b.csv": TALK,
    }
    report, found = read(write_folder(tmp_path / "e", files_of("2022") | files), tmp_path / "out")
    assert report.owner is not None
    assert report.owner.names[0] == "Me", "certain before likely; most threads do not outweigh a mark"
    assert {row[0] for row in rows(found) if row[3]} == {"Me"}
    assert report.sources["sms"].owner_messages == 1
    assert report.sources["messenger"].owner_messages == 0
    proposals = [line for line in report.problems if "set export.owner to" in line]
    assert proposals, report.problems
    report, found = read(tmp_path / "e", tmp_path / "listed", owner=[OWNER, "Me"])
    assert {name: source.owner_messages for name, source in report.sources.items()} == {
        "messenger": 5,
        "sms": 1,
        "viber": 1,
    }
    assert {row[0] for row in rows(found) if row[3]} == {OWNER}, "the first name stands for all"


def test_another_name_in_another_messenger_is_proposed_and_a_namesake_is_not_taken(tmp_path: Path) -> None:
    threads = [("Ola", "Zoë"), ("Pia", "Zoë"), (OWNER, "Zoë")]  # somebody who bears the owner's name elsewhere
    files = {
        f"{other}.csv": table((other, 0, "a"), (mine, 5, "b"), thread=f"with {other}", source="viber")
        for other, mine in threads
    }
    report, _ = read(write_folder(tmp_path / "e", files_of("2022") | files), tmp_path / "out")
    assert report.sources["viber"].owner_messages == 0
    (proposal,) = [line for line in report.problems if line.startswith("in viber")]
    assert "you seem to be 'Zoë' (in 3 of the 3 threads there, by most threads)" in proposal
    assert f"set export.owner to ['{OWNER}', 'Zoë']" in proposal


def whatsapp(contact: str, mine: str, which: range) -> bytes:
    said = [
        ((contact, mine)[number % 2], EVEN - START + number // 3 * MINUTE, f"message number {number // 2}")
        for number in which
    ]
    return table(*said, thread=contact, source="whatsapp")


def test_a_renamed_contact_is_one_thread_and_one_person(tmp_path: Path) -> None:
    new_year = [("Eva Lund", 0, "happy new year to all of you"), (OWNER, 60_000, "and to you, and to you")]
    files = {
        "1.csv": whatsapp("Dag", OWNER, range(60)),
        "2.csv": whatsapp("Dag Moe (work)", OWNER, range(20, 80)),
        "3.csv": table(*new_year, thread="Eva Lund", source="whatsapp"),
        "4.csv": table(("Ola", 0, "happy new year to all of you"), thread="Ola", source="whatsapp"),
    }
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    assert (report.threads, report.messages_kept, report.dropped) == (3, 80 + 3, {"double": 40})
    talk = [row for row in rows(found) if row[2].startswith("message")]
    assert [text for _, _, text, _ in talk] == [f"message number {number // 2}" for number in range(80)]
    assert {sender for sender, *_ in talk} == {"Dag Moe (work)", OWNER}


def test_exclude_knows_the_titles_of_all_messengers(tmp_path: Path) -> None:
    report, found = read(both(tmp_path / "e"), tmp_path / "out", exclude=["Dag Moe"])
    assert rows(found) == expected()
    assert report.sources["viber"].dropped == {"excluded": 2}


def test_own_patterns_and_redaction_hold_for_all(tmp_path: Path) -> None:
    said = table(("Dag Moe", 0, "AUTO: away"), (OWNER, 1, "write to a@b.example"), (OWNER, 2, "You left the group."))
    path = write_folder(tmp_path / "e", files_of("2022") | {"a.csv": said})
    report, found = read(path, tmp_path / "out", system_patterns=["AUTO: .*"], redact=True)
    texts = [text for _, _, text, _ in rows(found)]
    assert "write to <email>" in texts
    assert "You left the group." in texts, "Messenger's rules are Messenger's"
    assert report.sources["other"].dropped == {"system_pattern": 1}


def test_bad_files_stop_or_are_left_out_whole(tmp_path: Path) -> None:
    path = both(tmp_path / "e", **{"bad.csv": TALK.replace(b"viber", b"skype") + b'a,b,"'})
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n.*bad\.csv: line 4: no CSV"):
        read(path, tmp_path / "stop")
    report, found = read(path, tmp_path / "skip", on_error="skip")
    assert rows(found) == expected() + TALK_ROWS
    assert report.skipped == {"not_csv": 1}


def test_malformed_messages_stop_too(tmp_path: Path) -> None:
    path = both(tmp_path / "e", **{"bad.csv": TALK.replace(b"yes", b"no").replace(b",Dag Moe,", b",,")})
    with pytest.raises(JaegptError, match=r"bad\.csv: 1 messages malformed, the first: line 2: `sender` is missing"):
        read(path, tmp_path / "stop")
    report, _ = read(path, tmp_path / "skip", on_error="skip")
    assert report.dropped["malformed"] == 1


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


def test_metrics_name_no_source_that_a_file_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.paths import ROOT

    import stages.extract

    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    both(tmp_path / "data/sample_export", **{"x.csv": TALK.replace(b"viber", b"telegram")})
    stages.extract.main()
    metrics = json.loads((tmp_path / "metrics/extract.json").read_text())
    assert metrics["sources"] == {"messenger": 10, "other": 2, "telegram": 2}
    assert set(read_table("data/messages", "messages")["source"].to_pylist()) == {"messenger", "viber", "telegram"}


def test_unknown_zones_and_empty_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no time zone 'Europe/Berln'.*Did you mean 'Europe/Berlin'"):
        config("x", timezone="Europe/Berln")
    with pytest.raises(ValueError, match="boxes: found none"):
        config("x", boxes=[])
    for name in ("../../etc/passwd", "Europe", "a\0b", ""):
        with pytest.raises(ValueError, match="no time zone"):
            config("x", timezone=name)
    assert config("x", timezone="local").timezone == "local"


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
    assert open_entry  # the same function that discovery reads heads by
