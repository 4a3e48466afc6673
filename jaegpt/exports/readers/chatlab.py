"""ChatLab's interchange format, JSON and JSON lines, which converters for WeChat, QQ and many others write."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, malformed
from jaegpt.exports.readers.json_heads import batches_with_head
from jaegpt.exports.readers.json_lines import json_lines
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.rows import kind_of

# Types of messages; those that are not here are a text (0) and a reply (25), and what no version knows.
_KEPT = (0, 25)
_TYPES = {
    1: "media", 2: "media", 3: "media", 4: "media", 5: "sticker", 7: "media", 8: "location", 20: "service",
    21: "service", 22: "reaction", 23: "call", 24: "media", 26: "forwarded", 27: "contact", 80: "system", 81: "unsent",
}  # fmt: skip
_MILLISECONDS_FROM = 10**11  # the format has seconds; some converters write milliseconds
_HEADER = re.compile(rb'"_type"\s*:\s*"header"')


def sniff_json(name: str, head: bytes) -> float:
    start = head.lstrip()
    if not start.startswith(b"{") or _HEADER.search(start.partition(b"\n")[0]):
        return 0.0
    return 0.95 if re.search(rb'"chatlab"\s*:\s*\{[^{}]*"version"', start) else 0.0


def sniff_lines(name: str, head: bytes) -> float:
    first = next((line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")), b"")
    return 0.95 if first.startswith(b"{") and _HEADER.search(first) and b'"chatlab"' in first else 0.0


def read_json(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a file, in pieces.

    Raises:
        BadFileError: it is no JSON, or is cut off.
    """
    chat, number = _Chat(), 0
    with open_json(file) as json:
        for batch in batches_with_head(json, "messages", lambda key: chat.learn(key, json), chat.knows_all):
            for message in batch:
                chat.add(message, "messages[{:,}]", number)
                number += 1
            if chat.thread.num_read >= PIECE_MESSAGES:
                yield chat.piece()
    yield chat.piece()


def read_lines(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The same for JSON lines.

    Raises:
        BadFileError: a line is no JSON.
    """
    chat = _Chat()
    for number, row in json_lines(file, comment=b"#"):
        kind = row.get("_type") if isinstance(row, dict) else None
        if kind == "header":
            chat.learn_meta(row.get("meta"))
        elif kind == "member":
            chat.learn_members([row])
        else:
            chat.add(row, "line {:,}", number)
        if number % PIECE_MESSAGES == 0:
            yield chat.piece()
    yield chat.piece()


class _Chat:
    """The chat that is being read; `thread` is the piece of it that is being collected."""

    def __init__(self) -> None:
        self._meta: dict[str, Any] | None = None
        self._names, self._has_members = Names(), False
        self.thread = SourceThread("")

    def learn(self, key: str, json: JsonStream) -> None:
        if key == "meta":
            self.learn_meta(json.value())
        elif key == "members":
            for batch in json.batches():  # members may have pictures
                self.learn_members(batch)

    def learn_meta(self, meta: Any) -> None:
        self._meta = meta if isinstance(meta, dict) else {}

    def learn_members(self, members: list[Any]) -> None:
        self._has_members = True
        for member in members:
            if isinstance(member, dict):
                account = _account(member.get("platformId"))
                if account:
                    self._names.of(account, _name(member) or account)

    def knows_all(self) -> bool:
        return self._meta is not None and self._has_members

    def add(self, message: Any, place: str, number: int) -> None:
        """Take a message; `place` with its number says where it stands."""
        thread = self.thread
        try:
            if not isinstance(message, dict):
                raise ValueError(f"{kind_of(message)} instead of an object")
            kind, text = message.get("type"), message.get("content")
            if type(kind) is not int:
                raise ValueError(f"`type` is {kind_of(kind)} instead of a whole number")
            if kind not in _KEPT:
                thread.dropped[_TYPES.get(kind, "system")] += 1
                return
            if text is None or (isinstance(text, str) and (not text or text.isspace())):
                thread.dropped["empty"] += 1
                return
            account, time = _account(message.get("sender")), message.get("timestamp")
            if type(text) is not str:
                raise ValueError(f"`content` is {kind_of(text)} instead of a text")
            if not account:
                raise ValueError(f"`sender` is {kind_of(message.get('sender'))} instead of an account")
            if type(time) is not int:
                raise ValueError(f"`timestamp` is {kind_of(time)} instead of a whole number")
            sender = self._names.get(account) or self._names.of(account, _name(message) or account)
            sent_at = checked_time(time if time >= _MILLISECONDS_FROM else time * 1000, "timestamp")
            thread.add(sender, sent_at, text)
        except ValueError as error:
            malformed(thread, place.format(number), error)

    def piece(self) -> SourceThread:
        """What was collected since the last one."""
        thread, self.thread = self.thread, SourceThread("")
        meta = self._meta or {}
        owner = _account(meta.get("ownerId"))
        accounts = list(self._names.identities())
        thread.title = meta["name"] if isinstance(meta.get("name"), str) else ""
        is_group = {"group": True, "private": False}
        thread.is_group = is_group.get(meta["type"]) if isinstance(meta.get("type"), str) else None
        others = [account for account in accounts if account != owner]
        # A talk of two is known by the other one, who is certain where the owner is.
        of_pair = others[0] if owner and thread.is_group is False and len(others) == 1 else ""
        known_by = _account(meta.get("groupId")) or of_pair or thread.title
        platform = meta["platform"] if isinstance(meta.get("platform"), str) else ""
        thread.key = f"{platform} {known_by}".strip()
        thread.people = tuple(self._names.of(account, account) for account in accounts)
        if owner:
            thread.owner, thread.owner_is_marked = (self._names.of(owner, owner),), True
        if all(time % 1000 == 0 for time in thread.sent_at):
            thread.resolution_ms = 1000
        return thread


def _account(value: Any) -> str:
    """An account's id; converters write some as numbers."""
    return str(value) if type(value) in (str, int) else ""


def _name(person: dict[str, Any]) -> str:
    """What a person is called; names in a group change more often than accounts' names."""
    for key in ("accountName", "groupNickname"):
        value = person.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return ""


_HOW = "Export with a converter that writes ChatLab's format: WeFlow or echotrace (WeChat), qq-chat-exporter (QQ)."
READERS = (
    Reader(source="chatlab", name="ChatLab (JSON)", sniff=sniff_json, read=read_json, how=_HOW),
    Reader(source="chatlab", name="ChatLab (JSON lines)", sniff=sniff_lines, read=read_lines, how=_HOW),
)
