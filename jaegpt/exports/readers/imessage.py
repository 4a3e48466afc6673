"""iMessage: `chat.db` of a Mac, which an iPhone's backup holds too (as 3d/3d0d7e5fb2ce288813306e4d4636395e047a3d28).

One person's telephone number and e-mail address, iMessage and SMS, are handles and chats of their own there; what
belongs together is joined first, then each thread's messages are read.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaegpt.exports.reactions import REASON, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.addresses import AddressBook
from jaegpt.exports.readers.clocks import APPLE_EPOCH_MS
from jaegpt.exports.readers.collecting import BLOCK_MESSAGES, Pieces, malformed
from jaegpt.exports.readers.database import FETCH_ROWS, columns_of, opened, sniff_tables
from jaegpt.exports.readers.joined import Joined
from jaegpt.exports.readers.tapbacks import SIGNS, is_tapback, tapback_emoji
from jaegpt.exports.readers.typedstream import APP, ATTACHMENT, text_of
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS, kind_of

OWNER = "Me"  # the database knows no name of its owner
TABLES = ("message", "chat", "handle", "chat_message_join", "chat_handle_join")
_NANOSECONDS_FROM = 10**11  # larger times are in nanoseconds (since macOS 10.13, 2017), smaller ones in seconds
_GROUP_STYLE = 43
_UNFILED = "unfiled"  # the thread of messages that are in no chat

# Why a message is left out, by its columns; the first that holds counts. Those whose column a release lacks do not.
_REASONS = (
    ("is_spam", "is_spam <> 0", "spam"),
    ("associated_message_type", "associated_message_type BETWEEN 2000 AND 3999", "reaction"),
    ("associated_message_type", "associated_message_type = 4000", "poll"),
    ("associated_message_type", "associated_message_type = 1000", "sticker"),
    ("item_type", "item_type <> 0", "system"),
    ("is_system_message", "is_system_message <> 0", "system"),
    ("is_auto_reply", "is_auto_reply <> 0", "auto_reply"),
    ("date_retracted", "date_retracted <> 0", "unsent"),
    ("balloon_bundle_id", "balloon_bundle_id <> 'com.apple.messages.URLBalloonProvider'", "app"),
)
_PLACEHOLDERS = str.maketrans("", "", ATTACHMENT + APP)


def sniff(name: str, head: bytes) -> float:
    return sniff_tables(head, b"chat_message_join", b"attributedBody")


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The threads of a database in pieces: messages are stored in the order in which they came, whatever the thread.

    Raises:
        BadFileError: it is no such database, or damaged.
    """
    with opened(file, TABLES) as base:
        people, person_of = _people(base)
        conversations = _conversations(base, people, person_of)
        collector = _Collector(conversations, people, options.reactions)
        rows = base.execute(_query(base, options.reactions))
        num_waiting = 0
        while block := rows.fetchmany(FETCH_ROWS):
            collector.add(block)
            num_waiting += len(block)
            if num_waiting >= BLOCK_MESSAGES:
                yield from collector.pieces.take()
                num_waiting = 0
        yield from collector.pieces.take()


@dataclass
class _Conversation:
    """Chats that are one: a person's, over all handles and services, or a group's."""

    key: str
    is_group: bool
    title: str = ""
    people: tuple[str, ...] = ()

    @property
    def unknown_sender(self) -> str:
        """Who wrote what has no handle: the other person of a pair; in a group nobody knows."""
        return self.people[0] if not self.is_group and self.people else ""


def _people(base: sqlite3.Connection) -> tuple[dict[int, str], Callable[[str], str]]:
    """Handle -> its person, named by the first of all addresses known to be theirs; and the same for any address."""
    has = columns_of(base, "handle")
    centric = "person_centric_id" if "person_centric_id" in has else "NULL"
    country = "country" if "country" in has else "NULL"
    rows = base.execute(f"SELECT ROWID, id, {centric}, {country} FROM handle ORDER BY ROWID").fetchall()
    countries = Counter(str(country).upper() for *_, country in rows if country)
    book = AddressBook(min(countries, key=lambda name: (-countries[name], name), default=None))
    joined = Joined()
    addresses = {}
    for handle, address, person, _ in rows:
        addresses[handle] = book.normal(str(address or ""))
        if person:
            joined.join(("person", person), ("address", addresses[handle]))
    first: dict[Any, str] = {}
    for address in addresses.values():
        of = joined.find(("address", address))
        first[of] = min(first.get(of, address), address)

    def person_of(address: str) -> str:
        normal = book.normal(address)
        return first.get(joined.find(("address", normal)), normal)

    return {handle: person_of(address) for handle, address in addresses.items()}, person_of


def _conversations(
    base: sqlite3.Connection, people: Mapping[int, str], person_of: Callable[[str], str]
) -> dict[int, _Conversation]:
    """Chat -> its conversation; groups are one if they share an id, or their people and their name."""
    members: dict[int, set[str]] = {}
    for chat, handle in base.execute("SELECT chat_id, handle_id FROM chat_handle_join"):
        if handle in people:
            members.setdefault(chat, set()).add(people[handle])
    has = columns_of(base, "chat")
    names = ("style", "guid", "chat_identifier", "display_name", "group_id")
    chosen = ", ".join(name if name in has else "NULL" for name in names)
    rows = base.execute(f"SELECT ROWID, {chosen} FROM chat ORDER BY ROWID").fetchall()
    joined = Joined()
    found: list[tuple[Any, str, str, bool, set[str], int]] = []
    for chat, style, guid, identifier, display_name, group_id in rows:
        in_chat = members.get(chat, set())
        is_group = style == _GROUP_STYLE or len(in_chat) > 1 or (style is None and ";+;" in str(guid))
        identifier, title = str(identifier or guid or chat), str(display_name or "")
        if is_group:
            token: Any = ("chat", identifier)
            if group_id:
                joined.join(token, ("group", group_id))
            if len(in_chat) > 1:
                joined.join(token, ("people", frozenset(in_chat), title))
        else:
            person = next(iter(in_chat), None) or person_of(identifier)
            token, identifier, title, in_chat = ("person", person), person, person, {person}
        found.append((token, identifier, title, is_group, in_chat, chat))
    conversations: dict[Any, _Conversation] = {}
    of_chat = {}
    for token, identifier, title, is_group, in_chat, chat in found:
        one = conversations.setdefault(joined.find(token), _Conversation(identifier, is_group))
        one.key = min(one.key, identifier)
        one.title = one.title or title
        one.people = tuple(dict.fromkeys((*one.people, *sorted(in_chat))))
        of_chat[chat] = one
    return of_chat


def _query(base: sqlite3.Connection, reactions: bool = False) -> str:
    """The query for all messages, one row per message and chat.

    Rows: message, chat (None: in none), handle, time, whether it is the owner's, text, body where that has to be read,
    whether it was edited, whether it has attachments, why it is left out (None: it may be kept), and the emoji that a
    tapback shows, where `reactions` are wanted and it was not taken back; the message's own id, and that of the message
    that it is a tapback to, as p:0/ID for the first part of it, or bp:ID.
    """
    has = columns_of(base, "message")
    tapback = "NULL"
    # Their numbers begin at 2000; the seventh is any other emoji, of a column of its own. 1,000 more takes one back.
    if reactions and {"associated_message_type", "associated_message_guid", "handle_id", "is_from_me"} <= has:
        shows = [f"WHEN {2000 + place} THEN '{emoji}'" for place, emoji in enumerate(SIGNS.values())]
        if "associated_message_emoji" in has:
            shows.append("WHEN 2006 THEN associated_message_emoji")
        gone = """SELECT 1 FROM message r WHERE r.associated_message_guid = m.associated_message_guid
            AND r.associated_message_type = m.associated_message_type + 1000 AND r.ROWID > m.ROWID
            AND r.is_from_me IS m.is_from_me AND r.handle_id IS m.handle_id"""
        tapback = f"""CASE WHEN associated_message_type BETWEEN 2000 AND 2006 AND NOT EXISTS ({gone})
            THEN CASE associated_message_type {" ".join(shows)} END END"""
    cases = [f"WHEN {test} THEN '{reason}'" for column, test, reason in _REASONS if column in has]
    recoverable = "chat_recoverable_message_join"
    if "message_id" in columns_of(base, recoverable):
        cases.insert(0, f"WHEN m.ROWID IN (SELECT message_id FROM {recoverable}) THEN 'deleted'")
    reason = f"CASE {' '.join(cases)} END" if cases else "NULL"
    edited = "COALESCE(date_edited, 0) <> 0" if "date_edited" in has else "0"
    body = f"CASE WHEN text IS NULL OR text = '' OR {edited} THEN attributedBody END"
    values = (
        "m.ROWID",
        "j.chat_id",
        "handle_id" if "handle_id" in has else "0",
        "m.date" if "date" in has else "NULL",
        "is_from_me" if "is_from_me" in has else "0",
        "text" if "text" in has else "NULL",
        (body if "text" in has else "attributedBody") if "attributedbody" in has else "NULL",
        edited,
        "cache_has_attachments" if "cache_has_attachments" in has else "0",
        reason,
        tapback,
        "guid" if reactions and "guid" in has else "NULL",
        "associated_message_guid" if reactions and "associated_message_guid" in has else "NULL",
    )
    return (
        f"SELECT {', '.join(values)} FROM message m LEFT JOIN chat_message_join j ON j.message_id = m.ROWID "
        "ORDER BY m.ROWID"
    )


class _Collector:
    """Takes rows of the query, and sorts messages into the pieces of their threads."""

    def __init__(self, conversations: Mapping[int, _Conversation], people: Mapping[int, str], reactions: bool) -> None:
        self._conversations, self._people = conversations, people
        self._reactions = reactions  # whether these become messages
        self._by_key = {one.key: one for one in conversations.values()}
        self._last_message: object = None
        self._left_out: set[object] = set()  # ids of messages, where reactions are wanted
        self.pieces = Pieces(self._begin)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        pieces, conversations, people = self.pieces, self._conversations, self._people
        last_message, left_out = self._last_message, self._left_out
        for message, chat, handle, time, is_own, text, body, is_edited, has_media, reason, emoji, guid, target in rows:
            if message == last_message:
                continue  # joined to a second chat
            last_message = message
            conversation = conversations.get(chat)
            if conversation is None:  # deleted ones stay for 30 days, in no chat
                pieces[_UNFILED].dropped["deleted"] += 1
                left_out.add(guid)
                continue
            thread = pieces[conversation.key]
            if reason == REASON and is_emoji(emoji) and re.split("[/:]", str(target))[-1] not in left_out:
                text, body, reason = emoji, None, None
            if reason is None:
                try:
                    sent_at = _milliseconds(time)
                    text, reason = _text_or_reason(text, body, is_edited, has_media)
                    if self._reactions and reason == REASON and (shown := tapback_emoji(text)):
                        text, reason = shown, None
                except ValueError as error:
                    malformed(thread, f"message {message}", error)
                    left_out.add(guid)
                    continue
            if reason is None:
                sender = OWNER if is_own else people.get(handle)
                thread.add(conversation.unknown_sender if sender is None else sender, sent_at, text)
            else:
                thread.dropped[reason] += 1
                left_out.add(guid)
        self._last_message = last_message

    def _begin(self, key: str) -> SourceThread:
        conversation = self._by_key.get(key)
        if conversation is None:
            return SourceThread(key)
        return SourceThread(
            key,
            title=conversation.title,
            people=(*conversation.people, OWNER),
            is_group=conversation.is_group,
            owner=(OWNER,),
            owner_is_marked=True,
        )


def _text_or_reason(text: Any, body: Any, is_edited: int, has_media: int) -> tuple[str, str | None]:
    """A message's text, or why it is left out; ValueError where it cannot be understood."""
    if body is not None:
        if type(body) is not bytes:
            raise ValueError(f"`attributedBody` is {type(body).__name__} instead of bytes")
        text = text_of(body)
    elif text is not None and type(text) is not str:
        raise ValueError(f"`text` is {type(text).__name__} instead of a text")
    if text and (ATTACHMENT in text or APP in text):
        has_media = 1
        text = text.translate(_PLACEHOLDERS).strip()
    if text and not text.isspace():
        return text, "reaction" if is_tapback(text) else None
    return "", "unsent" if is_edited else "media" if has_media else "empty"


def _milliseconds(time: object) -> int:
    if type(time) is not int:
        raise ValueError(f"`date` is {kind_of(time)} instead of a whole number")
    found = APPLE_EPOCH_MS + (time // 1_000_000 if abs(time) > _NANOSECONDS_FROM else time * 1000)
    if time == 0 or not BEGIN_OF_TIME_MS <= found < END_OF_TIME_MS:
        raise ValueError(f"`date` {time} lies outside the years 1990 to 2099")
    return found


READER = Reader(
    source="imessage",
    name="iMessage (chat.db)",
    sniff=sniff,
    read=read,
    how="Quit Messages, then copy chat.db, chat.db-wal and chat.db-shm together from ~/Library/Messages (the terminal "
    "needs Full Disk Access); or give the unencrypted backup of an iPhone.",
)
