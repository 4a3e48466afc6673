"""Slack: workspace exports (a folder per conversation, in it a file per day), and slackdump's, which has that or one
file per conversation.

Names and conversations are described by lists in the folder above. Replies in a thread stand between the messages of
the channel; each thread is a conversation of its own, which begins with the message that was replied to.
"""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import REASON, add_reaction
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, malformed
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.readers.neighbours import content_of, near, stamp_of
from jaegpt.exports.readers.slack_emoji import emoji_named
from jaegpt.exports.readers.slack_markup import plain_text
from jaegpt.exports.rows import kind_of

_LISTS = ("channels", "groups", "mpims", "dms")
_BY_HUMANS = (None, "thread_broadcast", "me_message", "file_share")
_REASONS = {
    "bot_message": "bot",
    "tombstone": "deleted",
    "message_deleted": "deleted",
    "message_changed": "edited_away",
    "huddle_thread": "call",
    "sh_room_created": "call",
}
_SLACKBOT = "USLACKBOT"
_TS = re.compile(r"(\d{9,11})\.(\d{6})", re.ASCII)

_MESSAGE = re.compile(rb'"type"\s*:\s*"message"')
_HAS_TS = re.compile(rb'"(?:ts|thread_ts)"\s*:\s*"\d{9,11}\.\d{6}"')
_FILES = re.compile(rb'"files"\s*:\s*\[\s*\{\s*"id"\s*:\s*"F[A-Z0-9]+"')
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.json")


def sniff(name: str, head: bytes) -> float:
    """Sure by the times, which are texts of seconds and microseconds; a first message with files may hide them."""
    start = head.lstrip()
    if start.startswith(b"[") and start[1:].lstrip().startswith(b"{"):
        if _HAS_TS.search(head) and (_MESSAGE.search(head) or b'"subtype"' in head or b'"user"' in head):
            return 0.9
        return 0.7 if _DAY.fullmatch(name.rpartition("/")[2]) and _FILES.search(head) else 0.0
    if start.startswith(b"{") and b'"messages"' in head and _HAS_TS.search(head) and _MESSAGE.search(head):
        return 0.9
    return 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The messages of a day, or of a conversation that slackdump wrote: those of the channel, and each thread's.

    Raises:
        BadFileError: it or a list above it is no JSON, or is cut off.
    """
    with open_json(file) as json:
        if json.kind() == b"[":
            folder = file.name.split("/")[-2:][0]
            yield from _Day(_workspace_of(file, ".."), folder, options.reactions).read(json)
        else:
            yield from _read_dump(file, json, options.reactions, say)


def _read_dump(
    file: SourceFile, json: JsonStream, reactions: bool, say: Callable[[str], None]
) -> Iterator[SourceThread]:
    """slackdump's file of one conversation, whose id stands behind the messages."""
    channel, start = None, None
    for key in json.members():
        if key == "messages":
            start = json.position
        elif key == "channel_id":
            channel = json.value()
    if type(channel) is not str or start is None:
        raise BadFileError(file.name, "wrong_structure", "no list `messages` with a `channel_id` beside it")
    workspace = _workspace_of(file, ".")
    if not workspace.people:
        say("there is no users.json beside it, so that people go by their ids; export it with slackdump too")
    end = json.position
    json.seek(start)
    yield from _Day(workspace, channel, reactions).read(json)
    json.seek(end)


@dataclass(frozen=True)
class _Channel:
    """A conversation as the lists describe it."""

    key: str
    title: str
    is_group: bool | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Workspace:
    """What the lists say: names and bots by id, conversations by the name of their folder, their names by id."""

    people: dict[str, str]
    bots: frozenset[str]
    channels: dict[str, _Channel]
    titles: dict[str, str]
    owner: str | None


def _workspace_of(file: SourceFile, folder: str) -> _Workspace:
    lists = tuple(near(file, f"{folder}/{name}.json") for name in ("users", *_LISTS))
    return _workspace(lists, tuple(stamp_of(one) for one in lists))


@functools.lru_cache(maxsize=4)
def _workspace(lists: tuple[SourceFile, ...], stamps: tuple[tuple[int, int] | None, ...]) -> _Workspace:
    """The lists of a workspace, read once though each of its days asks for them."""
    users, *of_channels = ([row for row in content if type(row) is dict] for content in map(_listed, lists))
    names = Names()
    people = {user["id"]: names.of(user["id"], _name(user)) for user in users if type(user.get("id")) is str}
    bots = frozenset(user["id"] for user in users if user.get("is_bot") is True and type(user.get("id")) is str)
    channels, titles = {}, {}
    for kind, rows in zip(_LISTS, of_channels, strict=True):
        for row in rows:
            identity, name = row.get("id"), row.get("name")
            if type(identity) is not str:
                continue
            members = row.get("members")
            known = tuple(one for one in members if type(one) is str) if type(members) is list else ()
            title = name if type(name) is str else ""
            if kind in ("dms", "mpims"):
                title = ", ".join(sorted(people.get(one, one) for one in known)) or title
            folder = name if type(name) is str and kind != "dms" else identity
            channel = _Channel(identity, title, kind != "dms", known if kind in ("dms", "mpims") else ())
            channels[folder] = channels[identity] = channel
            titles[identity] = title
    direct = [set(channel.members) for channel in {one.key: one for one in channels.values()}.values()
              if channel.is_group is False and len(set(channel.members)) == 2]  # fmt: skip
    # A member's own export has that member in every direct conversation; with one such both could be.
    common = set.intersection(*direct) if len(direct) > 1 else set()
    return _Workspace(people, bots, channels, titles, common.pop() if len(common) == 1 else None)


def _listed(file: SourceFile) -> list[Any]:
    content = content_of(file)
    if content is not None and type(content) is not list:
        raise BadFileError(file.name, "wrong_structure", f"found {kind_of(content)} where a list was expected")
    return content or []


def _name(user: dict[str, Any]) -> str:
    """What Slack shows: the display name, else the real one, else the account's."""
    profile = user.get("profile") if type(user.get("profile")) is dict else {}
    assert profile is not None
    found = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name"))
    return next((name for name in found if type(name) is str and name.strip()), str(user.get("id")))


@dataclass
class _Day:
    """The messages of a file, by thread."""

    workspace: _Workspace
    folder: str
    reactions: bool = False  # whether these become messages
    threads: dict[str, SourceThread] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of people who are in no list
    seen: set[str] = field(default_factory=set)
    num_read: int = 0
    num_waiting: int = 0  # of the messages read, those that are still to be handed over

    def __post_init__(self) -> None:
        self.channel = self.workspace.channels.get(self.folder) or _Channel(self.folder, self.folder)

    def read(self, json: JsonStream) -> Iterator[SourceThread]:
        for batch in json.batches():
            for message in batch:
                self._take(message)
            if self.num_waiting >= PIECE_MESSAGES:
                yield from self._finished()
        yield from self._finished()

    def _finished(self) -> Iterator[SourceThread]:
        owner = self.workspace.owner
        for thread in self.threads.values():
            if owner:
                thread.owner = (self._name_of(owner, {}),)
            thread.resolution_ms = 1 if any(time % 1000 for time in thread.sent_at) else 1000
            yield thread
        self.threads, self.num_waiting = {}, 0

    def _take(self, message: Any) -> None:
        replies = message.get("slackdump_thread_replies") if type(message) is dict else None
        thread = self._thread_of(message)
        try:
            reason = self._judge(message, thread)
        except ValueError as fault:
            malformed(thread, f"message {self.num_read}", fault)
        else:
            if reason:
                thread.dropped[reason] += 1
            if self.reactions and "reactions" in message:
                self._react(list(_given(message["reactions"])), thread, reason)
        self.num_read, self.num_waiting = self.num_read + 1, self.num_waiting + 1
        for reply in replies if type(replies) is list else ():
            if type(reply) is dict:
                reply.pop("slackdump_thread_replies", None)  # there are no threads in threads
            self._take(reply)

    def _thread_of(self, message: Any) -> SourceThread:
        key = self.channel.key
        root = message.get("thread_ts") if type(message) is dict else None
        if root is not None and type(root) is str and _TS.fullmatch(root):
            key = f"{key}/{root}"
        thread = self.threads.get(key)
        if thread is None:
            people = tuple(self._name_of(one, {}) for one in self.channel.members)
            thread = SourceThread(key, title=self.channel.title, people=people, is_group=self.channel.is_group)
            self.threads[key] = thread
        return thread

    def _judge(self, message: Any, thread: SourceThread) -> str | None:
        """Add a message to its thread, or say why not."""
        if type(message) is not dict:
            raise ValueError(f"{kind_of(message)} instead of an object")
        subtype, user, ts = message.get("subtype"), message.get("user"), message.get("ts")
        if message.get("type", "message") != "message":
            return "system"
        found = _TS.fullmatch(ts) if type(ts) is str else None
        if not found:
            raise ValueError("`ts` is no text like 1709647401.000100")
        if message.get("thread_ts") is not None:
            if found[0] in self.seen:  # a reply that was also sent to the channel
                return "repeated"
            self.seen.add(found[0])
        if subtype not in _BY_HUMANS:
            return _REASONS.get(subtype, "system") if type(subtype) is str else "system"
        if message.get("bot_id"):
            return "bot"
        if type(user) is not str or not user:
            raise ValueError(f"`user` is {kind_of(user)} instead of an id")
        if user == _SLACKBOT or user in self.workspace.bots:
            return "bot"
        time = checked_time(int(found[1]) * 1000 + int(found[2]) // 1000, "ts")
        text, has_quote = plain_text(message, self.workspace.people, self.workspace.titles)
        if not text.strip():
            if has_quote:
                return "quoted"
            attached = message.get("attachments")
            is_share = type(attached) is list and any(type(one) is dict and one.get("is_share") for one in attached)
            return "media" if message.get("files") else "forwarded" if is_share else "empty"
        thread.add(self._name_of(user, message.get("user_profile")), time, text)
        return None

    def _react(self, given: list[tuple[str, object]], thread: SourceThread, reason: str | None) -> None:
        """Add the reactions to the message before, at its time, as they have none; not where it was left out."""
        if reason:
            # A reply that was also sent to the channel stands there with its reactions once more.
            thread.dropped[reason if reason == "repeated" else REASON] += len(given)
            return
        time = thread.sent_at[-1]
        for user, name in given:
            is_bot = user == _SLACKBOT or user in self.workspace.bots
            # Whoever is in no list may be named by a message of theirs that follows; until then, they are their id.
            sender = None if is_bot else self.workspace.people.get(user) or self.names.get(user) or user
            add_reaction(thread, sender, time, emoji_named(name))

    def _name_of(self, identity: str, profile: Any) -> str:
        name = self.workspace.people.get(identity) or self.names.get(identity)
        if name is None:
            name = _name({"id": identity, "profile": profile if type(profile) is dict else {}})
            if name in self.workspace.people.values() or name in self.names.values():
                name = f"{name} ({identity})"
            self.names[identity] = name
        return name


def _given(listed: Any) -> Iterator[tuple[str, object]]:
    """(who, name of the emoji) of each reaction to a message; "" where it does not say who."""
    for kind in listed if type(listed) is list else ():
        name, users = (kind.get("name"), kind.get("users")) if type(kind) is dict else (None, None)
        for user in users if type(users) is list and users else [""]:
            yield user if type(user) is str else "", name


READER = Reader(
    source="slack",
    name="Slack export (or slackdump)",
    sniff=sniff,
    read=read,
    how="slackdump, which has direct messages too. An export by the workspace's owner (Settings, Import/export data) "
    "has public channels alone, and on the free plan the last 90 days.",
)
