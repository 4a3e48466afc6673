"""Snapchat's My Data, `json/chat_history.json`: since 2023 a list per conversation, before that one per direction.

Only messages that somebody saved are in it, so conversations have gaps.
"""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import LocalClock, checked_time
from jaegpt.exports.readers.collecting import BLOCK_MESSAGES, Pieces, malformed
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.readers.neighbours import content_of
from jaegpt.exports.rows import kind_of

_OLD_LIST = re.compile(r"(Received|Sent) (?:Saved|Unsaved) Chat History")
_MS = "Created(microseconds)"  # milliseconds, whatever its name
_KINDS = {
    "MEDIA": "media", "IMAGE": "media", "VIDEO": "media", "NOTE": "media", "SHARE": "media",
    "SHARESAVEDSTORY": "media", "STICKER": "sticker", "LOCATION": "location", "MAPREACTION": "reaction",
    "STATUSERASEDMESSAGE": "deleted", "STATUSERASEDSNAPMESSAGE": "deleted", "NONPARTICIPANTBOTRESPONSE": "bot",
}  # fmt: skip
_KEYS = (b'"Media Type"', b'"Created"')


def sniff(name: str, head: bytes) -> float:
    """Sure by its keys; the list of snaps beside it has the same ones, but no texts."""
    if not head.lstrip().startswith(b"{"):
        return 0.0
    if re.search(rb'"(?:Received|Sent) (?:Saved|Unsaved) Chat History"\s*:', head):
        return 0.95
    has_keys = all(key in head for key in _KEYS) and (b'"From"' in head or b'"To"' in head)
    return 0.95 if has_keys and (b'"Content"' in head or b'"Text"' in head) else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The conversations of a file, in pieces.

    Raises:
        BadFileError: it is no JSON, or is cut off.
    """
    account = _Account(_username(file))
    with open_json(file) as json:
        for key in json.members():
            old = _OLD_LIST.fullmatch(key)
            if json.kind() == b"{" and old:  # once more by friend
                for _ in json.members():
                    yield from account.read(json, key, old[1])
            elif json.kind() == b"[":
                yield from account.read(json, key, old[1] if old else "")
    yield from account.take()
    say("Snapchat gives only the messages that somebody saved, so that the talks have holes")


def _username(file: SourceFile) -> str:
    """The owner's, from the file on the account that lies beside."""
    about = content_of(file.beside("account.json"))
    basic = about.get("Basic Information") if isinstance(about, dict) else None
    name = basic.get("Username") if isinstance(basic, dict) else None
    return name if isinstance(name, str) else ""


class _Account:
    def __init__(self, username: str) -> None:
        self._owner = username or "Me"
        self._is_named = bool(username)
        self._clock = LocalClock(ZoneInfo("UTC"))
        self._titles: dict[str, str] = {}
        self._num_waiting = 0
        self._pieces = Pieces(self._begin)

    def read(self, json: JsonStream, key: str, direction: str) -> Iterator[SourceThread]:
        """The list ahead: a conversation called `key`, or what was `Received` from or `Sent` to anybody."""
        number = 0
        for batch in json.batches():
            for message in batch:
                try:
                    self._add(message, key, direction)
                except ValueError as error:
                    malformed(self._pieces[key], f"{key}[{number:,}]", error)
                number += 1
            self._num_waiting += len(batch)
            if self._num_waiting >= BLOCK_MESSAGES:
                self._num_waiting = 0
                yield from self.take()

    def take(self) -> Iterator[SourceThread]:
        """Hand over what was collected; whose it is may be known only now."""
        for thread in self._pieces.take():
            thread.owner, thread.owner_is_marked = (self._owner,), True
            thread.people = (*thread.people, self._owner)
            yield thread

    def _add(self, message: Any, key: str, direction: str) -> None:
        if not isinstance(message, dict):
            raise ValueError(f"{kind_of(message)} instead of an object")
        other = message.get("From" if direction == "Received" else "To") if direction else key
        if not isinstance(other, str) or not other:
            raise ValueError(f"nobody's: `From` or `To` is {kind_of(other)}")
        title = message.get("Conversation Title")
        if isinstance(title, str) and title:
            self._titles[other] = title
        text, reason = _text_or_reason(message)
        if reason is None:
            sender, sent_at = self._sender(message, direction), self._time(message)
            self._pieces[other].add(sender, sent_at, text)
        else:
            self._pieces[other].dropped[reason] += 1

    def _sender(self, message: dict[str, Any], direction: str) -> str:
        name = message.get("From")
        if direction == "Sent":
            return self._owner
        if not isinstance(name, str) or not name:
            raise ValueError(f"`From` is {kind_of(name)} instead of a name")
        if message.get("IsSender") is True and not self._is_named:
            self._owner, self._is_named = name, True
        return name

    def _time(self, message: dict[str, Any]) -> int:
        precise = message.get(_MS)
        if type(precise) is int and precise > 0:
            return checked_time(precise // 1000 if precise >= 10**14 else precise, _MS)
        created = message.get("Created")
        if type(created) is not str:
            raise ValueError(f"`Created` is {kind_of(created)} instead of a time")
        return checked_time(self._clock.ms(created.removesuffix(" UTC"), None), "Created")

    def _begin(self, key: str) -> SourceThread:
        title = self._titles.get(key, "")  # groups alone have one
        people = () if title else (key,)
        return SourceThread(key, title=title or key, people=people, is_group=bool(title) or None)


def _text_or_reason(message: dict[str, Any]) -> tuple[str, str | None]:
    text = message.get("Content", message.get("Text"))
    kind = message.get("Media Type")
    if text is not None and type(text) is not str:
        raise ValueError(f"`Content` is {kind_of(text)} instead of a text")
    kind = kind if isinstance(kind, str) else ""
    if kind.startswith("STATUS") and kind not in _KINDS:
        return "", "call" if "CALL" in kind else "system"
    if kind in _KINDS and (kind != "MEDIA" or not text or text.isspace()):
        return "", _KINDS[kind]
    if not text or text.isspace():
        return "", "empty"
    return html.unescape(text) if "&" in text else text, None


READER = Reader(
    source="snapchat",
    name="Snapchat (My Data)",
    sniff=sniff,
    read=read,
    how="accounts.snapchat.com, My Data: choose Chat History and Export JSON Files, and give the zip.",
)
