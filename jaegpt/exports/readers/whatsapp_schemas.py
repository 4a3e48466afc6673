"""The schemas of WhatsApp's databases: for each a query that gives its messages in the same columns, and its chats.

The columns, ordered by chat and time: chat, number of the message, whether it is the owner's, sender, time in ms, type,
text, caption, whether it was forwarded. Columns that not every version has are NULL where they are missing.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import REASON
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.readers.clocks import APPLE_EPOCH_MS
from jaegpt.exports.readers.database import columns_of, opened
from jaegpt.exports.readers.names import plain_name

Row = tuple[Any, ...]


class Schema:
    """What tables and columns a database has, and its rows."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        self._tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self._columns: dict[str, frozenset[str]] = {}

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table with these columns."""
        if table not in self._columns:
            self._columns[table] = columns_of(self._base, table) if table in self._tables else frozenset()
        return table in self._tables and {column.lower() for column in columns} <= self._columns[table]

    def column(self, table: str, name: str, alias: str) -> str:
        """`alias.name`, or NULL where the table lacks it."""
        return f"{alias}.{name}" if self.has(table, name) else "NULL"

    def rows(self, query: str) -> Iterator[Row]:
        return self._base.execute(query)


@dataclass
class Chat:
    """`jid` is WhatsApp's own name of a person or a group, such as 4917155501@s.whatsapp.net."""

    jid: str
    title: str
    is_archived: bool = False


@dataclass
class Chats:
    """The chats by the number that messages have, and names for people by what messages call their senders."""

    chats: dict[Any, Chat] = field(default_factory=dict)
    names: dict[Any, str] = field(default_factory=dict)

    def name(self, sender: Any, chat: Chat) -> str:
        return self.names.get(sender) or (chat.title if not chat.jid.endswith("@g.us") else of_jid(str(sender or "?")))


def of_jid(jid: str) -> str:
    """A number for people: 4917155501@s.whatsapp.net -> +4917155501."""
    user, _, server = jid.partition("@")
    return f"+{user}" if server == "s.whatsapp.net" and user.isdigit() else user or "?"


def contacts_beside(file: SourceFile, say: Callable[[str], None]) -> dict[str, str]:
    """Names by jid from wa.db, which lies beside msgstore.db on the phone."""
    beside = file.beside("wa.db")
    if not beside.exists():
        say("its chats have telephone numbers for names; put wa.db beside it to have names")
        return {}
    try:
        with opened(beside, ("wa_contacts",)) as base:
            schema = Schema(base)
            if not schema.has("wa_contacts", "jid"):
                return {}
            names = [schema.column("wa_contacts", name, "c") for name in ("display_name", "wa_name")]
            rows = schema.rows(f"SELECT c.jid, {', '.join(names)} FROM wa_contacts c")
            found = {str(jid): plain_name(str(name or other)) for jid, name, other in rows if name or other}
            return {jid: name for jid, name in found.items() if name}
    except BadFileError as problem:
        say(f"wa.db beside it was not used: {problem.detail}")
        return {}


def is_android(schema: Schema) -> bool:
    """Whether it is an Android's since 2022. Before the move to its tables was done, they were there but empty."""
    columns = ("chat_row_id", "from_me", "timestamp", "text_data")
    if not (schema.has("message", *columns) and schema.has("jid", "raw_string")):
        return False
    first = schema.rows("SELECT 1 FROM message WHERE chat_row_id <> -1 LIMIT 1")
    return not is_old_android(schema) or any(True for _ in first)


def is_old_android(schema: Schema) -> bool:
    """Whether it has the one table of the years before."""
    return schema.has("messages", "key_remote_jid", "key_from_me", "timestamp", "data")


def android_query(schema: Schema, reactions: bool = False) -> str:
    query, order = _android_messages(schema), "m.chat_row_id, m.timestamp, m._id"
    columns = ("chat_row_id", "from_me", "sender_jid_row_id", "parent_message_row_id", "timestamp")
    of_reaction = ("message_add_on_row_id", "reaction")
    if reactions and schema.has("message_add_on", *columns) and schema.has("message_add_on_reaction", *of_reaction):
        # Where messages tell whether they were forwarded, reactions tell that they are some. Clocks differ: one may
        # seem to be older than its message. One that was taken back is an empty text.
        query = f"""SELECT * FROM ({query} UNION ALL
            SELECT o.chat_row_id, o.parent_message_row_id, o.from_me, o.sender_jid_row_id,
                MAX(o.timestamp, COALESCE(p.timestamp, o.timestamp)), 0, r.reaction, NULL, '{REASON}'
            FROM message_add_on o JOIN message_add_on_reaction r ON r.message_add_on_row_id = o._id
                LEFT JOIN message p ON p._id = o.parent_message_row_id
            WHERE o.chat_row_id IS NOT -1)"""
        order = "1, 5, 2, 9"
    return f"{query} ORDER BY {order}"


def _android_messages(schema: Schema) -> str:
    forwarded = schema.has("message_forwarded", "message_row_id")
    media = schema.has("message_media", "message_row_id", "media_caption")
    return f"""
        SELECT m.chat_row_id, m._id, m.from_me, {schema.column("message", "sender_jid_row_id", "m")}, m.timestamp,
            {schema.column("message", "message_type", "m")}, m.text_data,
            COALESCE(NULLIF(m.text_data, ''), {"a.media_caption" if media else "NULL"}),
            {"f.message_row_id IS NOT NULL" if forwarded else "0"}
        FROM message m
            {"LEFT JOIN message_forwarded f ON f.message_row_id = m._id" if forwarded else ""}
            {"LEFT JOIN message_media a ON a.message_row_id = m._id" if media else ""}
        WHERE m.chat_row_id IS NOT -1"""


def android_chats(schema: Schema, contacts: Mapping[str, str]) -> Chats:
    found = Chats()
    jids = {number: str(jid) for number, jid in schema.rows("SELECT _id, raw_string FROM jid")}
    if schema.has("jid_map", "lid_row_id", "jid_row_id"):  # the number behind an anonymous id
        for lid, number in schema.rows("SELECT lid_row_id, jid_row_id FROM jid_map"):
            jids[lid] = jids.get(number, jids.get(lid, "?"))
    found.names = {number: contacts.get(jid) or of_jid(jid) for number, jid in jids.items()}
    found.names |= {jid.partition("@")[0]: name for jid, name in contacts.items()}
    columns = ", ".join(schema.column("chat", name, "c") for name in ("subject", "archived"))
    for number, jid_number, subject, archived in schema.rows(f"SELECT c._id, c.jid_row_id, {columns} FROM chat c"):
        jid = jids.get(jid_number, str(number))
        title = plain_name(str(subject or "")) or contacts.get(jid) or of_jid(jid)
        found.chats[number] = Chat(jid, title, bool(archived))
    return found


def old_query(schema: Schema) -> str:
    forwarded = schema.column("messages", "forwarded", "m")
    status, edits = (schema.column("messages", name, "m") for name in ("status", "edit_version"))
    return f"""
        SELECT m.key_remote_jid, m._id, m.key_from_me, {schema.column("messages", "remote_resource", "m")},
            m.timestamp,
            CASE WHEN {status} = 6 THEN 7 WHEN {edits} = 7 THEN 15
                ELSE CAST({schema.column("messages", "media_wa_type", "m")} AS INTEGER) END,
            m.data, {schema.column("messages", "media_caption", "m")}, COALESCE({forwarded}, 0) > 0
        FROM messages m
        WHERE m.key_remote_jid IS NOT '-1'
        ORDER BY m.key_remote_jid, m.timestamp, m._id"""


def old_chats(schema: Schema, contacts: Mapping[str, str]) -> Chats:
    found = Chats(names=dict(contacts))
    found.names |= {jid.partition("@")[0]: name for jid, name in contacts.items()}
    subjects: dict[str, str] = {}
    if schema.has("chat_list", "key_remote_jid", "subject"):
        rows = schema.rows("SELECT key_remote_jid, subject FROM chat_list WHERE subject IS NOT NULL")
        subjects = {str(jid): plain_name(str(subject)) for jid, subject in rows}
    for (jid,) in schema.rows("SELECT DISTINCT key_remote_jid FROM messages"):
        found.chats[jid] = Chat(str(jid), subjects.get(str(jid)) or contacts.get(str(jid)) or of_jid(str(jid)))
    return found


def ios_query(schema: Schema) -> str:
    media = schema.has("ZWAMEDIAITEM", "Z_PK", "ZTITLE") and schema.has("ZWAMESSAGE", "ZMEDIAITEM")
    kind, member, jid = (
        schema.column("ZWAMESSAGE", name, "m") for name in ("ZMESSAGETYPE", "ZGROUPMEMBER", "ZFROMJID")
    )
    # The title of a document (8) is its name, which nobody typed. A text with a link (7) is a text.
    return f"""
        SELECT m.ZCHATSESSION, m.Z_PK, m.ZISFROMME, COALESCE({member}, {jid}),
            CASE WHEN typeof(m.ZMESSAGEDATE) IN ('integer', 'real') AND m.ZMESSAGEDATE > 0
                THEN CAST(ROUND(m.ZMESSAGEDATE) AS INTEGER) * 1000 + {APPLE_EPOCH_MS} END,
            CASE WHEN {kind} = 7 THEN 0 ELSE {kind} END,
            m.ZTEXT, CASE WHEN {kind} = 8 THEN NULL ELSE COALESCE({"a.ZTITLE" if media else "NULL"}, m.ZTEXT) END, 0
        FROM ZWAMESSAGE m {"LEFT JOIN ZWAMEDIAITEM a ON a.Z_PK = m.ZMEDIAITEM" if media else ""}
        ORDER BY m.ZCHATSESSION, m.ZMESSAGEDATE, m.Z_PK"""


def ios_chats(schema: Schema) -> Chats:
    found = Chats()
    if schema.has("ZWAPROFILEPUSHNAME", "ZJID", "ZPUSHNAME"):
        rows = schema.rows("SELECT ZJID, ZPUSHNAME FROM ZWAPROFILEPUSHNAME")
        found.names = {jid: plain_name(str(name)) for jid, name in rows if jid and name}
    if schema.has("ZWACHATSESSION", "Z_PK", "ZCONTACTJID"):
        columns = ", ".join(schema.column("ZWACHATSESSION", name, "c") for name in ("ZPARTNERNAME", "ZARCHIVED"))
        for number, jid, name, archived in schema.rows(
            f"SELECT c.Z_PK, c.ZCONTACTJID, {columns} FROM ZWACHATSESSION c"
        ):
            title = plain_name(str(name or "")) or found.names.get(jid) or of_jid(str(jid))
            found.chats[number] = Chat(str(jid), title, bool(archived))
            if title and not str(jid).endswith("@g.us"):
                found.names[jid] = found.names[str(jid).partition("@")[0]] = title
    if schema.has("ZWAGROUPMEMBER", "Z_PK", "ZMEMBERJID"):
        columns = ", ".join(schema.column("ZWAGROUPMEMBER", name, "g") for name in ("ZCONTACTNAME", "ZFIRSTNAME"))
        for number, jid, name, first in schema.rows(f"SELECT g.Z_PK, g.ZMEMBERJID, {columns} FROM ZWAGROUPMEMBER g"):
            known = plain_name(str(name or first or ""))
            found.names[number] = known or found.names.get(jid) or of_jid(str(jid))
    return found
