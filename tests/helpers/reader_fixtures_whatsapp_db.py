"""WhatsApp's databases as phones have them: Android before and since 2022, iPhone."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.reader_fixtures_text import CONVERSATION, FRIEND, OWNER, moments

JID, GROUP = "4915550100@s.whatsapp.net", "120363000000000001@g.us"
APPLE_EPOCH = 978_307_200

_ANDROID = """
    CREATE TABLE jid (_id INTEGER PRIMARY KEY, user TEXT, server TEXT, raw_string TEXT);
    CREATE TABLE jid_map (lid_row_id INTEGER PRIMARY KEY, jid_row_id INTEGER);
    CREATE TABLE chat (_id INTEGER PRIMARY KEY, jid_row_id INTEGER, subject TEXT, archived INTEGER, hidden INTEGER);
    CREATE TABLE message (_id INTEGER PRIMARY KEY, chat_row_id INTEGER, from_me INTEGER, key_id TEXT,
        sender_jid_row_id INTEGER, status INTEGER, timestamp INTEGER, message_type INTEGER, text_data TEXT);
    CREATE TABLE message_forwarded (message_row_id INTEGER PRIMARY KEY, forward_score INTEGER);
    CREATE TABLE message_media (message_row_id INTEGER PRIMARY KEY, file_path TEXT, media_caption TEXT);
    CREATE TABLE message_system_group (message_row_id INTEGER PRIMARY KEY, is_me_joined INTEGER);
"""
_OLD = """
    CREATE TABLE messages (_id INTEGER PRIMARY KEY, key_remote_jid TEXT, key_from_me INTEGER, key_id TEXT,
        status INTEGER, data TEXT, timestamp INTEGER, media_wa_type TEXT, media_caption TEXT, remote_resource TEXT,
        forwarded INTEGER, edit_version INTEGER);
    CREATE TABLE chat_list (_id INTEGER PRIMARY KEY, key_remote_jid TEXT, subject TEXT);
    INSERT INTO messages (key_remote_jid, key_from_me, timestamp) VALUES ('-1', 0, 0);
"""
_IOS = """
    CREATE TABLE ZWACHATSESSION (Z_PK INTEGER PRIMARY KEY, ZCONTACTJID TEXT, ZPARTNERNAME TEXT, ZSESSIONTYPE INTEGER,
        ZARCHIVED INTEGER);
    CREATE TABLE ZWAMEDIAITEM (Z_PK INTEGER PRIMARY KEY, ZTITLE TEXT, ZMEDIALOCALPATH TEXT);
    CREATE TABLE ZWAGROUPMEMBER (Z_PK INTEGER PRIMARY KEY, ZMEMBERJID TEXT, ZCONTACTNAME TEXT, ZFIRSTNAME TEXT);
    CREATE TABLE ZWAPROFILEPUSHNAME (Z_PK INTEGER PRIMARY KEY, ZJID TEXT, ZPUSHNAME TEXT);
    CREATE TABLE ZWAMESSAGE (Z_PK INTEGER PRIMARY KEY, ZCHATSESSION INTEGER, ZISFROMME INTEGER, ZMESSAGEDATE TIMESTAMP,
        ZMESSAGETYPE INTEGER, ZTEXT TEXT, ZGROUPMEMBER INTEGER, ZFROMJID TEXT, ZMEDIAITEM INTEGER);
"""
Rows = Sequence[tuple[Any, ...]]


def make(path: Path, script: str, tables: dict[str, Rows]) -> Path:
    """A database with these rows; each row is as long as its table is wide."""
    path.unlink(missing_ok=True)
    base = sqlite3.connect(path)
    base.executescript(script)
    for table, rows in tables.items():
        for row in rows:
            base.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    base.commit()
    base.close()
    return path


def android(path: Path, more: Rows = (), **tables: Rows) -> Path:
    """The conversation in an Android's database; `more` are further rows of `message`."""
    rows = []
    for number, (moment, (_, sender, kind, text)) in enumerate(zip(moments(), CONVERSATION, strict=True), start=1):
        code = {"text": 0, "photo": 1, "deleted": 15}[kind]
        is_own = sender == OWNER
        ms = round(moment.timestamp() * 1000)
        rows.append((number, 1, int(is_own), f"K{number}", None if is_own else 1, 0, ms, code, text or None))
    people = ((1, "4915550100", "s.whatsapp.net", JID), (2, "120363000000000001", "g.us", GROUP))
    content = {
        "jid": people,
        "chat": ((1, 1, None, 0, 0), (2, 2, "Ski 2025", 1, 0)),
        "message": [*rows, *more],
        **tables,
    }
    return make(path, _ANDROID, content)


def contacts(path: Path) -> Path:
    """wa.db, which has the names."""
    script = "CREATE TABLE wa_contacts (_id INTEGER PRIMARY KEY, jid TEXT, display_name TEXT, wa_name TEXT);"
    return make(path, script, {"wa_contacts": ((1, JID, FRIEND, "anna b"), (2, "49199@s.whatsapp.net", None, "Cleo"))})


def old_android(path: Path, more: Rows = ()) -> Path:
    rows = []
    for number, (moment, (_, sender, kind, text)) in enumerate(zip(moments(), CONVERSATION, strict=True), start=2):
        code = {"text": "0", "photo": "1", "deleted": "15"}[kind]
        ms = round(moment.timestamp() * 1000)
        data, caption = (None, text or None) if kind == "photo" else (text or None, None)
        rows.append((number, JID, int(sender == OWNER), f"K{number}", 0, data, ms, code, caption, None, 0, 0))
    subjects = ((1, JID, None), (2, GROUP, "Ski 2025"))
    return make(path, _OLD, {"messages": [*rows, *more], "chat_list": subjects})


def ios(path: Path, more: Rows = (), **tables: Rows) -> Path:
    rows, media = [], []
    for number, (moment, (_, sender, kind, text)) in enumerate(zip(moments(), CONVERSATION, strict=True), start=1):
        code = {"text": 0, "photo": 1, "deleted": 14}[kind]
        seconds = moment.timestamp() - APPLE_EPOCH
        if kind == "photo":
            media.append((number, text or None, "Media/x.jpg"))
        own_text = text if kind == "text" else None
        jid = None if sender == OWNER else JID
        rows.append(
            (number, 1, int(sender == OWNER), seconds, code, own_text, None, jid, number if kind == "photo" else None)
        )
    content = {
        "ZWACHATSESSION": ((1, JID, FRIEND, 0, 0), (2, GROUP, "Ski 2025", 1, 1)), "ZWAMEDIAITEM": media,
        "ZWAMESSAGE": [*rows, *more], **tables,
    }  # fmt: skip
    return make(path, _IOS, content)


def write_large(path: Path, num_bytes: int) -> None:
    """An Android's database of about that size, with 500 chats."""
    texts = (
        "see you at nine then",
        "no idea, ask her",
        "on my way\nwith the cake 🎉",
        "haha, that is what I thought too",
    )
    count = num_bytes // 75
    rows = (
        (
            number,
            number * 7 % 500 + 1,
            number % 2,
            None,
            None,
            0,
            1_500_000_000_000 + number * 1000,
            0,
            texts[number % 4],
        )
        for number in range(1, count)
    )
    path.unlink(missing_ok=True)
    base = sqlite3.connect(path)
    base.executescript(_ANDROID)
    base.executemany(
        "INSERT INTO jid VALUES (?, ?, ?, ?)",
        ((n, f"49{n}", "s.whatsapp.net", f"49{n}@s.whatsapp.net") for n in range(1, 501)),
    )
    base.executemany("INSERT INTO chat VALUES (?, ?, NULL, 0, 0)", ((n, n) for n in range(1, 501)))
    base.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()
