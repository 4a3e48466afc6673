"""WhatsApp's databases, not encrypted: msgstore.db of Android (before and since 2022), ChatStorage.sqlite of iOS."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import REASON, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.collecting import malformed
from jaegpt.exports.readers.database import HEADER, SURE, opened, sniff_tables
from jaegpt.exports.readers.whatsapp_schemas import (
    Chat,
    Chats,
    Row,
    Schema,
    android_chats,
    android_query,
    contacts_beside,
    ios_chats,
    ios_query,
    is_android,
    is_old_android,
    old_chats,
    old_query,
)
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS

OWNER = "Me"  # neither database has the owner's name
_CAPTIONED = ""  # a message of such a type has a caption, or is left out as media
# What a message is by its type; 0 is text. Types that are missing here are of WhatsApp itself or of later versions.
_ANDROID_TYPES = {
    **dict.fromkeys((1, 2, 3, 9, 13, 81, 99), _CAPTIONED), **dict.fromkeys((4, 14), "contact"),
    **dict.fromkeys((5, 16), "location"), **dict.fromkeys((8, 10, 90), "call"), 11: "waiting",
    **dict.fromkeys((15, 64), "deleted"), 20: "sticker", **dict.fromkeys((25, 26, 27, 45, 46), "bot"),
    **dict.fromkeys((42, 43, 82), "view_once"), 66: "poll",
}  # fmt: skip
_IOS_TYPES = {
    **dict.fromkeys((1, 2, 3, 8, 11), _CAPTIONED), 4: "contact", 5: "location", 10: "call", 14: "deleted",
    15: "sticker",
    **dict.fromkeys((38, 39), "view_once"), **dict.fromkeys((46, 66), "poll"),
}  # fmt: skip
_CHANNELS = ("@newsletter", "@broadcast", "@status", "@lid.status")
_MENTION = re.compile(r"@(\d{6,20})\b")


def sniff(name: str, head: bytes) -> float:
    """A SQLite database may be WhatsApp's; its own tables' names, where they are in its first bytes, make it likely."""
    is_named = re.search(r"(?i)(?:^|/)(?:msgstore[^/]*\.db|ChatStorage[^/]*\.sqlite)$", name) is not None
    if head.startswith(HEADER) and is_named:
        return SURE
    return max(sniff_tables(head, table) for table in (b"ZWAMESSAGE", b"message_system_group"))


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chats of a database, one after the other.

    Raises:
        BadFileError: it is not one of WhatsApp's, is encrypted, or is damaged.
    """
    if re.search(r"\.crypt\d*$", file.name):
        detail = "an encrypted backup; decrypt it to msgstore.db, or export chats as text"
        raise BadFileError(file.name, "encrypted", detail)
    with opened(file, ()) as base:
        schema = Schema(base)
        types, resolution_ms = _ANDROID_TYPES, 1
        if schema.has("ZWAMESSAGE", "ZTEXT", "ZISFROMME", "ZMESSAGEDATE", "ZCHATSESSION"):
            query, chats, types, resolution_ms = ios_query(schema), ios_chats(schema), _IOS_TYPES, 1000
        elif is_android(schema):
            query, chats = android_query(schema, options.reactions), android_chats(schema, contacts_beside(file, say))
        elif is_old_android(schema):
            query, chats = old_query(schema), old_chats(schema, contacts_beside(file, say))
        else:
            raise BadFileError(file.name, "not_this_format", "a database without WhatsApp's tables")
        for number, rows in itertools.groupby(schema.rows(query), key=itemgetter(0)):
            if number is None:
                yield _of_no_chat(rows)
                continue
            chat = chats.chats.get(number) or Chat(str(number), "")
            yield _thread(chat, rows, chats, types, resolution_ms)


def _of_no_chat(rows: Iterator[Row]) -> SourceThread:
    """Messages of which nobody knows whom they were written to."""
    thread = SourceThread("unknown")
    for _, number, *_, mark in rows:
        if mark == REASON:
            thread.dropped[REASON] += 1
        else:
            malformed(thread, f"message {number} of the database", "it is in no chat")
    return thread


def _thread(
    chat: Chat, rows: Iterator[Row], chats: Chats, types: Mapping[int, str], resolution_ms: int
) -> SourceThread:
    thread = SourceThread(
        chat.jid,
        chat.title,
        is_group=chat.jid.endswith("@g.us"),
        owner=(OWNER,),
        owner_is_marked=True,
        resolution_ms=resolution_ms,
        box="archived" if chat.is_archived else "inbox",
    )
    if chat.jid.endswith(_CHANNELS):
        thread.dropped["channel"] += sum(1 for _ in rows)
    else:
        _fill(thread, rows, chat, chats, types)
    return thread


def _fill(thread: SourceThread, rows: Iterator[Row], chat: Chat, chats: Chats, types: Mapping[int, str]) -> None:
    senders: dict[Any, str] = {}
    dropped, add = thread.dropped, thread.add
    left_out: set[Any] = set()  # messages
    for _, number, is_own, sender, time, kind, text, caption, mark in rows:
        if kind:
            reason = types.get(kind, "system") if type(kind) is int else "malformed"
            if reason == _CAPTIONED:
                text, reason = caption, "media"
            else:
                text = None
        else:
            reason = "empty"
        if (
            type(time) is not int
            or not BEGIN_OF_TIME_MS <= time < END_OF_TIME_MS
            or (text is not None and type(text) is not str)
        ):
            reason, text = "malformed", None
        if mark == REASON:
            reason, text = REASON, text if is_emoji(text) and number not in left_out else None
        elif text and mark:
            reason, text = "forwarded", None
        if not text or text.isspace():
            dropped[reason] += 1
            if mark != REASON:  # whose number is that of its message
                left_out.add(number)
            if reason == "malformed" and thread.fault is None:
                thread.fault = f"message {number} of the database: time {str(time)[:30]!r}, type {str(kind)[:30]!r}"
            continue
        name = OWNER if is_own else senders.get(sender) or senders.setdefault(sender, chats.name(sender, chat))
        add(name, time, _with_names(text, chats) if "@" in text else text)


def _with_names(text: str, chats: Chats) -> str:
    """Mentions hold numbers: "@4917155501 come" -> "@Anna come"."""
    return _MENTION.sub(lambda match: f"@{chats.names.get(match[1], match[1])}", text)


READER = Reader(
    source="whatsapp",
    name="WhatsApp, database (msgstore.db of Android, ChatStorage.sqlite of iPhones)",
    sniff=sniff,
    read=read,
    how="Android: msgstore.db (and wa.db) of a rooted phone, or a backup that was decrypted. iPhone: "
    "ChatStorage.sqlite of a backup without a password. Exporting chats as text is easier.",
)
