"""Google Chat from Takeout: dates, topics, owners over several zips, what is left out, damage."""

import zipfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from helpers.reader_checks import messages, read_path
from helpers.reader_fixtures_google_chat import DIRECT, conversation, message, person, write_chat, write_large
from helpers.reader_fixtures_json import EXPECTED, FOREIGN, FRIEND, OWNER, as_json, check_mutations, ms

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers import google_chat
from jaegpt.exports.readers.google_chat import READER

TIME = "2024-03-05T14:03:21"


def read_messages(root: Path, *rows: Any, **extra: Any) -> SourceThread:
    ((thread,), _) = read_path(READER, write_chat(root, list(rows), **extra))
    return thread


def test_the_conversation(tmp_path: Path) -> None:
    path = write_chat(tmp_path, conversation())
    assert READER.sniff(str(path), path.read_bytes()[:HEAD_BYTES]) > 0.5
    (thread,), _ = read_path(READER, path)
    assert messages([thread]) == EXPECTED
    assert (thread.key, thread.title, thread.is_group, thread.resolution_ms) == (DIRECT, FRIEND, False, 1000)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == ((OWNER,), True, {OWNER, FRIEND})
    assert (dict(thread.dropped), thread.num_read) == ({"media": 1, "deleted": 1}, 7)


def test_the_owner_may_stand_in_another_zip_of_the_download(tmp_path: Path) -> None:
    path = write_chat(tmp_path / "x", conversation())
    names = [file.relative_to(tmp_path / "x") for file in sorted((tmp_path / "x").rglob("*.json"))]
    for number, inside in (("001", [name for name in names if "user_info" not in str(name)]), ("002", names)):
        with zipfile.ZipFile(tmp_path / f"takeout-20240401T100000Z-{number}.zip", "w") as archive:
            for name in inside[-1:] if number == "002" else inside:
                archive.write(tmp_path / "x" / name, str(name))
    file = SourceFile(str(tmp_path / "takeout-20240401T100000Z-001.zip"), str(path.relative_to(tmp_path / "x")))
    options = ReadOptions(timezone=ZoneInfo("UTC"))
    (thread,) = READER.read(file, options, print)
    assert (messages([thread]), thread.owner, thread.title) == (EXPECTED, (OWNER,), FRIEND)
    (tmp_path / "takeout-20240401T100000Z-002.zip").rename(tmp_path / "another-002.zip")
    (thread,) = READER.read(file, options, print)
    assert (messages([thread]), thread.owner) == (EXPECTED, ())


def test_rooms_and_what_describes_them_may_be_missing(tmp_path: Path) -> None:
    thread = read_messages(tmp_path / "a", *conversation(), folder="Space AAAAx", name="Cakes")
    assert (thread.key, thread.title, thread.is_group) == ("Space AAAAx", "Cakes", True)
    thread = read_messages(tmp_path / "b", *conversation(), folder="Space AAAAx(1)", members=None, owner=None)
    assert (thread.key, thread.is_group, thread.owner, thread.owner_is_marked) == ("Space AAAAx", True, (), False)
    thread = read_messages(tmp_path / "c", *conversation(), folder="cakes", members=(FRIEND, OWNER, "Zoë Quist"))
    assert (thread.key, thread.title, thread.is_group) == ("cakes", f"{FRIEND}, {OWNER}, Zoë Quist", True)


@pytest.mark.parametrize("window", [50, 2**20])
def test_a_topic_of_several_messages_is_a_conversation_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(google_chat, "_SCAN_BYTES", window)
    rows = [
        message(1, OWNER, TIME, "which cake?", "t1"),
        message(2, FRIEND, TIME, 'it rains, "topic_id": "t3"', "t2"),
        message(3, FRIEND, TIME, "the big one", "t1"),
        message(4, OWNER, TIME, "here too", "t3"),
    ]
    threads, _ = read_path(READER, write_chat(tmp_path, rows))
    assert {thread.key: thread.texts for thread in threads} == {
        f"{DIRECT}/t1": ["which cake?", "the big one"],
        DIRECT: ['it rains, "topic_id": "t3"', "here too"],
    }
    assert {thread.owner for thread in threads} == {(OWNER,)}


def test_what_is_no_human_text_is_counted(tmp_path: Path) -> None:
    thread = read_messages(
        tmp_path,
        message(1, "Helper", TIME, "beep", creator=person("Helper", "Bot")),
        message(2, FRIEND, TIME, "/roll", annotations=[{"start_index": 0, "slash_command_metadata": {}}]),
        message(3, FRIEND, TIME, "", annotations=[{"video_call_metadata": {}}]),
        message(4, FRIEND, TIME, "", attached_files=[{"export_name": "x"}]),
        message(5, FRIEND, TIME, " "),
        message(6, FRIEND, TIME, "gone", message_state="DELETED"),
        message(7, FRIEND, TIME, "kept", quoted_message_metadata={"creator": person(OWNER), "text": "of another"}),
        message(8, FRIEND, TIME, "kept", updated_date=TIME, annotations=[{"url_metadata": {}}]),
    )
    assert thread.texts == ["kept", "kept"]
    assert thread.dropped == {"bot": 1, "command": 1, "call": 1, "media": 1, "empty": 1, "deleted": 1}


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Thursday, November 3, 2016 at 11:59:50 AM UTC", "2016-11-03T11:59:50"),
        ("Thursday, November 3, 2016 at 11:59:50\u202fPM UTC", "2016-11-03T23:59:50"),
        ("Thursday, November 3, 2016 at 12:00:00\u00a0AM UTC", "2016-11-03T00:00:00"),
        ("Thursday, November 3, 2016 at 12:00:00 PM UTC", "2016-11-03T12:00:00"),
        ("2016-11-03T11:59:50Z", "2016-11-03T11:59:50"),
        ("Donnerstag, 3. November 2016 um 11:59:50 UTC", "language to English"),
        ("Thursday, Brumaire 3, 2016 at 11:59:50 AM UTC", "no day in English"),
        ("Thursday, November 3, 2016 at 11:59:60 AM UTC", "time of the day"),
        ("Thursday", "language to English"),
        ("Thursday, November 31, 2016 at 11:59:50 AM UTC", "day is out of range"),
        ("Thursday, November 3, 2016 at 13:59:50 PM UTC", "time of the day"),
        ("Thursday, November 3, 1066 at 11:59:50 AM UTC", "1990 to 2099"),
    ],
)
def test_dates(tmp_path: Path, date: str, expected: str) -> None:
    thread = read_messages(tmp_path, message(1, FRIEND, TIME, "x", created_date=date))
    if expected[0].isdigit() and "T" in expected:
        assert thread.sent_at == [ms(expected)]
    else:
        assert thread.fault is not None
        assert expected in thread.fault


def test_people_without_a_name_and_people_of_one_name(tmp_path: Path) -> None:
    nobody = message(4, FRIEND, TIME, "d")
    del nobody["creator"]
    rows = [
        message(1, FRIEND, TIME, "a"),
        message(2, FRIEND, TIME, "b", creator={**person(FRIEND), "email": "other@x.example"}),
        message(3, FRIEND, TIME, "c", creator={"email": "zoe@x.example", "user_type": "Human"}),
        nobody,
    ]
    thread = read_messages(tmp_path, *rows)
    assert thread.senders == [FRIEND, f"{FRIEND} (other@x.example)", "zoe@x.example", "Deleted User"]


def test_malformed_messages_are_counted_and_the_first_is_described(tmp_path: Path) -> None:
    good = message(1, FRIEND, TIME, "kept")
    bad = [{**good, "created_date": 5}, {**good, "creator": "x"}, {**good, "text": []}, 5, None]
    threads, _ = read_path(READER, write_chat(tmp_path, [*bad, good]))
    assert sum(thread.dropped["malformed"] for thread in threads) == len(bad)
    assert threads[0].fault == "messages[0]: `created_date` is int instead of a time"


def test_damaged_descriptions_are_named(tmp_path: Path) -> None:
    path = write_chat(tmp_path, conversation())
    (path.parent / "group_info.json").write_bytes(b"{")
    with pytest.raises(BadFileError, match=r"group_info\.json: not JSON"):
        read_path(READER, path)


def test_large_files_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_chat, "PIECE_MESSAGES", 500)
    path = write_chat(tmp_path, [])
    write_large(path, 1_000_000)
    threads, _ = read_path(READER, path)
    assert len([thread for thread in threads if thread.key == DIRECT]) > 2
    assert sum(thread.num_read for thread in threads) % 1000 == 0


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_not_google_chats(name: str) -> None:
    assert READER.sniff("messages.json", FOREIGN[name][:HEAD_BYTES]) <= 0.1


def test_mutated_downloads(tmp_path: Path) -> None:
    rows = [*conversation(), message(90, FRIEND, TIME, "a reply", "t00000001")]
    assert as_json(rows)
    check_mutations(READER, "google chat", tmp_path, [lambda folder: write_chat(folder, rows)])
