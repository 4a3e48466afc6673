"""Google Chat from Takeout: a folder per conversation with `messages.json`, who takes part in `group_info.json`.

The owner stands in `Users/*/user_info.json` of the same download, maybe in another of its zips. People are known by
their e-mail addresses. Replies to a topic stand between the other messages; a topic of several messages is a
conversation of its own.
"""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaegpt.exports.reactions import REASON, add_reaction
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time, iso_ms
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, settle
from jaegpt.exports.readers.json_stream import open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.readers.neighbours import content_of, matching, near
from jaegpt.exports.rows import kind_of

_DELETED_USER = "Deleted User"
_MONTH_NAMES = "January February March April May June July August September October November December"
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES.split(), start=1)}
# Always in English and UTC; before AM and PM stands a space of some kind.
_DAY = re.compile(r"\w+, (\w+) (\d{1,2}), (\d{4})")
_CLOCK = re.compile(r"(1[0-2]|[1-9]):([0-5]\d):([0-5]\d)\s?([AP])M UTC")
# Keys that can change what becomes of a message.
_TELLING = frozenset(("message_state", "deletion_metadata", "annotations"))
_FOLDER = re.compile(r"(DM|Space) ([^\s(]+)")
_TOPIC = re.compile(rb'"topic_id"\s*:\s*"([^"\\]*)"')
_SCAN_BYTES = 2**20
_ZIP_NUMBER = re.compile(r"\d+(?=\.zip$)", re.IGNORECASE)

_FIRST = re.compile(rb'"messages"\s*:\s*\[\s*\{\s*"creator"\s*:\s*\{')
_CREATED = re.compile(rb'"created_date"\s*:\s*"')


def sniff(name: str, head: bytes) -> float:
    """Sure by the first message's keys; one whose creator is gone begins with its date."""
    start = head.lstrip()
    if not start.startswith(b"{") or b'"messages"' not in head:
        return 0.0
    if _FIRST.search(head) and (_CREATED.search(head) or b'"user_type"' in head):
        return 0.95
    return 0.9 if _CREATED.search(head) and (b'"topic_id"' in head or b'"message_id"' in head) else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The conversation of a file, and those of its topics.

    Raises:
        BadFileError: it or the file that describes it is no JSON, or is cut off.
    """
    group = _Group.described(file, options.reactions)
    with open_json(file) as json:
        for key in json.members():
            if key == "messages":
                for batch in json.batches():
                    group.take(batch)
                    if group.num_waiting >= PIECE_MESSAGES:
                        yield from group.finished()
    yield from group.finished()


@dataclass
class _Group:
    """A conversation whose messages are being read, by topic.

    Attributes:
        key: its id, which is the folder's name.
        title: for people.
        is_group: None where its id is not known.
        owner: the owner's e-mail address, and name; "" where the download does not say.
        topics: those of several messages.
        reactions: whether reactions become messages.
    """

    key: str
    title: str
    is_group: bool | None
    owner: tuple[str, str]
    names: Names
    people: tuple[str, ...]
    topics: frozenset[str]
    reactions: bool = False
    threads: dict[str, SourceThread] = field(default_factory=dict)
    num_read: int = 0
    num_waiting: int = 0

    @classmethod
    def described(cls, file: SourceFile, reactions: bool) -> "_Group":
        info = content_of(near(file, "group_info.json"))
        info = info if type(info) is dict else {}
        names, owner = Names(), _owner_of(file)
        members = [row for row in _list(info.get("members")) if type(row) is dict]
        if owner[0]:
            names.of(*owner)
        people = tuple(dict.fromkeys(names.of(*_identity(row)) for row in members))
        folder = file.name.split("/")[-2:][0]
        found = _FOLDER.match(folder)
        is_group = found[1] == "Space" if found else len(people) > 2 if people else None
        title = info.get("name") if type(info.get("name")) is str else ""
        if not title:
            title = ", ".join(name for name in people if name != names.get(owner[0])) or folder
        key, topics = found[0] if found else folder, _topics_of_several(file)
        return cls(key, title, is_group, owner, names, people, topics, reactions)

    def take(self, batch: list[Any]) -> None:
        for place, message in enumerate(batch, start=self.num_read):
            topic = message.get("topic_id") if type(message) is dict else None
            thread = self._thread(topic if type(topic) is str and topic in self.topics else "")
            settle(thread, "messages", place, self._judge, message, thread)
        self.num_read, self.num_waiting = self.num_read + len(batch), self.num_waiting + len(batch)

    def _thread(self, topic: str) -> SourceThread:
        """The piece that is waiting of a topic of several messages, or of all others: ""."""
        thread = self.threads.get(topic)
        if thread is None:
            key = f"{self.key}/{topic}" if topic else self.key
            thread = SourceThread(key, title=self.title, people=self.people, is_group=self.is_group)
            thread.resolution_ms = 1000
            self.threads[topic] = thread
        return thread

    def finished(self) -> Iterator[SourceThread]:
        """What is waiting, with the owner; what follows begins other pieces."""
        for thread in self.threads.values():
            name = self.names.get(self.owner[0]) if self.owner[0] else None
            thread.owner, thread.owner_is_marked = ((name,), True) if name else ((), False)
            yield thread
        self.threads, self.num_waiting = {}, 0

    def _judge(self, message: Any, thread: SourceThread) -> str | None:
        """Add a message and the reactions to it to its thread, or say why not."""
        reason = self._add(message, thread)
        if self.reactions and "reactions" in message:
            given = list(_given(message["reactions"]))
            if reason:
                thread.dropped[REASON] += len(given)
            else:
                time = thread.sent_at[-1]  # reactions have none
                for email, emoji in given:
                    add_reaction(thread, self.names.get(email) or email, time, emoji)
        return reason

    def _add(self, message: Any, thread: SourceThread) -> str | None:
        """Add a message to its thread, or say why not."""
        if type(message) is not dict:
            raise ValueError(f"{kind_of(message)} instead of an object")
        if not _TELLING.isdisjoint(message):
            if message.get("message_state") == "DELETED" or "deletion_metadata" in message:
                return "deleted"
            if _is_annotated(message, "slash_command_metadata"):
                return "command"
        creator, text = message.get("creator", {}), message.get("text", "")
        if type(creator) is not dict:
            raise ValueError(f"`creator` is {kind_of(creator)} instead of an object")
        if creator.get("user_type") == "Bot":
            return "bot"
        time = _time(message.get("created_date"))
        if type(text) is not str:
            raise ValueError(f"`text` is {kind_of(text)} instead of a text")
        if not text.strip():
            if message.get("attached_files"):
                return "media"
            return "call" if _is_annotated(message, "video_call_metadata") else "empty"
        thread.add(self.names.of(*_identity(creator)), time, text)
        return None


def _given(listed: Any) -> Iterator[tuple[str, object]]:
    """(e-mail address, emoji) of each reaction to a message; "" where it does not say whose it is."""
    for kind in _list(listed):
        emoji, emails = (kind.get("emoji"), kind.get("reactor_emails")) if type(kind) is dict else (None, None)
        sign = emoji.get("unicode") if type(emoji) is dict else None  # an organisation's own emoji are pictures
        for email in _list(emails) or [""]:
            yield email if type(email) is str else "", sign


def _is_annotated(message: dict[str, Any], kind: str) -> bool:
    return any(type(row) is dict and kind in row for row in _list(message.get("annotations")))


def _identity(person: dict[str, Any]) -> tuple[str, str]:
    """(what identifies somebody, name): the e-mail address, or the name where that is missing."""
    email, name = person.get("email"), person.get("name")
    if type(email) is str and email:
        return email, name if type(name) is str and name else email
    name = name if type(name) is str and name else _DELETED_USER
    return name, name


def _list(value: Any) -> list[Any]:
    return value if type(value) is list else []


def _owner_of(file: SourceFile) -> tuple[str, str]:
    """(e-mail address, name) of the account whose download it is; "" twice if no file says so."""
    # Users lie beside the groups. Their folders are called so in English alone, the conversations' and files always.
    if not _FOLDER.match(file.name.split("/")[-2:][0]):
        return "", ""
    places = [file]
    if file.member is not None:
        zips = Path(file.path).parent.glob("*.zip")
        family = _ZIP_NUMBER.sub("", Path(file.path).name)
        siblings = sorted(str(path) for path in zips if _ZIP_NUMBER.sub("", path.name) == family)
        places += [SourceFile(path, file.member) for path in siblings if path != file.path]
    for place in places:
        for found in matching(place, "../..", "*/*/user_info.json"):
            content = content_of(found)
            user = content.get("user") if type(content) is dict else None
            if type(user) is dict and type(user.get("email")) is str:
                return _identity(user)
    return "", ""


def _topics_of_several(file: SourceFile) -> frozenset[str]:
    """The topics that occur more than once: found in the bytes, since the messages may not fit into memory."""
    seen: set[bytes] = set()
    several: set[bytes] = set()
    rest = b""
    with file.open() as stream:
        while block := stream.read(_SCAN_BYTES):
            window, end = rest + block, 0
            for match in _TOPIC.finditer(window):
                (several if match[1] in seen else seen).add(match[1])
                end = match.end()
            rest = window[max(end, len(window) - 256) :]  # a topic may lie across the edge of the block
    return frozenset(topic.decode("utf-8", "replace") for topic in several)


def _time(value: Any) -> int:
    if type(value) is not str:
        raise ValueError(f"`created_date` is {kind_of(value)} instead of a time")
    day, _, clock = value.partition(" at ")
    if clock:
        return _midnight_ms(day) + _clock_ms(clock)
    if value[:1].isdigit():
        return iso_ms(value, "created_date")
    hint = "set the account's language to English, and make the download again"
    raise ValueError(f"`created_date` {value[:60]!r} is no date in English; {hint}")


@functools.lru_cache(maxsize=4096)
def _midnight_ms(value: str) -> int:
    found = _DAY.fullmatch(value)
    if not found or found[1] not in _MONTHS:
        raise ValueError(f"`created_date` {value[:60]!r} is no day in English")
    midnight = datetime(int(found[3]), _MONTHS[found[1]], int(found[2]), tzinfo=UTC)
    return checked_time(int(midnight.timestamp()) * 1000, "created_date")


@functools.lru_cache(maxsize=100_000)  # a day has 86,400 seconds
def _clock_ms(value: str) -> int:
    found = _CLOCK.fullmatch(value)
    if not found:
        raise ValueError(f"`created_date` has {value[:60]!r} for a time of the day")
    hours = int(found[1]) % 12 + 12 * (found[4] == "P")
    return ((hours * 60 + int(found[2])) * 60 + int(found[3])) * 1000


READER = Reader(
    source="google_chat",
    name="Google Chat (Takeout)",
    sniff=sniff,
    read=read,
    how="takeout.google.com, deselect all, then Google Chat; several zips of one download belong together.",
)
