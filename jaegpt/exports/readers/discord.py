"""Discord, as DiscordChatExporter writes it: a JSON file per channel, thread or direct chat, or several parts of one.

Discord's own data package is recognised too. It holds what its owner wrote and nothing that they answered to, so it is
refused with what to do instead.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import REASON, add_reaction, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import iso_ms
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, settle
from jaegpt.exports.readers.json_stream import open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.readers.neighbours import near
from jaegpt.exports.rows import kind_of

_WITH_TEXT = ("Default", "Reply")
# Kinds that have a reason of their own; the exporter writes those that it has no name for as their numbers.
_REASONS = {"Call": "call", "46": "poll", "20": "command", "23": "command"}
_DIRECT = "DirectTextChat"

_GUILD = re.compile(rb'"guild"\s*:\s*\{\s*"id"\s*:\s*"')
_CHANNEL = re.compile(rb'"channel"\s*:\s*\{\s*"id"\s*:\s*"')
# Block quotes, with which people quoted before there were replies; three signs quote all that follows.
_QUOTE = re.compile(r"^>>> (?s:.*)|^> .*(?:\n|\Z)", re.MULTILINE)
# What stays of markup where the exporter was asked not to process it.
_RAW = re.compile(r"<(?:@!?(\d+)|#(\d+)|@&(\d+)|a?:(\w+):\d+|t:(-?\d{1,12})(?::\w)?|/([^:<>]+):\d+)>")

_PACKAGE_CSV = re.compile(rb"\s*ID,Timestamp,Contents,Attachments\s")
_PACKAGE_JSON = re.compile(rb'\s*\[\s*\{\s*"ID"\s*:\s*"?\d+"?\s*,\s*"Timestamp"\s*:\s*"[^"]*"\s*,\s*"Contents"\s*:')
_PACKAGE_INDEX = re.compile(rb'\s*\{\s*"\d{17,20}"\s*:\s*(?:null|")')
_OWN_SIDE = (
    "Discord's own data package, which holds what you wrote and nothing that you answered to, so that nothing can be "
    "learnt from it; export your chats with DiscordChatExporter, format JSON, and leave the package out of export.path"
)


def sniff(name: str, head: bytes) -> float:
    """Sure where the server and the channel stand before the messages."""
    if not head.lstrip().startswith(b"{") or not _GUILD.search(head):
        return 0.0
    return 0.95 if _CHANNEL.search(head) else 0.6 if b'"iconUrl"' in head else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The one channel of a file, a long one in pieces.

    Raises:
        BadFileError: it is no JSON, is cut off, or does not say which channel it is.
    """
    about: dict[str, Any] = {}
    has_messages = False
    with open_json(file) as json:
        for key in json.members():
            if key in ("guild", "channel", "mod"):
                about[key] = json.value()
            elif key == "messages":
                has_messages = True
                channel = _Channel.described(about, file.name, options)
                for batch in json.batches():
                    channel.take(batch)
                    if len(channel.thread.texts) >= PIECE_MESSAGES:
                        yield channel.finished()
                if channel.thread.num_read:
                    yield channel.finished()
    if not has_messages:
        raise BadFileError(file.name, "wrong_structure", "there is no list `messages` in it")


@dataclass
class _Channel:
    """A channel whose messages are being read; `thread` is the piece that waits to be handed over.

    Attributes:
        head: the thread without messages.
        number: its id, which is what mentions of it hold.
        zone: the one in which tags of times are written out.
        reactions: whether reactions become messages.
        mentioned: what people are called where they are mentioned, by their ids.
    """

    head: SourceThread
    number: str
    zone: ZoneInfo
    reactions: bool = False
    names: Names = field(default_factory=Names)
    mentioned: dict[str, str] = field(default_factory=dict)
    num_read: int = 0

    def __post_init__(self) -> None:
        self.thread = self._piece()

    @classmethod
    def described(cls, about: dict[str, Any], path: str, options: ReadOptions) -> "_Channel":
        mod, channel, guild = (about.get(key) for key in ("mod", "channel", "guild"))
        if isinstance(mod, dict) and mod.get("normal") is True:
            detail = "exported with normalization, which keeps the authors apart from the messages; export without it"
            raise BadFileError(path, "wrong_structure", detail)
        number, name = (channel.get("id"), channel.get("name")) if isinstance(channel, dict) else (None, None)
        if not isinstance(channel, dict) or type(number) is not str:
            raise BadFileError(path, "wrong_structure", "no `channel` with an `id` stands before the messages")
        title = name if type(name) is str else ""
        kind = channel.get("type")
        is_direct = kind in (_DIRECT, "DirectGroupTextChat")
        server = guild.get("name") if isinstance(guild, dict) else None
        full = f"{server}: {title}" if type(server) is str and not is_direct else title
        head = SourceThread(number, title=full, is_group=kind != _DIRECT)
        return cls(head, number, options.timezone, options.reactions)

    def finished(self) -> SourceThread:
        """The piece that is waiting, with the owner if it is known; what follows begins another."""
        done, self.thread = self.thread, self._piece()
        if done.is_group:
            return done
        # A direct chat is called after the partner.
        partners = [person for person, name in self.mentioned.items() if name == done.title or person == done.title]
        others = [identity for identity in self.names.identities() if identity not in partners]
        if len(partners) != 1 or len(others) != 1:
            return done
        people = [self.names.get(identity) or done.title for identity in (*partners, *others)]
        return replace(done, owner=(people[1],), people=tuple(people))

    def _piece(self) -> SourceThread:
        return SourceThread(self.head.key, title=self.head.title, is_group=self.head.is_group)

    def take(self, batch: list[Any]) -> None:
        for place, message in enumerate(batch, start=self.num_read):
            settle(self.thread, "messages", place, self._judge, message)
        self.num_read += len(batch)

    def _judge(self, message: Any) -> str | None:
        """Add a message and the reactions to it to the thread, or say why not."""
        reason = self._add(message)
        if self.reactions:
            given = list(_given(message.get("reactions")))
            if reason:
                self.thread.dropped[REASON] += len(given)
            else:
                self._react(given, self.thread.sent_at[-1])
        return reason

    def _add(self, message: Any) -> str | None:
        """Add a message to the thread, or say why not."""
        if type(message) is not dict:
            raise ValueError(f"{kind_of(message)} instead of an object")
        kind, author, text = message.get("type"), message.get("author"), message.get("content")
        if type(kind) is not str:
            raise ValueError(f"`type` is {kind_of(kind)} instead of a text")
        if kind not in _WITH_TEXT:
            return _REASONS.get(kind, "system")
        if type(author) is not dict or type(author.get("id")) is not str or type(author.get("name")) is not str:
            raise ValueError("`author` has no `id` and `name`")
        if author.get("isBot"):
            return "bot"
        if message.get("interaction"):
            return "command"
        reference = message.get("reference")
        if message.get("forwardedMessage") or (type(reference) is dict and reference.get("type") == "Forward"):
            return "forwarded"
        time = iso_ms(message.get("timestamp"), "timestamp")
        if type(text) is not str:
            raise ValueError(f"`content` is {kind_of(text)} instead of a text")
        sender = self.names.of(author["id"], author["name"])
        self._meet(author)
        if "> " in text and (without := _QUOTE.sub("", text)) != text:
            text = without.strip()
            if not text:
                return "quoted"
        if not text.strip():
            return "sticker" if message.get("stickers") else "media" if message.get("attachments") else "empty"
        if "<" in text:
            text = self._plain(text, message.get("mentions"))
        self.thread.add(sender, time, text)
        return None

    def _react(self, given: list[tuple[Any, Any]], time: int) -> None:
        """Add the reactions to a message at its time, as they have none."""
        for user, sign in given:
            sender = None
            if type(user) is dict and not user.get("isBot") and is_emoji(sign):
                identity, name = user.get("id"), user.get("name")
                if type(identity) is str and type(name) is str:
                    sender = self.names.of(identity, name)
                    self._meet(user)
            add_reaction(self.thread, sender, time, sign)

    def _meet(self, person: dict[str, Any]) -> None:
        identity = person["id"]
        if identity not in self.mentioned:
            nickname = person.get("nickname")
            self.mentioned[identity] = nickname if type(nickname) is str and nickname else str(person.get("name"))

    def _plain(self, text: str, mentions: Any) -> str:
        """The text with mentions as people read them: `<@123>` -> `@Anna`."""
        for person in mentions if type(mentions) is list else ():
            if type(person) is dict and type(person.get("id")) is str:
                self._meet(person)

        def shown(match: re.Match[str]) -> str:
            person, channel, role, emoji, seconds, command = match.groups()
            if person:
                return f"@{self.mentioned.get(person, 'someone')}"
            if channel:
                return f"#{self.head.title.rpartition(': ')[2] if channel == self.number else 'channel'}"
            if seconds:
                try:
                    return datetime.fromtimestamp(int(seconds), self.zone).strftime("%Y-%m-%d %H:%M")
                except (ValueError, OverflowError, OSError):
                    return match[0]
            return "@role" if role else f":{emoji}:" if emoji else f"/{command}"

        return _RAW.sub(shown, text)


def _given(listed: Any) -> Iterator[tuple[Any, Any]]:
    """Who gave each reaction to a message, and its sign, if any; a server's own emoji are pictures."""
    for kind in listed if type(listed) is list else ():
        emoji, users = (kind.get("emoji"), kind.get("users")) if type(kind) is dict else (None, None)
        sign = emoji.get("name") if type(emoji) is dict and not emoji.get("id") else None
        for user in users if type(users) is list and users else [None]:
            yield user, sign


def sniff_package(name: str, head: bytes) -> float:
    """Sure by the four columns of its messages, and fairly so by its index of channels."""
    if _PACKAGE_CSV.match(head) or _PACKAGE_JSON.match(head):
        return 0.95
    return 0.8 if _PACKAGE_INDEX.match(head) and name.rpartition("/")[2].lower() == "index.json" else 0.0


def read_package(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """Nothing: its index, or its messages where the index is missing, are refused with what to do instead.

    Raises:
        BadFileError: always, but for channels beside an index, which speaks for all of them.
    """
    if file.name.rpartition("/")[2].lower() != "index.json" and near(file, "../index.json").exists():
        say("of Discord's own data package, which is not used")
        return
    raise BadFileError(file.name, "own_side_only", _OWN_SIDE)
    yield


READERS = (
    Reader(
        source="discord",
        name="DiscordChatExporter (JSON)",
        sniff=sniff,
        read=read,
        how="DiscordChatExporter, choose the direct chats and channels, format: JSON. Discord's own data package will "
        "not do: it lacks what others wrote.",
    ),
    Reader(
        source="discord",
        name="Discord's data package",
        sniff=sniff_package,
        read=read_package,
        how="It lacks what others wrote, so use DiscordChatExporter instead.",
    ),
)
