"""WhatsApp's databases: both of Android and the iPhone's give the same conversation; traps; damage."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.reader_checks import NUM_MUTATIONS
from helpers.reader_fixtures_text import FRIEND, OWNER, check_damaged, expected, read
from helpers.reader_fixtures_whatsapp_db import APPLE_EPOCH, GROUP, JID, android, contacts, ios, make, old_android

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES
from jaegpt.exports.readers.whatsapp_db import READER

MAKERS: dict[str, Callable[[Path], Path]] = {
    "msgstore.db": android,
    "msgstore-2019.db": old_android,
    "ChatStorage.sqlite": ios,
}
NOON = 1_709_640_000_000


@pytest.mark.parametrize("name", MAKERS)
def test_every_schema_gives_the_same_conversation(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name)
    contacts(tmp_path / "wa.db")
    found = read(READER, path)
    named = [(OWNER if sender == "Me" else sender, time, text) for sender, time, text in found.messages]
    assert named == expected(1000)
    assert found.dropped == {"media": 1, "deleted": 1}
    (thread,) = found.threads
    assert (thread.key, thread.title, thread.is_group, thread.box) == (JID, FRIEND, False, "inbox")
    assert (thread.owner, thread.owner_is_marked) == (("Me",), True)
    assert thread.resolution_ms == (1000 if name.startswith("Chat") else 1)
    assert READER.sniff("x", path.read_bytes()[:HEAD_BYTES]) >= 0.3
    assert READER.sniff(str(path), path.read_bytes()[:HEAD_BYTES]) > 0.5


def test_without_contacts_numbers_are_names(tmp_path: Path) -> None:
    found = read(READER, android(tmp_path / "msgstore.db"))
    assert set(found.senders) == {"Me", "+4915550100"}
    assert "wa.db" in found.said[0]
    (tmp_path / "wa.db").write_bytes(b"SQLite format 3\0 and no more")
    found = read(READER, tmp_path / "msgstore.db")
    assert set(found.senders) == {"Me", "+4915550100"}
    assert "wa.db beside it was not used" in found.said[0]


def test_types_say_what_is_left_out(tmp_path: Path) -> None:
    codes = {4: "contact", 5: "location", 7: "system", 10: "call", 11: "waiting", 20: "sticker", 25: "bot",
             42: "view_once", 64: "deleted", 66: "poll", 777: "system"}  # fmt: skip
    more = [(100 + code, 1, 0, "k", 1, 0, NOON, code, f"text of type {code}") for code in codes]
    found = read(READER, android(tmp_path / "msgstore.db", more))
    for reason in set(codes.values()):
        assert found.dropped[reason] == sum(value == reason for value in codes.values()) + (reason == "deleted"), reason
    assert not any("text of type" in text for text in found.texts)


def test_captions_forwards_and_blanks(tmp_path: Path) -> None:
    more = [
        (101, 1, 1, "k", None, 0, NOON, 3, None), (102, 1, 1, "k", None, 0, NOON + 1, 0, "chain letter"),
        (103, 1, 1, "k", None, 0, NOON + 2, 0, "  "), (104, 1, 1, "k", None, 0, NOON + 3, 0, None),
    ]  # fmt: skip
    tables = {"message_media": ((101, "x.mp4", "a video's caption"),), "message_forwarded": ((102, 1),)}
    found = read(READER, android(tmp_path / "msgstore.db", more, **tables))
    assert found.texts[0] == "a video's caption"
    assert (found.dropped["forwarded"], found.dropped["empty"]) == (1, 2)
    more = [
        (100, JID, 1, "k", 0, "passed on", NOON, "0", None, None, 3, 0),
        (101, JID, 0, "k", 6, "x", NOON, "0", None, None, 0, 0),
    ]
    found = read(READER, old_android(tmp_path / "msgstore-old.db", more))
    assert (found.dropped["forwarded"], found.dropped["system"]) == (1, 1)


def test_groups_channels_and_mentions(tmp_path: Path) -> None:
    contacts(tmp_path / "wa.db")
    people = ((1, "4915550100", "s.whatsapp.net", JID), (2, "1", "g.us", GROUP),
              (3, "49199", "s.whatsapp.net", "49199@s.whatsapp.net"), (4, "777", "lid", "777@lid"),
              (5, "s", "broadcast", "status@broadcast"))  # fmt: skip
    more = [
        (101, 2, 0, "k", 3, 0, NOON, 0, "hi @4915550100"), (102, 2, 0, "k", 4, 0, NOON + 1, 0, "by a hidden number"),
        (103, 2, 1, "k", None, 0, NOON + 2, 0, "mail me: a@b.example"), (104, 3, 0, "k", 1, 0, NOON, 0, "a status"),
    ]  # fmt: skip
    tables = {
        "jid": people,
        "jid_map": ((4, 1),),
        "chat": ((1, 1, None, 0, 0), (2, 2, "Ski 2025", 1, 0), (3, 5, None, 0, 0)),
    }
    found = read(READER, android(tmp_path / "msgstore.db", more, **tables))
    group, status = found.threads[1:]
    assert (group.key, group.title, group.is_group, group.box) == (GROUP, "Ski 2025", True, "archived")
    assert list(zip(group.senders, group.texts, strict=True)) == [
        ("Cleo", f"hi @{FRIEND}"), (FRIEND, "by a hidden number"), ("Me", "mail me: a@b.example")
    ]  # fmt: skip
    assert (status.texts, dict(status.dropped)) == ([], {"channel": 1})
    seconds = NOON / 1000 - APPLE_EPOCH
    more = [
        (101, 2, 0, seconds, 0, "hi", 1, GROUP, None),
        (102, 2, 0, seconds, 7, "https://a.example look", 2, GROUP, None),
    ]
    members = {"ZWAGROUPMEMBER": ((1, JID, None, None), (2, "49199@s.whatsapp.net", "Cleo", None))}
    found = read(READER, ios(tmp_path / "ChatStorage.sqlite", more, **members))
    assert list(zip(found.threads[1].senders, found.threads[1].texts, strict=True)) == [
        (FRIEND, "hi"), ("Cleo", "https://a.example look")
    ]  # fmt: skip


def test_the_older_table_is_read_while_the_newer_one_is_empty(tmp_path: Path) -> None:
    path = old_android(tmp_path / "msgstore.db")
    base = sqlite3.connect(path)
    base.executescript("CREATE TABLE jid (_id INTEGER, raw_string TEXT);"
                       "CREATE TABLE message (_id INTEGER, chat_row_id INTEGER, from_me INTEGER, timestamp INTEGER,"
                       "text_data TEXT);")  # fmt: skip
    base.close()
    assert len(read(READER, path).texts) == len(expected(1))


def test_wrong_values_are_counted_and_named(tmp_path: Path) -> None:
    values = ((NOON, b"\xff\xfe"), ("soon", "x"), (None, "x"), (-5, "x"), (2**62, "x"), (1.5, "x"), (NOON, 7))
    more = [(100 + index, 1, 0, "k", 1, 0, time, 0, text) for index, (time, text) in enumerate(values)]
    path = android(tmp_path / "msgstore.db", more)
    found = read(READER, path)
    assert found.dropped["malformed"] == len(values) - 1  # SQLite makes a text of the 7
    assert "of the database: time" in str(found.threads[0].fault)
    dates = ("soon", None, -1, 0, 1e300, b"x")
    found = read(
        READER,
        ios(tmp_path / "c.sqlite", [(100 + n, 1, 0, date, 0, "x", None, None, None) for n, date in enumerate(dates)]),
    )
    assert found.dropped["malformed"] == len(dates)


def test_newest_messages_in_the_log_are_read(tmp_path: Path) -> None:
    path = android(tmp_path / "msgstore.db")
    base = sqlite3.connect(path)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("INSERT INTO message VALUES (500, 1, 1, 'k', NULL, 0, ?, 0, 'in the log')", (NOON,))
    base.commit()
    assert (tmp_path / "msgstore.db-wal").stat().st_size > 0
    assert "in the log" in read(READER, path).texts
    base.close()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("msgstore.db.crypt15", b"\x01\x02" * 500, "encrypted"), ("msgstore.db", b"\x01\x02" * 5000, "encrypted"),
        ("msgstore.db", b"SQLite format 3\0" + b"\x07" * 5000, "encrypted"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadFileError) as error:
        read(READER, tmp_path / name)
    assert (error.value.reason, error.value.path) == (reason, str(tmp_path / name))


def test_other_databases_are_another_readers(tmp_path: Path) -> None:
    path = make(tmp_path / "chat.db", "CREATE TABLE message (ROWID INTEGER PRIMARY KEY, text TEXT);", {})
    with pytest.raises(BadFileError) as error:
        read(READER, path)
    assert error.value.reason == "not_this_format"
    # A view of a table's name may be made to run for ever.
    columns = ", ".join(f"x AS {name}" for name in ("ZTEXT", "ZISFROMME", "ZMESSAGEDATE", "ZCHATSESSION"))
    endless = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT {columns} FROM n"
    path = make(tmp_path / "trap.db", f"CREATE VIEW ZWAMESSAGE AS {endless};", {})
    with pytest.raises(BadFileError) as error:
        read(READER, path)
    assert error.value.reason == "not_this_format"
    assert READER.sniff("msgstore.db", b"no database") == 0


def test_damaged_databases_end_in_messages_or_in_one_clear_error(tmp_path: Path) -> None:
    contents = {name: maker(tmp_path / name).read_bytes() for name, maker in MAKERS.items()}
    ends = check_damaged(READER, contents, tmp_path, NUM_MUTATIONS)
    assert ends["read"] > 0.1 * NUM_MUTATIONS, ends
    assert ends["refused"] > 0.1 * NUM_MUTATIONS, ends
