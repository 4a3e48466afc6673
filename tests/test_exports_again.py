"""What was exported twice is counted once, and what nobody reads is reported."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import reader_fixtures_discord as discord
from helpers import reader_fixtures_telegram as telegram
from helpers.export_fixtures import START, TALKS, as_json, config, expected, files_of, read, rows, write_folder
from helpers.reader_fixtures_json import EXPECTED, FRIEND

from jaegpt.exports.account import ExportReport
from jaegpt.exports.extract import survey_export


def survey(path: Path, **settings: object) -> ExportReport:
    report = survey_export(config(path, **settings), 0)
    for source in report.sources.values():
        assert source.messages_read == source.messages_kept + sum(source.dropped.values())
    assert report.messages_read == sum(source.messages_read for source in report.sources.values())
    return report


MADE = {
    "telegram": (telegram.chat(telegram.conversation()), "result.json"),
    "discord": (discord.export(discord.conversation()), "Direct.json"),
}


@pytest.mark.parametrize("source", MADE)
def test_a_contact_renamed_between_two_exports_is_one_person(tmp_path: Path, source: str) -> None:
    content, name = MADE[source]
    old = json.dumps(content, ensure_ascii=False)
    new = old.replace(FRIEND, "Anna Lund")
    assert new != old
    files = {f"ChatExport_1/{name}": old.encode(), f"ChatExport_2/{name}": new.encode()}
    report = survey(write_folder(tmp_path / "e", files))
    assert (report.threads, report.groups) == (1, 0)
    assert (report.messages_kept, report.dropped["double"]) == (len(EXPECTED), len(EXPECTED))
    assert report.owner_messages == 3


def test_two_people_of_one_file_stay_two(tmp_path: Path) -> None:
    """Who says the same at the same moment is not the same person, where a file has both."""
    content = telegram.chat(telegram.conversation(), kind="private_group", id=5)
    first, second = content["messages"][:2]
    second |= {"text": first["text"], "text_entities": [], "date_unixtime": first["date_unixtime"]}
    alone = content | {"messages": [second, *content["messages"][2:]]}
    files = {"1/result.json": as_json(content), "2/result.json": as_json(alone)}
    _, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=[telegram.OWNER])
    assert [row[0] for row in rows(found)[:2]] == [FRIEND, telegram.OWNER]


def test_instagram_of_before_2021_and_of_now_are_joined_by_their_messages(tmp_path: Path) -> None:
    """An old download has Messenger's layout, and letters behind the names of folders."""
    talks = tuple(replace(talk, folder=f"{talk.folder.partition('_')[0]}_aB3-Ef9Hi{n}") for n, talk in enumerate(TALKS))
    files = {f"old/{name}": content for name, content in files_of("2022", talks).items()}
    files |= {f"new/{name}": content for name, content in files_of("instagram").items()}
    path = write_folder(tmp_path / "e", files)
    report = survey(path)
    assert (report.threads, report.messages_kept, report.dropped) == (3, 10, {"double": 10})
    assert report.problems == []
    _, found = read(path, tmp_path / "out")
    assert rows(found) == expected()


def test_downloads_unpacked_over_one_another(tmp_path: Path) -> None:
    """What is left of an old download has the same messages; in early 2018 in whole seconds."""
    talk = replace(TALKS[0], messages=tuple((name, START // 1000 * 1000, text) for name, _, text in TALKS[0].messages))
    files = files_of("early 2018", (talk,))
    (name,) = files
    path = write_folder(tmp_path / "e", files | {name.replace("message", "message_2"): files[name]})
    report = survey(path)
    assert (report.messages_kept, report.dropped) == (len(talk.messages), {"double": len(talk.messages)})


LIKE_CHATS = {
    "mystery.txt": b"12:03 anna: hi\n12:04 ben: hello\n12:05 anna: well\n",
    "chat.json": as_json([{"author": "Anna", "time": "2024-03-05T14:03:21", "message": "hi"}]),
    "Anna_12.json": as_json({"rows": [{"from": "Anna", "date": "2024-03-05T14:03:21", "text": "hi"}]}),
    "log.csv": b"date;who;message\n2024-01-01;Anna;hi\n",
    "marked.csv": b"\xef\xbb\xbfdate;message\n2024-01-01;hi\n",
    "talk.xml": b"<?xml version='1.0'?><log><message from='anna'>hi</message></log>",
}
UNLIKE_CHATS = {
    "notes.txt": b"buy milk\nand bread\nat 12:30\n",
    "ads.json": as_json({"topics": [{"name": "cakes", "timestamp": 1}]}),
    "prices.csv": b"date;price\n2024-01-01;5\n",
    "page.xml": b"<?xml version='1.0'?><rss><item/></rss>",
}


@pytest.mark.parametrize("name", LIKE_CHATS)
def test_what_looks_like_a_chat_and_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path / "e", files_of("2022") | {f"other/{name}": LIKE_CHATS[name]})
    report = survey(path)
    (line,) = report.problems
    assert "look like messages" in line
    assert f"(1, the first is {path}/other/{name})" in line
    assert report.ignored == {name.rpartition(".")[2]: 1}
    assert report.messages_kept == 10


def test_what_does_not_is_counted(tmp_path: Path) -> None:
    report = survey(write_folder(tmp_path / "e", files_of("2022") | UNLIKE_CHATS))
    assert report.problems == []
    assert report.ignored == {"csv": 1, "json": 1, "txt": 1, "xml": 1}


def test_a_file_that_is_known_and_empty_is_named(tmp_path: Path) -> None:
    lab = as_json({"chatlab": {"version": "0.0.2"}, "meta": {"name": FRIEND}, "members": []})
    path = write_folder(tmp_path / "e", files_of("2022") | {"lab.json": lab})
    assert survey(path).problems == [f"{path}/lab.json: taken for ChatLab (JSON), and no message is in it"]


def test_a_database_of_nobody_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", files_of("2022"))
    base = sqlite3.connect(path / "viber.db")
    base.execute("CREATE TABLE Events (body TEXT)")
    base.commit()
    base.close()
    assert survey(path).problems == [f"{path}/viber.db: a database, but of no messenger that is read here"]


def test_the_owner_is_not_asked_for_where_nothing_was_read(tmp_path: Path) -> None:
    lab = as_json({"chatlab": {"version": "0.0.2"}, "meta": {"name": FRIEND}, "members": [], "messages": []})
    report = survey(write_folder(tmp_path / "e", files_of("2022") | {"lab.json": lab}))
    assert not [line for line in report.problems if "your names" in line]
