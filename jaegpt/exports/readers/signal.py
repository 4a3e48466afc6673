"""Signal's own export of the chat history (2026): `main.jsonl`, a frame of its backup format per line.

People, called recipients, and chats come first, then messages of all chats in the order of their times.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jaegpt.exports.reactions import REASON, add_reaction, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import BLOCK_MESSAGES, Pieces, malformed
from jaegpt.exports.readers.json_lines import json_lines
from jaegpt.exports.readers.names import Names
from jaegpt.exports.rows import kind_of

_MENTION = "\ufffc"  # stands in a text where somebody is mentioned
# What a message can be besides a text, and why it is left out.
_KINDS = {
    "stickerMessage": "sticker",
    "contactMessage": "contact",
    "remoteDeletedMessage": "deleted",
    "adminDeletedMessage": "deleted",
    "updateMessage": "system",
    "paymentNotification": "service",
    "giftBadge": "service",
    "viewOnceMessage": "view_once",
    "directStoryReplyMessage": "story",
    "poll": "poll",
}
_CALLS = ("individualCall", "groupCall")
# Recipients with whom nobody talks, and the reason under which what was sent to them is counted.
_NO_TALK = {"self": "notes", "releaseNotes": "channel", "distributionList": "story", "callLink": "call"}
_FIRST_LINE = (b'"version"', b'"backupTimeMs"')
_FRAME = re.compile(rb'^\{"(?:account|recipient|chat|chatItem|stickerPack|adHocCall)": ?\{', re.MULTILINE)


def sniff(name: str, head: bytes) -> float:
    first = head.partition(b"\n")[0]
    if not first.startswith(b"{"):
        return 0.0
    if all(key in first for key in _FIRST_LINE):
        return 0.95
    return 0.8 if len(_FRAME.findall(head)) > 1 else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chats of an export, in pieces.

    Raises:
        BadFileError: a line is no JSON.
    """
    export = _Export(reactions=options.reactions)
    pieces = Pieces(export.begin)
    num_waiting = 0
    for number, frame in json_lines(file):
        if not isinstance(frame, dict):
            malformed(pieces[_UNKNOWN], f"line {number:,}", f"{kind_of(frame)} instead of an object")
        elif "chatItem" in frame:
            export.add(pieces, number, frame["chatItem"])
        else:
            export.learn(frame)
            continue
        num_waiting += 1
        if num_waiting >= BLOCK_MESSAGES:
            yield from pieces.take()
            num_waiting = 0
    yield from pieces.take()
    if export.owner is None:
        say("it has no recipient `self`, so that it does not show who the owner is")


_UNKNOWN = "unknown"  # the thread of messages whose chat is not known


@dataclass
class _Recipient:
    kind: str  # self, contact, group, ...
    key: str  # the same in every export: an account's id, a number, a group's key
    name: str


@dataclass
class _Export:
    """What the frames before the messages say."""

    names: Names = field(default_factory=Names)
    owner: str | None = None
    recipients: dict[str, _Recipient] = field(default_factory=dict)
    of_chat: dict[str, _Recipient] = field(default_factory=dict)
    of_key: dict[str, _Recipient] = field(default_factory=dict)
    archived: set[str] = field(default_factory=set)  # keys of chats
    members: dict[str, list[str]] = field(default_factory=dict)  # group's key -> accounts
    account_name: str = "Me"
    reactions: bool = False  # whether these, and stickers that stand for an emoji, become messages

    def learn(self, frame: dict[str, Any]) -> None:
        """Take note of a frame that is no message; most kinds say nothing that matters."""
        for kind, content in frame.items():
            if not isinstance(content, dict):
                continue
            if kind == "account":
                self.account_name = _joined(content, "givenName", "familyName") or _text(content, "username") or "Me"
            elif kind == "recipient":
                self._learn_recipient(content)
            elif kind == "chat":
                recipient = self.recipients.get(str(content.get("recipientId")))
                if recipient is not None:
                    self.of_chat[str(content.get("id"))] = recipient
                    self.of_key[recipient.key] = recipient
                    if content.get("archived") is True:
                        self.archived.add(recipient.key)

    def _learn_recipient(self, content: dict[str, Any]) -> None:
        number = str(content.get("id"))
        kind = next((kind for kind in (*_NO_TALK, "contact", "group") if isinstance(content.get(kind), dict)), "")
        about = _object(content, kind)
        if kind == "self":
            self.owner = self.names.of("self", self.account_name)
            self.recipients[number] = _Recipient(kind, "self", self.owner)
        elif kind == "group":
            key = _text(about, "masterKey") or f"group {number}"
            snapshot = _object(about, "snapshot")
            self.recipients[number] = _Recipient(kind, key, _text(_object(snapshot, "title"), "title"))
            members = snapshot.get("members")
            people = members if isinstance(members, list) else []
            self.members[key] = [_text(person, "userId") for person in people if isinstance(person, dict)]
        else:
            key = _text(about, "aci") or _text(about, "pni") or _text(about, "e164") or f"recipient {number}"
            name = self.names.of(key, _name(about) or f"recipient {number}") if kind == "contact" else ""
            self.recipients[number] = self.of_key[key] = _Recipient(kind, key, name)

    def begin(self, key: str) -> SourceThread:
        recipient = self.of_key.get(key)
        owner = (self.owner,) if self.owner else ()
        box = "archived" if key in self.archived else "inbox"
        thread = SourceThread(key, owner=owner, owner_is_marked=bool(owner), box=box)
        if recipient is not None:
            others = [recipient.name]
            thread.is_group = recipient.kind == "group"
            if thread.is_group:
                others = [self.of_key[who].name for who in self.members.get(key, ()) if who in self.of_key]
            thread.title, thread.people = recipient.name, tuple(dict.fromkeys((*filter(None, others), *owner)))
        return thread

    def add(self, pieces: Pieces, number: int, item: Any) -> None:
        """Take a message, which is line `number`."""
        try:
            if not isinstance(item, dict):
                raise ValueError(f"`chatItem` is {kind_of(item)} instead of an object")
            chat = self.of_chat.get(str(item.get("chatId")))
            if chat is None:
                raise ValueError(f"`chatId` {str(item.get('chatId'))[:20]} is of no chat before it")
        except ValueError as error:
            malformed(pieces[_UNKNOWN], f"line {number:,}", error)
            return
        thread = pieces[chat.key]
        revisions = item.get("revisions")
        if isinstance(revisions, list) and revisions:
            thread.dropped["edited_away"] += len(revisions)
        try:
            text, reason = self._text_or_reason(item)
            reason = _NO_TALK.get(chat.kind) or reason
            if reason is None:
                author = self.recipients.get(str(item.get("authorId")))
                if author is None:
                    raise ValueError(f"`authorId` {str(item.get('authorId'))[:20]} is of no recipient before it")
                sent_at = _milliseconds(item.get("dateSent"))
                thread.add(author.name, sent_at, text)
                if self.reactions:
                    self._react(thread, item, sent_at)
            else:
                thread.dropped[reason] += 1
                if self.reactions and (given := _given(item)):
                    thread.dropped[REASON] += len(given)
        except ValueError as error:
            malformed(thread, f"line {number:,}", error)

    def _react(self, thread: SourceThread, item: dict[str, Any], message_time: int) -> None:
        for one in _given(item):
            reaction = one if isinstance(one, dict) else {}
            author = self.recipients.get(str(reaction.get("authorId")))
            try:
                time = max(_milliseconds(reaction.get("sentTimestamp")), message_time)
            except ValueError:
                time = message_time
            add_reaction(thread, author.name if author else None, time, reaction.get("emoji"))

    def _text_or_reason(self, item: dict[str, Any]) -> tuple[str, str | None]:
        message = item.get("standardMessage")
        if message is None:
            emoji = _text(_object(_object(item, "stickerMessage"), "sticker"), "emoji")
            if self.reactions and is_emoji(emoji):
                return emoji, None
            kind = next((kind for kind in _KINDS if kind in item), None)
            if any(call in _object(item, "updateMessage") for call in _CALLS):
                return "", "call"
            return "", _KINDS[kind] if kind else "system"
        text = (message.get("text") or {}) if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(text, dict):
            raise ValueError(f"`standardMessage` is {kind_of(message)} with a text of {kind_of(text)}")
        body = text.get("body")
        if body is not None and type(body) is not str:
            raise ValueError(f"`body` is {kind_of(body)} instead of a text")
        if body and _MENTION in body:
            body = self._with_names(body, text.get("bodyRanges"))
        if body and not body.isspace():
            return body, None
        return "", "media" if message.get("attachments") else "empty"

    def _with_names(self, body: str, ranges: Any) -> str:
        """`body` with the names of those who are mentioned in it; whom the export does not know is `@`."""
        found = [one for one in ranges if isinstance(one, dict)] if isinstance(ranges, list) else []
        mentions = [(_number(one.get("start")), one.get("mentionAci")) for one in found if "mentionAci" in one]
        accounts = [account for _, account in sorted(mentions, key=lambda mention: mention[0])]
        for account in accounts:
            known = self.of_key.get(account) if isinstance(account, str) else None
            body = body.replace(_MENTION, f"@{known.name}" if known else "@", 1)
        return body.replace(_MENTION, "@" if not accounts else "")


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _given(item: dict[str, Any]) -> list[Any]:
    """The reactions to a message, of whatever kind it is."""
    found = [content.get("reactions") for content in item.values() if isinstance(content, dict)]
    return [one for listed in found if isinstance(listed, list) for one in listed]


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    return str(value) if isinstance(value, str | int) and value else ""


def _joined(content: dict[str, Any], *keys: str) -> str:
    return " ".join(filter(None, (_text(content, key) for key in keys)))


def _name(contact: dict[str, Any]) -> str:
    """What the owner calls a contact, else what it calls itself, else how it is reached."""
    return (
        _joined(_object(contact, "nickname"), "given", "family")
        or _joined(contact, "systemGivenName", "systemFamilyName")
        or _joined(contact, "profileGivenName", "profileFamilyName")
        or _text(contact, "username")
        or _text(contact, "e164")
    )


def _number(value: Any) -> int:
    """A number as Signal writes it: small ones as such, those of 64 bits as strings; -1 for anything else."""
    if type(value) is int:
        return value
    return int(value) if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20 else -1


def _milliseconds(value: Any) -> int:
    if value is None:
        raise ValueError("`dateSent` is missing")
    return checked_time(_number(value), "dateSent")


READER = Reader(
    source="signal",
    name="Signal (exported chat history)",
    sniff=sniff,
    read=read,
    how="In Signal: Settings, Chats, Export chat history, and give the folder with main.jsonl.",
)
