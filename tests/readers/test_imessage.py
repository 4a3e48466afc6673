"""iMessage's database: eras, the log, bodies, what is left out, and whose handles and chats are one."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import (
    check_mutations,
    dropped,
    expected,
    head_of,
    messages,
    ms,
    mutated_bytes,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_imessage import (
    ERAS,
    NUMBER,
    ChatDb,
    archive,
    conversation,
    copy_while_open,
    typed_stream,
    write_large,
)

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceThread
from jaegpt.exports.readers.imessage import READER
from jaegpt.exports.readers.tapbacks import is_tapback
from jaegpt.exports.readers.typedstream import text_of

NOON = "2024-03-05T12:00:00Z"


def one_chat(folder: Path, *rows: dict[str, Any]) -> SourceThread:
    """The thread of a database whose only chat holds these messages, one per minute."""
    base = ChatDb(folder / "chat.db")
    handle = base.insert("handle", id=NUMBER)
    chat = base.chat(NUMBER, [handle])
    for minute, row in enumerate(rows):
        base.message(chat, f"2024-03-05T12:{minute:02}:00Z", **{"text": None, "handle_id": handle} | row)
    (thread,), _ = read_path(READER, base.close())
    return thread


@pytest.mark.parametrize("era", ERAS)
def test_the_conversation(tmp_path: Path, era: str) -> None:
    path = conversation(tmp_path / "3d0d7e5fb2ce288813306e4d4636395e047a3d28", era)
    assert READER.sniff(str(path), head_of(path)) > 0
    (thread,), said = read_path(READER, path)
    assert messages([thread]) == expected(NUMBER, "Me")
    assert dropped([thread]) == {"media": 1} | ({"unsent": 1} if era == "2026" else {})
    assert (thread.key, thread.title, thread.is_group) == (NUMBER, NUMBER, False)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == (("Me",), True, {"Me", NUMBER})
    assert (thread.resolution_ms, said) == (1000, [])


def test_the_newest_messages_are_in_the_log_and_nothing_is_changed(tmp_path: Path) -> None:
    base = ChatDb(tmp_path / "live.db", wal=True)
    handle = base.insert("handle", id=NUMBER)
    base.talk(base.chat(NUMBER, [handle]), handle, as_body=True)
    path = copy_while_open(base, tmp_path)
    base.close()
    assert len(messages(read_path(READER, path)[0])) == len(expected())
    Path(f"{path}-shm").unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(messages(read_path(READER, path)[0])) == len(expected())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    Path(f"{path}-wal").unlink()
    with pytest.raises(BadFileError, match="without the table"):
        read_path(READER, path)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_locked_database_is_read_as_it_was_before_what_is_half_written(tmp_path: Path, mode: str) -> None:
    path = conversation(tmp_path / "chat.db", "2026")
    whole = messages(read_path(READER, path)[0])
    base = sqlite3.connect(path, isolation_level=None)
    base.execute(f"PRAGMA journal_mode = {mode}")
    base.execute("PRAGMA cache_size = 1")  # pages are written before the transaction ends
    base.execute("BEGIN EXCLUSIVE")
    base.execute("UPDATE message SET text = 'half written', attributedBody = NULL")
    base.execute("CREATE TABLE filler (x)")
    base.executemany("INSERT INTO filler VALUES (randomblob(3000))", [()] * 100)
    journal = Path(f"{path}-{'wal' if mode == 'WAL' else 'journal'}")
    assert journal.stat().st_size > 5000
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(path, timeout=0).execute("DELETE FROM message")
    assert messages(read_path(READER, path)[0]) == whole
    base.execute("ROLLBACK")
    base.close()


@pytest.mark.parametrize("length", [1, 127, 128, 200, 255, 256, 65_535, 65_536, 300_000])
def test_bodies_of_any_length(tmp_path: Path, length: int) -> None:
    text = ("é+" * length)[: length // 2] + "x" * (length - length // 2)
    assert text_of(typed_stream(text)) == text_of(typed_stream(text, mutable=True)) == text_of(archive(text)) == text
    assert one_chat(tmp_path, {"attributedBody": typed_stream(text)}).texts == [text]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        archive("hello")[:-9],
        b"NSString",
        b"NSString+",
        b"NSString+\x05abc",
        b"NSString+\x84abc",
        b"NSString+\x02\xff\xff",
        b"bplist00",
    ],
)
def test_a_damaged_body_is_one_malformed_message(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"attributedBody|utf-8"):
        text_of(body)
    thread = one_chat(tmp_path, {"attributedBody": body}, {"text": "hi"})
    assert (thread.texts, thread.dropped) == (["hi"], {"malformed": 1})
    assert thread.fault
    assert thread.fault.startswith("message 1: ")


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    url = "com.apple.messages.URLBalloonProvider"
    rows = {
        "reaction": [{"text": "Loved “hi”", "associated_message_type": kind} for kind in (2000, 2007, 3001)]
        + [{"text": "Liked “see you”"}, {"text": "Laughed at an image"}, {"text": "Reacted 😀 to “x\ny”"}],
        "sticker": [{"text": "\ufffc", "associated_message_type": 1000}],
        "poll": [{"text": "x", "associated_message_type": 4000}],
        "system": [{"item_type": kind} for kind in (1, 2, 3, 4, 5, 6)] + [{"text": "x", "is_system_message": 1}],
        "auto_reply": [{"text": "I am driving", "is_auto_reply": 1}],
        "spam": [{"text": "win", "is_spam": 1}],
        "app": [{"text": "\ufffd", "balloon_bundle_id": "com.apple.PassbookUIService.PeerPayment"}],
        "unsent": [{"text": "x", "date_retracted": 9}, {"date_edited": 9}, {"text": "", "date_edited": 9}],
        "media": [{"text": "\ufffc"}, {"cache_has_attachments": 1}],
        "empty": [{}, {"text": " "}],
    }
    kept = [
        {"text": "old", "attributedBody": typed_stream("the new text"), "date_edited": 7},
        {"text": "https://example.org", "balloon_bundle_id": url},
        {"attributedBody": typed_stream("\ufffcone\ufffc")},
        {"text": "Loved it"},
        {"text": "She wrote “never” to me"},
    ]
    thread = one_chat(tmp_path, *[row for group in rows.values() for row in group], *kept)
    assert thread.texts == ["the new text", "https://example.org", "one", "Loved it", "She wrote “never” to me"]
    assert thread.dropped == {reason: len(group) for reason, group in rows.items()}


def test_deleted_messages_that_can_be_recovered(tmp_path: Path) -> None:
    base = ChatDb(tmp_path / "chat.db")
    handle = base.insert("handle", id=NUMBER)
    chat = base.chat(NUMBER, [handle])
    base.message(chat, NOON, "stays", handle_id=handle)
    for number in (None, chat):
        row = base.message(number, NOON, "gone", handle_id=handle)
        base.insert("chat_recoverable_message_join", chat_id=chat, message_id=row)
    threads, _ = read_path(READER, base.close())
    assert [text for *_, text in messages(threads)] == ["stays"]
    assert dropped(threads) == {"deleted": 2}


def test_one_persons_handles_and_chats_are_one_thread_and_one_sender(tmp_path: Path) -> None:
    base = ChatDb(tmp_path / "chat.db")
    spellings = (NUMBER, "anna.berg@example.org", NUMBER, "0151 12345678")
    handles = [base.insert("handle", id=name, country="de", person_centric_id="P1") for name in spellings[:2]]
    handles += [base.insert("handle", id=name, country="de", service="SMS") for name in spellings[2:]]
    guids = (f"iMessage;-;{NUMBER}", "iMessage;-;anna.berg@example.org", f"SMS;-;{NUMBER}", "any;-;015112345678")
    chats = [base.chat(name, [handle], guid=guid) for name, handle, guid in zip(spellings, handles, guids, strict=True)]
    for minute, (chat, handle) in enumerate(zip(chats, handles, strict=True)):
        base.message(chat, f"2024-03-05T12:{9 - minute:02}:00Z", f"text {minute}", handle_id=handle)
    other = base.insert("handle", id="+4915199999999", country="de")
    row = base.message(base.chat("+4915199999999", [other]), NOON, "another person", handle_id=other)
    base.insert("chat_message_join", chat_id=chats[0], message_id=row)  # joined to two chats: counted once
    alone = base.chat("anna.berg@example.org", [], guid="any;-;anna.berg@example.org")  # nobody is listed for it
    base.message(alone, "2024-03-05T12:30:00Z", "hi", is_from_me=1)
    threads, _ = read_path(READER, base.close())
    assert [(thread.key, len(thread.texts)) for thread in threads] == [(NUMBER, 5), ("+4915199999999", 1)]
    assert set(threads[0].senders) == {NUMBER, "Me"}
    assert threads[0].sent_at == sorted(threads[0].sent_at)


def test_chats_of_a_group_are_one_by_their_id_or_their_people_and_name(tmp_path: Path) -> None:
    base = ChatDb(tmp_path / "chat.db")
    anna, bo, mia = (base.insert("handle", id=f"+491511000000{number}") for number in range(3))
    groups = [
        ("chat1", [anna, bo], "Ski", "G1"),
        ("chat2", [anna, bo, mia], "Ski", "G1"),
        ("chat3", [bo, anna, mia], "Ski", "G2"),
        ("chat4", [anna, bo, mia], "Work", None),
    ]
    for name, handles, title, group_id in groups:
        chat = base.chat(name, handles, 43, display_name=title, group_id=group_id)
        base.message(chat, NOON, name, handle_id=bo)
        base.message(chat, NOON, f"{name} of somebody", handle_id=99)
    threads, _ = read_path(READER, base.close())
    found = {(thread.key, thread.title, len(thread.texts), thread.is_group) for thread in threads}
    assert found == {("chat1", "Ski", 6, True), ("chat4", "Work", 2, True)}
    assert set(threads[0].senders) == {"+4915110000001", ""}


def test_seconds_and_nanoseconds_in_one_database(tmp_path: Path) -> None:
    rows = [{"text": "a", "date": 400_000_000}, {"text": "b", "date": 400_000_001_123_456_789}]
    rows += [{"text": "c", "date": value} for value in (0, None, "yesterday", 2**62, -5_000_000_000, 1.5)]
    thread = one_chat(tmp_path, *rows)
    assert thread.sent_at == [1_378_307_200_000, 1_378_307_201_123]
    assert thread.dropped == {"malformed": 6}
    assert thread.resolution_ms == 1
    assert thread.fault == "message 3: `date` 0 lies outside the years 1990 to 2099"


def test_columns_that_are_missing_and_text_that_is_no_utf8(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "chat.db") as base:
        base.executescript("""
            CREATE TABLE message (ROWID INTEGER PRIMARY KEY, text TEXT, date INTEGER, handle_id INTEGER);
            CREATE TABLE handle (ROWID INTEGER PRIMARY KEY, id TEXT);
            CREATE TABLE chat (ROWID INTEGER PRIMARY KEY, guid TEXT, chat_identifier TEXT);
            CREATE TABLE chat_message_join (chat_id INTEGER, message_id INTEGER);
            CREATE TABLE chat_handle_join (chat_id INTEGER, handle_id INTEGER);
            INSERT INTO handle VALUES (1, 'anna@example.org'); INSERT INTO chat VALUES (1, 'any;-;x', 'x');
            INSERT INTO chat_handle_join VALUES (1, 1); INSERT INTO chat_message_join VALUES (1, 1), (1, 2);
            INSERT INTO message VALUES (1, 'hi', 700000000, 1), (2, CAST(x'61ff62' AS TEXT), 700000001, 1);
        """)
    base.close()
    threads, _ = read_path(READER, tmp_path / "chat.db")
    assert [(who, text) for who, _, text in messages(threads)] == [
        ("anna@example.org", "hi"),
        ("anna@example.org", "ab"),
    ]


def test_other_databases_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as base:
        base.execute("CREATE VIEW message AS SELECT 1")
    base.close()
    with pytest.raises(BadFileError, match="without the table") as error:
        read_path(READER, tmp_path / "other.db")
    assert error.value.reason == "not_this_format"
    good = conversation(tmp_path / "chat.db", "2026").read_bytes()
    with pytest.raises(BadFileError, match="damaged"):
        read_bytes(READER, good[:9000], tmp_path)
    with pytest.raises(BadFileError, match="encrypted"):
        read_bytes(READER, b"\x17" * 9000, tmp_path)


@pytest.mark.parametrize("head", [b"", b'{"messages": []}', b"<smses/>", b"a,b\n1,2", b"SQLite format 3"])
def test_other_files_are_no_databases(head: bytes) -> None:
    assert READER.sniff("chat.db", head) == 0


def test_tapbacks_of_google_and_removed_ones() -> None:
    assert is_tapback("\u200a👍\u200b to “\u200asee you at nine\u200a”")
    assert is_tapback("Removed a heart from “see you”")
    assert not is_tapback("go to “Zum Anker”")


def test_mutated_databases(tmp_path: Path) -> None:
    paths = {era: conversation(tmp_path / f"{era}.db", era) for era in ERAS}

    def of_bytes(path: Path) -> Callable[[random.Random], bytes]:
        return lambda rng: mutated_bytes(path.read_bytes(), rng)

    def of_values(path: Path) -> Callable[[random.Random], bytes]:
        return lambda rng: with_other_values(path, tmp_path / "changed.db", rng)

    forms = {f"{era} bytes": of_bytes(path) for era, path in paths.items()}
    check_mutations(READER, tmp_path, forms | {f"{era} values": of_values(path) for era, path in paths.items()})


HOSTILE = (None, 0, -1, 2**63 - 1, 1.5, "", "x", "\0", b"", b"\xff" * 9, b"NSString+\x83" + b"\xff" * 8, 2000, "9" * 99)


def with_other_values(path: Path, target: Path, rng: random.Random) -> bytes:
    """The database with some values replaced by those of other types and sizes."""
    shutil.copy(path, target)
    base = sqlite3.connect(target)
    for _ in range(rng.choice((1, 2, 5))):
        table = rng.choice(("message", "message", "message", "handle", "chat", "chat_message_join", "chat_handle_join"))
        column = rng.choice([row[1] for row in base.execute(f"PRAGMA table_info({table})")])
        try:
            base.execute(f"UPDATE {table} SET {column} = ? WHERE ROWID % 3 = 0", (rng.choice(HOSTILE),))
        except sqlite3.Error:
            continue
    base.commit()
    base.close()
    return target.read_bytes()


def test_a_large_database(tmp_path: Path) -> None:
    write_large(tmp_path / "chat.db", 2**22)
    threads, _ = read_path(READER, tmp_path / "chat.db")
    assert len(threads) == 300
    assert len(messages(threads)) == 20_000
    assert messages(threads)[0][1] > ms("2020-01-01T00:00:00Z")
