"""`export.reactions`: emoji reactions and stickers as messages of those who gave them; off, everything is as ever."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from helpers import reader_fixtures_discord as discord_files
from helpers import reader_fixtures_signal as signal_files
from helpers import reader_fixtures_telegram as telegram_files
from helpers import reader_fixtures_whatsapp_db as whatsapp_files
from helpers.export_fixtures import read as read_export
from helpers.export_fixtures import rows as rows_of
from helpers.reaction_checks import AFTER, AT, LATER, TIME, check, read
from helpers.reader_checks import FRIEND, OWNER, dropped, messages, ms
from helpers.reader_fixtures_imessage import NUMBER, ChatDb
from helpers.reader_fixtures_json import as_json
from helpers.reader_fixtures_small import MATRIX, event, matrix, said
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.exports.messenger import MODERN
from jaegpt.exports.reactions import is_emoji
from jaegpt.exports.reader import ReadOptions, SourceFile
from jaegpt.exports.readers import discord, imessage, signal, telegram, whatsapp_db
from jaegpt.exports.readers import matrix as matrix_reader
from jaegpt.exports.rows import read_rows
from jaegpt.sample import double_encode


def test_what_is_one_emoji() -> None:
    for emoji in (
        "👍",
        "❤",
        "❤️",
        "👍🏽",
        "👨‍👩‍👧‍👦",
        "🇳🇴",
        "1️⃣",
        "‼️",
        "❓",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "↔️",
        "ℹ️",
        "ℹ",
        "\U0001fa77",
        "\U0001fae8",
        "\U0001fae9",
    ):  # the last few are younger than Python 3.11's tables
        assert is_emoji(emoji), emoji
    for other in ("", "ok", ":+1:", "<3", "👍 yes", "안녕", "👍" * 20, " ", "\0", "!", "7", None, 5, ["👍"]):
        assert not is_emoji(other), other


def person(name: str) -> dict[str, Any]:
    return {"name": name}


ACTORS = st.sampled_from(["Anna", "Ben", "Cléo", "", None, 7])
GIVEN = st.lists(
    st.one_of(st.tuples(ACTORS, st.sampled_from(["👍", "❤", "x", "", None, 3])), st.just(None)), max_size=3
)
TEXTS = st.sampled_from(["hi", "naïve", None])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), TEXTS, st.booleans(), GIVEN), max_size=8), st.booleans())
def test_messengers_reactions_stand_behind_their_messages(
    talk: Sequence[tuple[int, str | None, bool, Any]], newest_first: bool
) -> None:
    """Against the plain way, message by message."""
    content, expected, num_lost = [], [], 0
    time = AT
    for gap, text, is_unsent, given_ in talk:
        time += gap
        listed = [
            one and {"actor": one[0], "reaction": double_encode(one[1]) if isinstance(one[1], str) else one[1]}
            for one in given_
        ]
        row = {"sender_name": "Anna", "timestamp_ms": time, "is_unsent": is_unsent, "reactions": listed}
        content.append(row | ({} if text is None else {"content": text}))
        real = [(one[0], time, one[1]) for one in given_ if one and isinstance(one[0], str) and one[0]]
        real = [one for one in real if is_emoji(one[2])]
        is_kept = text is not None and not is_unsent
        expected += [("Anna", time, text), *real] if is_kept else []
        num_lost += len(given_) - len(real) * is_kept
    in_order = content[::-1] if newest_first else content
    found, off = read_rows(in_order, MODERN, reactions=True), read_rows(in_order, MODERN)
    assert list(zip(found.senders, found.times, found.texts, strict=True)) == expected
    assert found.dropped["reaction"] == num_lost
    assert found.read == len(found.texts) + found.dropped.total()
    assert (off.reacting, off.dropped["reaction"]) == ([], 0)
    places = set(found.reacting)
    assert [text for place, text in enumerate(found.texts) if place not in places] == off.texts


def test_a_messenger_export_end_to_end(tmp_path: Path) -> None:
    def row(sender: str, ms_: int, text: str, *given_: tuple[str, str]) -> dict[str, Any]:
        made = {"sender_name": sender, "timestamp_ms": ms_, "content": text}
        return made | {"reactions": [{"reaction": emoji, "actor": actor} for actor, emoji in given_]}

    people = [FRIEND, OWNER]
    talk = [
        row(FRIEND, AT, "look at this", (OWNER, "😂"), (FRIEND, "❤")),
        row(FRIEND, AT + 1000, f"{FRIEND} sent an attachment.", (OWNER, "👍")),  # nobody wrote that
        row(OWNER, AT + 2000, "great", (FRIEND, "👍")),
    ]
    thread = {"participants": [person(name) for name in people], "title": FRIEND, "thread_path": "inbox/anna_1"}
    folder = tmp_path / "messages" / "inbox" / "anna_1"
    folder.mkdir(parents=True)
    (folder / "message_1.json").write_text(
        double_encode(json.dumps(thread | {"messages": talk[::-1]}, ensure_ascii=False)), encoding="utf-8"
    )
    report, table = read_export(tmp_path / "messages", tmp_path / "on", owner=OWNER, reactions=True)
    ours = [
        (FRIEND, AT, "look at this", False), (OWNER, AT, "😂", True), (FRIEND, AT, "❤", False),
        (OWNER, AT + 2000, "great", True), (FRIEND, AT + 2000, "👍", False),
    ]  # fmt: skip
    assert rows_of(table) == ours
    assert (report.messages_read, report.dropped["reaction"]) == (7, 1)
    report, table = read_export(tmp_path / "messages", tmp_path / "off", owner=OWNER)
    assert [text for _, _, text, _ in rows_of(table)] == ["look at this", "great"]
    assert (report.messages_read, report.dropped.get("reaction", 0)) == (3, 0)


def test_telegram(tmp_path: Path) -> None:
    def by(name: str, time: str) -> dict[str, Any]:
        return {"from": name, "from_id": f"user{telegram_files.NUMBERS[name]}", "date": time}

    given_ = [
        {"type": "emoji", "count": 2, "emoji": "❤", "recent": [by(OWNER, LATER), by(FRIEND, TIME)]},
        {"type": "custom_emoji", "count": 1, "document_id": "x.webp", "recent": [by(OWNER, LATER)]},
        {"type": "emoji", "count": 9, "emoji": "👍"},
        {"type": "emoji", "count": 1, "emoji": "👍", "recent": [{"from": 5, "from_id": 5}]},
        7,
    ]
    talk = [
        telegram_files.message(1, FRIEND, TIME, "hi", reactions=given_),
        telegram_files.message(2, OWNER, LATER, "", media_type="sticker", file="x.webp", sticker_emoji="🎉"),
        telegram_files.message(3, OWNER, LATER, "", media_type="sticker", file="x.webp"),
        telegram_files.message(4, OWNER, LATER, "", photo="x.jpg", reactions=given_),
    ]
    (tmp_path / "x").write_bytes(as_json(telegram_files.chat(talk)))
    on = [(FRIEND, AT, "hi"), (OWNER, AFTER, "❤"), (FRIEND, AT, "❤"), (OWNER, AFTER, "🎉")]
    check(telegram.READER, tmp_path / "x", [(FRIEND, AT, "hi")], on, 4 + 6)
    assert [dropped(read(telegram.READER, tmp_path / "x", flag))["sticker"] for flag in (False, True)] == [2, 1]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland"])
def test_telegrams_reactions_keep_their_distance_in_any_zone(tmp_path: Path, zone: str) -> None:
    """Written in Berlin, read elsewhere; the second message stands in the hour that comes twice."""
    for time in (TIME, "2024-07-05T14:03:21", "2024-10-27T00:30:00", "2024-10-27T01:30:00"):
        sent = telegram_files.message(1, FRIEND, time, "hi", zone="Europe/Berlin")
        hour = sent["date"][:-2]
        given_ = {"from": OWNER, "from_id": f"user{telegram_files.NUMBERS[OWNER]}", "date": f"{hour}50"}
        sent["reactions"] = [{"type": "emoji", "count": 1, "emoji": "❤", "recent": [given_]}]
        (tmp_path / "x").write_bytes(as_json(telegram_files.chat([sent])))
        options = ReadOptions(timezone=ZoneInfo(zone), reactions=True)
        threads = list(telegram.READER.read(SourceFile(str(tmp_path / "x")), options, lambda line: None))
        at = ms(f"{time}Z")
        later = at + (50 - int(time[-2:])) * 1000
        assert messages(threads) == [(FRIEND, at, "hi"), (OWNER, later, "❤")], time


def test_a_reaction_does_not_decide_the_doubled_hour_of_telegrams_next_message(tmp_path: Path) -> None:
    """In 2019 there were wall clocks alone: the second is of the first 02:50, though the reaction before is later."""
    given_ = {"from": OWNER, "from_id": f"user{telegram_files.NUMBERS[OWNER]}", "date": "2019-10-27T02:55:00"}
    first = telegram_files.message(1, FRIEND, "2019-10-27T00:40:00", "hi", era="2019", zone="Europe/Berlin")
    first["reactions"] = [{"type": "emoji", "count": 1, "emoji": "❤", "recent": [given_]}]
    second = telegram_files.message(2, FRIEND, "2019-10-27T00:50:00", "there", era="2019", zone="Europe/Berlin")
    assert "date_unixtime" not in first
    assert second["date"] == "2019-10-27T02:50:00"
    (tmp_path / "x").write_bytes(as_json(telegram_files.chat([first, second])))
    options = ReadOptions(timezone=ZoneInfo("Europe/Berlin"), reactions=True)
    (thread,) = telegram.READER.read(SourceFile(str(tmp_path / "x")), options, lambda line: None)
    found = {text: time for _, time, text in messages([thread])}
    assert found == {
        "hi": ms("2019-10-27T00:40:00Z"),
        "❤": ms("2019-10-27T00:55:00Z"),
        "there": ms("2019-10-27T00:50:00Z"),
    }


def test_discord(tmp_path: Path) -> None:
    def given_(name: str, *users: dict[str, Any], number: str = "") -> dict[str, Any]:
        return {"emoji": {"id": number, "name": name, "code": "x"}, "count": len(users), "users": list(users)}

    who = discord_files.person
    listed = [given_("👍", who(OWNER), who("bot", isBot=True)), given_("party", who(OWNER), number="77"), given_("❤")]
    talk = [
        discord_files.message(1, FRIEND, TIME, "hi", reactions=listed),
        discord_files.message(2, FRIEND, TIME, "", reactions=listed),
    ]
    (tmp_path / "x").write_bytes(as_json(discord_files.export(talk)))
    check(discord.READERS[0], tmp_path / "x", [(FRIEND, AT, "hi")], [(FRIEND, AT, "hi"), (OWNER, AT, "👍")], 3 + 4)


def test_signal(tmp_path: Path) -> None:
    listed = [
        {"emoji": "❤️", "authorId": "1", "sentTimestamp": str(AFTER)},
        {"emoji": "😮", "authorId": "99"},
        {"emoji": "👍", "authorId": "3", "sentTimestamp": "soon"},
        5,
    ]
    frames = [
        *signal_files.FRAMES,
        signal_files.said("3", AT, "hi", reactions=listed),
        signal_files.item("1", AFTER, stickerMessage={"sticker": {"packId": "AA", "emoji": "🎉"}}),
        signal_files.item("1", AFTER, stickerMessage={"sticker": {"packId": "AA"}, "reactions": listed}),
    ]
    (tmp_path / "x").write_bytes(signal_files.lines(frames))
    on = [(FRIEND, AT, "hi"), (FRIEND, AT, "👍"), (OWNER, AFTER, "❤️"), (OWNER, AFTER, "🎉")]
    check(signal.READER, tmp_path / "x", [(FRIEND, AT, "hi")], on, 2 + 4)


@pytest.mark.parametrize("has_tables", [True, False])
def test_whatsapps_database(tmp_path: Path, has_tables: bool) -> None:
    path = whatsapp_files.android(tmp_path / "msgstore.db")
    off = messages(read(whatsapp_db.READER, path, False))
    if not has_tables:
        assert messages(read(whatsapp_db.READER, path, True)) == off
        return
    script = """
        CREATE TABLE message_add_on (_id INTEGER PRIMARY KEY, chat_row_id INTEGER, from_me INTEGER,
            sender_jid_row_id INTEGER, parent_message_row_id INTEGER, timestamp INTEGER, message_add_on_type INTEGER);
        CREATE TABLE message_add_on_reaction (message_add_on_row_id INTEGER, reaction TEXT, sender_timestamp INTEGER);
    """
    with closing(sqlite3.connect(path)) as base:
        base.executescript(script)
        (first, time), *_ = base.execute("SELECT _id, timestamp FROM message ORDER BY timestamp").fetchall()
        base.executemany(
            "INSERT INTO message_add_on VALUES (?, 1, ?, ?, ?, ?, 56)",
            [
                (1, 1, None, first, time - 5),
                (2, 0, 1, first, time + 1),
                (3, 0, 1, first, time + 2),
                (4, 0, 1, first, time + 3),
                (5, 0, 1, first, "soon"),
                (6, 0, 1, 900, time + 9),
                (7, 0, 1, 901, time + 9),
                (8, 0, 1, first, time + 4),
                (9, 0, 1, first, time + 5),
            ],
        )
        base.executemany(
            "INSERT INTO message_add_on_reaction VALUES (?, ?, ?)",
            [
                (1, "😂", time),
                (2, "❤️", time),
                (3, "", time),
                (4, "nice", time),
                (5, "👍", time),
                (6, "👍", time),
                (7, "🎉", time),
                (8, b"x", time),
                (9, None, time),
            ],
        )
        base.execute(
            "INSERT INTO message (_id, chat_row_id, from_me, timestamp, message_type) VALUES (900, 1, 1, ?, 1)",
            [time + 8],
        )
        base.commit()
    threads = read(whatsapp_db.READER, path, True)
    on, left_out = messages(threads), dropped(threads)
    without = read(whatsapp_db.READER, path, False)
    assert messages(without) == off
    # Taken back twice, words, no time, to a photo, bytes. The one to a message that is not there stays.
    assert left_out == dropped(without) | {"reaction": 6}
    friend = off[0][0]
    assert sorted(set(on) - set(off)) == sorted([("Me", time, "😂"), (friend, time + 1, "❤️"), (friend, time + 9, "🎉")])
    assert on[:2] == [off[0], ("Me", time, "😂")]
    assert len(on) == len(off) + 3


@pytest.mark.parametrize("era", ["2014", "2026"])
def test_imessage(tmp_path: Path, era: str) -> None:
    base = ChatDb(tmp_path / "chat.db", era)
    handle = base.insert("handle", id=NUMBER, service="iMessage")
    chat = base.chat(NUMBER, [handle])
    if base.is_new:
        base.base.execute("ALTER TABLE message ADD COLUMN associated_message_emoji TEXT")
    base.message(chat, f"{TIME}Z", "hi", handle_id=handle)
    base.message(chat, f"{TIME}Z", None, handle_id=handle, cache_has_attachments=1, guid="photo")

    def tapback(kind: int, guid: str, is_own: int, **more: Any) -> None:
        values = {"associated_message_type": kind, "associated_message_guid": guid, "is_from_me": is_own} | more
        base.message(chat, f"{LATER}Z", "Loved “hi”", handle_id=0 if is_own else handle, **values)

    tapback(2000, "p:0/a", 1)
    tapback(2003, "p:0/a", 0)
    tapback(2001, "p:0/b", 1)
    tapback(3001, "p:0/b", 0)  # somebody else's
    tapback(2004, "p:0/c", 1)
    tapback(3004, "p:0/c", 1)  # taken back
    tapback(2007, "p:0/a", 1)  # a picture
    tapback(2000, "p:0/photo", 1)
    tapback(2000, "bp:photo", 0)
    on = [(NUMBER, AT, "hi"), ("Me", AFTER, "❤️"), (NUMBER, AFTER, "😂"), ("Me", AFTER, "👍")]
    if base.is_new:
        tapback(2006, "p:0/d", 1, associated_message_emoji="🎉")
        on.append(("Me", AFTER, "🎉"))
    base.base.commit()
    base.base.close()
    check(imessage.READER, tmp_path / "chat.db", [(NUMBER, AT, "hi")], on, 6, 9 + base.is_new)


def test_matrix(tmp_path: Path) -> None:
    def given_(who: str, key: Any) -> dict[str, Any]:
        relation = {"rel_type": "m.annotation", "event_id": "$1", "key": key}
        return event(MATRIX[who], f"{LATER}Z", {"m.relates_to": relation}, "m.reaction")

    events = [said(MATRIX[FRIEND], f"{TIME}Z", "hi"), given_(OWNER, "👍️"), given_(FRIEND, "lol"), given_(OWNER, None)]
    photo = event(MATRIX[FRIEND], f"{TIME}Z", {"msgtype": "m.image", "body": "x.jpg"}, event_id="$photo")
    relation = {"rel_type": "m.annotation", "event_id": "$photo", "key": "👍"}
    events += [photo, event(MATRIX[OWNER], f"{LATER}Z", {"m.relates_to": relation}, "m.reaction")]
    (tmp_path / "x").write_text(json.dumps(matrix(*events)))
    hi = (MATRIX[FRIEND], AT, "hi")
    check(matrix_reader.READER, tmp_path / "x", [hi], [hi, (MATRIX[OWNER], AFTER, "👍️")], 3, 4)
