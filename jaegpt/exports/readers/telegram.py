"""Telegram Desktop's `result.json`: one chat, or a whole account with its chats in a list.

Chats are known by number, and so are people since 2019. Whole accounts say who the owner is; a single chat with one
person has that person's number, so that the owner is the other one.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from jaegpt.exports.reactions import REASON, add_reaction, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import LocalClock, checked_time
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, settle
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.rows import kind_of
from jaegpt.exports.text import replace_lone_surrogates

# What the number of a chat is the number of. Those of one kind are unique, those of several are not.
_FAMILIES = {
    "personal_chat": "user",
    "bot_chat": "user",
    "saved_messages": "user",
    "replies": "user",
    "verify_codes": "user",
    "private_group": "chat",
    "public_group": "channel",
    "private_supergroup": "channel",
    "public_supergroup": "channel",
    "private_channel": "channel",
    "public_channel": "channel",
}
# Chats in which nobody talks with the owner, and the reason under which their messages are counted.
_NO_TALK = {
    "bot_chat": "bot",
    "saved_messages": "notes",
    "replies": "service",
    "verify_codes": "service",
    "private_channel": "channel",
    "public_channel": "channel",
}
_SERVICE_NUMBER = 777_000  # Telegram itself, which sends login codes
_NAMELESS = "Deleted Account"  # as Telegram calls those whose name the export gives as null

# Keys that can change what becomes of a message, and the reason if they do. The first group holds whatever the text
# is: it is not the sender's. In the second a text is a caption.
_NOT_THEIRS = {"forwarded_from": "forwarded", "forwarded_from_id": "forwarded", "saved_from": "forwarded"}
_NOT_THEIRS |= {"via_bot": "bot", "via_bot_id": "bot"}
_WITHOUT_TEXT = {"poll": "poll", "location_information": "location", "contact_information": "contact"}
_WITHOUT_TEXT |= {"self_destruct_period_seconds": "view_once"}
_WITHOUT_TEXT |= dict.fromkeys(("photo", "file", "media_type", "game_title", "invoice_information"), "media")
_CALLS = ("phone_call", "group_call", "invite_to_group_call", "group_call_scheduled", "conference_call")

_CHAT_TYPE = re.compile(rb'"type"\s*:\s*"(?:%s)"' % "|".join(_FAMILIES).encode())
_MESSAGE = (b'"date"', b'"from_id"', b'"text"')
_ACCOUNT = re.compile(rb'"personal_information"\s*:\s*\{\s*"user_id"\s*:\s*\d')
_SECTION = re.compile(
    rb'"(?:profile_pictures|contacts|frequent_contacts|sessions|web_sessions|chats|left_chats)"\s*:\s*[\[{]'
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|.)", re.DOTALL)


def sniff(name: str, head: bytes) -> float:
    """Sure by the type of a chat, or by what stands before the chats of an account."""
    if not head.lstrip().startswith(b"{"):
        return 0.0
    if _ACCOUNT.search(head) or (b'"about"' in head and b"Telegram" in head and _SECTION.search(head)):
        return 0.9
    is_chat = b'"messages"' in head and _CHAT_TYPE.search(head)
    if is_chat and b'"id"' in head:
        return 0.95
    if is_chat or (b'"messages"' in head and all(key in head for key in _MESSAGE) and b'"text_entities"' in head):
        return 0.8
    return 0.6 if _CHAT_TYPE.search(head) and b'"list"' in head else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chats of a file, long ones in pieces.

    Raises:
        BadFileError: it is no JSON, or is cut off.
    """
    account = _Account(LocalClock(options.timezone), options.reactions)
    with open_json(file, _mend) as json:
        yield from _chat(json, account, is_root=True)
    if not account.num_chats:
        say("it holds no chats; when you export again, tick the kinds of chats that you want")


def _mend(raw: bytes) -> bytes:
    r"""Telegram writes control codes as `\x1B`, which is no JSON: `\u001B` is. In `\\x1B` the backslash is a text's."""
    if b"\\x" in raw:
        raw = _ESCAPE.sub(lambda match: b"\\u00" + match[1] if match[1] else match[0], raw)
    return replace_lone_surrogates(raw)


@dataclass
class _Account:
    """What holds for all chats of a file: the owner's identity and name, where it says so."""

    clock: LocalClock
    reactions: bool = False
    owner: str | None = None
    owner_name: str = ""
    num_chats: int = 0

    def learn(self, about: Any) -> None:
        if isinstance(about, dict) and type(about.get("user_id")) is int:
            self.owner = f"user{about['user_id']}"
            names = (about.get("first_name"), about.get("last_name"))
            self.owner_name = " ".join(name for name in names if isinstance(name, str) and name)


def _chat(json: JsonStream, account: _Account, is_root: bool = False) -> Iterator[SourceThread]:
    """The chat ahead, and the chats in it if it is the whole file."""
    head: dict[str, Any] = {}
    messages_at = None
    for key in json.members():
        if key == "messages":
            if {"id", "type"} <= head.keys():
                yield from _Chat(head, account).read(json)
            else:  # sorted by another program: what the chat is stands behind its messages
                messages_at = json.position
        elif is_root and key in ("chats", "left_chats"):
            for inner in json.members():
                if inner == "list":
                    for _ in json.elements():
                        yield from _chat(json, account)
        elif key in ("name", "type", "id"):
            head[key] = json.value()
        elif is_root and key == "personal_information":
            account.learn(json.value())
    if messages_at is not None:
        end = json.position
        json.seek(messages_at)
        yield from _Chat(head, account).read(json)
        json.seek(end)


@dataclass
class _Chat:
    """One chat whose messages are being read; `thread` is the piece that waits to be handed over."""

    head: dict[str, Any]
    account: _Account
    names: Names = field(default_factory=Names)
    num_read: int = 0
    last_ms: int | None = None  # the time of the message before, in this piece

    def __post_init__(self) -> None:
        self.account.num_chats += 1
        kind, title = self.head.get("type"), self.head.get("name")
        self.kind = kind if isinstance(kind, str) else ""
        self.family = _FAMILIES.get(self.kind, "")
        self.title = title if isinstance(title, str) else _NAMELESS if self.kind == "personal_chat" else ""
        number = self.head.get("id")
        self.identity = f"{self.family}{_bare(number)}" if type(number) is int else ""  # missing until 2019
        self.no_talk = "service" if number == _SERVICE_NUMBER else _NO_TALK.get(self.kind)
        if self.kind == "personal_chat":
            self.names.of(self.identity or self.title, self.title)  # the partner's name is the chat's
        self.thread = self._piece()

    def read(self, json: JsonStream) -> Iterator[SourceThread]:
        for batch in json.batches():
            if self.no_talk:
                self.thread.dropped[self.no_talk] += len(batch)
            else:
                self._take(batch)
            if len(self.thread.texts) >= PIECE_MESSAGES:
                yield self._finished()
                self.thread = self._piece()
        if self.thread.num_read:
            yield self._finished()

    def _piece(self) -> SourceThread:
        is_group = None if not self.family else self.family != "user"
        key = self.identity or f"{self.kind} {self.title}".strip()
        self.last_ms = None
        return SourceThread(key, title=self.title, is_group=is_group, resolution_ms=1000)

    def _finished(self) -> SourceThread:
        """The piece, with the owner as far as is known."""
        owner = self.account.owner
        name = (self.names.get(owner) or self.account.owner_name) if owner else ""
        partner = self.identity or self.title
        if not owner and self.kind == "personal_chat":
            others = [identity for identity in self.names.identities() if identity != partner]
            name = (self.names.get(others[0]) or "") if len(others) == 1 else ""
        people = [self.names.get(partner) or self.title] if self.kind == "personal_chat" else []
        return replace(
            self.thread,
            owner=(name,) if name else (),
            owner_is_marked=bool(name and owner),
            people=tuple(dict.fromkeys([*people, name] if name and people else people)),
        )

    def _take(self, batch: list[Any]) -> None:
        thread, where = self.thread, f"chat {self.thread.key}, messages"
        for number, message in enumerate(batch, start=self.num_read):
            settle(thread, where, number, self._judge, message)
        self.num_read += len(batch)

    def _judge(self, message: Any) -> str | None:
        """Add a message and the reactions to it to the thread, or say why not."""
        reason = self._add(message)
        if self.account.reactions and "reactions" in message:
            given = list(_given(message["reactions"]))
            if reason:
                self.thread.dropped[REASON] += len(given)
            else:
                self._react(given, message, self.thread.sent_at[-1])
        return reason

    def _add(self, message: Any) -> str | None:
        """Add a message to the thread, or say why not."""
        if type(message) is not dict:
            raise ValueError(f"{kind_of(message)} instead of an object")
        kind = message.get("type")
        if kind != "message":
            if type(kind) is not str:
                raise ValueError(f"`type` is {kind_of(kind)} instead of a text")
            return "call" if message.get("action") in _CALLS else "service"
        if not _NOT_THEIRS.keys().isdisjoint(message):
            return next(reason for key, reason in _NOT_THEIRS.items() if key in message)
        sender = self._sender(message)
        if sender is None:
            return "channel"
        time = self._time(message, self.last_ms)
        text, reason = _text(message)
        if reason:
            return reason
        if not text.strip():
            if message.get("media_type") != "sticker":
                return next((reason for key, reason in _WITHOUT_TEXT.items() if key in message), "empty")
            text = str(message.get("sticker_emoji"))
            if not self.account.reactions or not is_emoji(text):
                return "sticker"
        self.thread.add(sender, time, text)
        self.last_ms = time
        return None

    def _react(self, given: list[tuple[dict[str, Any], Any]], message: dict[str, Any], message_ms: int) -> None:
        """Add the reactions to a message that say who gave them."""
        clock_ms = message_ms
        if "date_unixtime" in message:
            # Reactions have wall clocks alone. What the message's is off by, in another zone than the exporting
            # computer's, theirs are off by too.
            with suppress(ValueError, OverflowError):
                clock_ms = self._time({"date": message.get("date")}, message_ms)
        for one, emoji in given:
            sender, time = None, message_ms
            try:
                sender = self._sender(one)
                if "date_unixtime" in one:
                    time = self._time(one, None)
                elif "date" in one:
                    time = checked_time(message_ms + self._time(one, clock_ms) - clock_ms, "date")
            except (ValueError, OverflowError):
                sender = None
            add_reaction(self.thread, sender, max(time, message_ms), emoji)

    def _sender(self, message: dict[str, Any]) -> str | None:
        """The name of who wrote; None for a channel, or for a group that speaks by itself."""
        name, identity = message.get("from"), message.get("from_id")
        if name is not None and type(name) is not str:
            raise ValueError(f"`from` is {kind_of(name)} instead of a name")
        if type(identity) is int:  # until 2021
            identity = f"{_old_family(identity)}{_bare(identity)}"
        elif identity is None:  # until 2019
            if "from" not in message:
                raise ValueError("`from` and `from_id` are missing")
            identity = name or _NAMELESS
        elif type(identity) is not str:
            raise ValueError(f"`from_id` is {kind_of(identity)} instead of a text")
        if identity.startswith(("channel", "chat")) and identity != name:
            return None
        return self.names.of(identity, name or _NAMELESS)

    def _time(self, message: dict[str, Any], before_ms: int | None) -> int:
        unixtime = message.get("date_unixtime")
        if unixtime is not None:
            if type(unixtime) not in (str, int) or not str(unixtime).isdecimal():
                raise ValueError("`date_unixtime` is no number of seconds")
            return checked_time(int(unixtime[:20] if type(unixtime) is str else unixtime) * 1000, "date_unixtime")
        date = message.get("date")
        if type(date) is not str:
            raise ValueError(f"`date` is {kind_of(date)} instead of a time")
        return checked_time(self.account.clock.ms(date, before_ms), "date")


def _given(listed: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Who gave each reaction to a message, and its emoji, if any. Of many, the export lists the last few."""
    for kind in listed if type(listed) is list else ():
        recent, emoji = (kind.get("recent"), kind.get("emoji")) if type(kind) is dict else (None, None)
        for one in recent if type(recent) is list and recent else [None]:
            yield (one if type(one) is dict else {}), emoji


def _bare(number: int) -> int:
    """The number without the kind, which stood in the bits above the 32nd until 2021."""
    return number % 2**32 if 2**32 <= number < 3 * 2**32 else number


def _old_family(number: int) -> str:
    return ("user", "chat", "channel")[number // 2**32] if 0 <= number < 3 * 2**32 else "user"


def _text(message: dict[str, Any]) -> tuple[str, str | None]:
    """The text without its formatting and without what it quotes, and the reason to leave it out, if any."""
    text = message.get("text", message.get("text_entities"))
    if type(text) is str:
        return text, None
    if text is None:
        return "", None
    if type(text) is not list:
        raise ValueError(f"`text` is {kind_of(text)} instead of a text or a list")
    parts = []
    has_quote = False
    for part in text:
        if type(part) is str:
            parts.append(part)
            continue
        inner, kind = (part.get("text"), part.get("type")) if type(part) is dict else (part, None)
        if type(inner) is not str:
            raise ValueError(f"`text` has a part that is {kind_of(inner)} instead of a text")
        if kind == "bot_command" and not parts:
            return "", "command"
        if kind == "blockquote":
            has_quote = True
            inner = "\n" if parts else ""
        parts.append(inner)
    joined = "".join(parts)
    if has_quote:
        joined = joined.strip()
        return joined, None if joined else "quoted"
    return joined, None


READER = Reader(
    source="telegram",
    name="Telegram Desktop (JSON)",
    sniff=sniff,
    read=read,
    how="Telegram Desktop, Settings, Advanced, Export Telegram data (or a chat's menu, Export chat history), format: "
    "Machine-readable JSON. Not the phone's app, nor the one of the App Store.",
)
