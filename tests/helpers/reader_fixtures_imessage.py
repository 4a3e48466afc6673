"""chat.db as macOS and iOS write it, in its eras, with bodies as typed streams."""

import plistlib
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from helpers.reader_checks import CONVERSATION, DELETED, OWNER, ms

EPOCH_MS = 978_307_200_000
NUMBER = "+4915112345678"
_OLD_COLUMNS = "guid TEXT UNIQUE NOT NULL, text TEXT, attributedBody BLOB, handle_id INTEGER DEFAULT 0, service TEXT, "
_OLD_COLUMNS += "date INTEGER, is_from_me INTEGER DEFAULT 0, item_type INTEGER DEFAULT 0, group_title TEXT, "
_OLD_COLUMNS += "associated_message_guid TEXT, associated_message_type INTEGER DEFAULT 0, balloon_bundle_id TEXT, "
_OLD_COLUMNS += "cache_has_attachments INTEGER DEFAULT 0"
_NEW_COLUMNS = "is_spam INTEGER DEFAULT 0, is_system_message INTEGER DEFAULT 0, is_auto_reply INTEGER DEFAULT 0, "
_NEW_COLUMNS += "date_edited INTEGER, date_retracted INTEGER, thread_originator_guid TEXT, message_summary_info BLOB"
ERAS = {
    "2014": (_OLD_COLUMNS, 1000),
    "2026": (f"{_NEW_COLUMNS}, {_OLD_COLUMNS}", 1),  # other columns, in another order; nanoseconds
}


def length_of(text: bytes) -> bytes:
    if len(text) < 0x80:
        return bytes([len(text)])
    return b"\x81" + len(text).to_bytes(2, "little") if len(text) < 2**16 else b"\x82" + len(text).to_bytes(4, "little")


def typed_stream(text: str, mutable: bool = False) -> bytes:
    raw = text.encode()
    name = b"\x0fNSMutableString\x01\x84\x84\x08NSString\x01" if mutable else b"\x08NSString\x01"
    start = (
        b"\x04\x0bstreamtyped\x81\xe8\x03\x84\x01@\x84\x84\x84\x12NSAttributedString\x00\x84\x84\x08NSObject\x00\x85"
    )
    return start + b"\x92\x84\x84\x84" + name + b"\x94\x84\x01+" + length_of(raw) + raw + b"\x86\x84\x02iI\x01\x0b\x92"


def archive(text: str) -> bytes:
    objects = ["$null", {"NSString": plistlib.UID(2)}, text]
    tree = {"$archiver": "NSKeyedArchiver", "$top": {"root": plistlib.UID(1)}, "$objects": objects, "$version": 100_000}
    return plistlib.dumps(tree, fmt=plistlib.FMT_BINARY)


class ChatDb:
    """A database that is being written; `era` is one of ERAS."""

    def __init__(self, path: Path, era: str = "2026", wal: bool = False) -> None:
        columns, self._unit_ms = ERAS[era]
        self.path, self.is_new = path, era == "2026"
        self.base = sqlite3.connect(path)
        if wal:
            self.base.execute("PRAGMA journal_mode = WAL")
            self.base.execute("PRAGMA wal_autocheckpoint = 0")
        centric = ", person_centric_id TEXT, country TEXT" if self.is_new else ""
        group = ", group_id TEXT" if self.is_new else ""
        self.base.executescript(f"""
            CREATE TABLE message (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, {columns});
            CREATE TABLE handle (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, service TEXT{centric});
            CREATE TABLE chat (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, guid TEXT UNIQUE, style INTEGER,
                chat_identifier TEXT, service_name TEXT, display_name TEXT{group});
            CREATE TABLE chat_message_join (chat_id INTEGER, message_id INTEGER, PRIMARY KEY (chat_id, message_id));
            CREATE TABLE chat_handle_join (chat_id INTEGER, handle_id INTEGER, UNIQUE (chat_id, handle_id));
            CREATE INDEX chat_message_join_idx_message_id_only ON chat_message_join (message_id);
            CREATE TABLE chat_recoverable_message_join (chat_id INTEGER, message_id INTEGER, delete_date INTEGER);
        """)

    def insert(self, table: str, **values: Any) -> int:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        row = self.base.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())).lastrowid
        assert row is not None
        return row

    def chat(self, identifier: str, handles: Sequence[int], style: int = 45, **values: Any) -> int:
        sign = "-" if style == 45 else "+"
        guid = values.pop("guid", f"iMessage;{sign};{identifier}")
        chat = self.insert("chat", guid=guid, style=style, chat_identifier=identifier, **values)
        for handle in handles:
            self.insert("chat_handle_join", chat_id=chat, handle_id=handle)
        return chat

    def message(self, chat: int | None, time: str, text: str | None, **values: Any) -> int:
        ticks = (ms(time) - EPOCH_MS) * (1_000_000 if self._unit_ms == 1 else 1) // self._unit_ms
        number = self.base.execute("SELECT COUNT(*) FROM message").fetchone()[0]
        row = self.insert("message", **{"guid": f"guid-{number}", "date": ticks, "text": text} | values)
        if chat is not None:
            self.insert("chat_message_join", chat_id=chat, message_id=row)
        return row

    def talk(self, chat: int, handle: int, as_body: bool) -> None:
        """The conversation of all readers; its texts in `attributedBody` if wanted."""
        for who, time, text in CONVERSATION:
            values: dict[str, Any] = {"is_from_me": int(who == OWNER), "handle_id": 0 if who == OWNER else handle}
            if text == DELETED:
                if not self.is_new:
                    continue  # nothing could be unsent before 2022
                values |= {"date_edited": 5}
                text = ""
            elif text in ("", "look: the cake"):
                values["cache_has_attachments"] = 1
                text = f"\ufffc{text}"
            body = typed_stream(text) if as_body else None
            self.message(chat, time, None if as_body else text, attributedBody=body, **values)

    def close(self) -> Path:
        self.base.commit()
        self.base.close()
        return self.path


def conversation(path: Path, era: str) -> Path:
    base = ChatDb(path, era)
    handle = base.insert("handle", id=NUMBER)
    base.talk(base.chat(NUMBER, [handle]), handle, as_body=era == "2026")
    return base.close()


def copy_while_open(base: ChatDb, folder: Path) -> Path:
    """A copy of the database and its log as they are while Messages runs."""
    base.base.commit()
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{base.path}{suffix}", folder / f"chat.db{suffix}")
    return folder / "chat.db"


def write_large(path: Path, num_bytes: int) -> None:
    """A database of about that size: 300 chats that take turns, nine of ten texts in bodies of some 350 bytes."""
    texts = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake, if it fits")
    path.unlink(missing_ok=True)
    base = ChatDb(path)
    chats = []
    for number in range(300):
        handle = base.insert("handle", id=f"+49151{number:08}")
        chats.append((base.chat(f"+49151{number:08}", [handle]), handle))
    bodies = [typed_stream(text) + bytes(250) for text in texts]
    with closing(base.base) as connection:
        number = 0
        while connection.execute("PRAGMA page_count").fetchone()[0] * 4096 < num_bytes:
            rows, joins = [], []
            for _ in range(20_000):
                number += 1
                chat, handle = chats[number * 7 % 300]
                has_body, is_own = number % 10 > 0, number % 3 > 0
                rows.append(
                    (
                        number, f"{number:036}", None if has_body else texts[number % 4],
                        bodies[number % 4] if has_body else None, 0 if is_own else handle, "iMessage",
                        (600_000_000 + number * 3) * 10**9, int(is_own),
                    )
                )  # fmt: skip
                joins.append((chat, number))
            columns = "ROWID, guid, text, attributedBody, handle_id, service, date, is_from_me"
            connection.executemany(f"INSERT INTO message ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO chat_message_join VALUES (?, ?)", joins)
            connection.commit()
