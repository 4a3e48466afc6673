"""Google Hangouts from Takeout: one `Hangouts.json` with all conversations, in its layouts before and since 2018."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import malformed
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.readers.names import Names
from jaegpt.exports.rows import kind_of

_WITH_TEXT = ("REGULAR_CHAT_MESSAGE", "SMS")
_REASONS = {"HANGOUT_EVENT": "call", "PHONE_CALL": "call", "VOICEMAIL": "media", "GOOGLE_VOICE_VOICEMAIL": "media"}
_SEGMENTS = ("TEXT", "LINK", "LINE_BREAK")

_BEGINNING = re.compile(
    rb'"conversations"\s*:\s*\[\s*\{\s*"conversation"\s*:\s*\{\s*"conversation_id"'
    rb'|"conversation_state"\s*:\s*\[\s*\{\s*"(?:conversation_id|conversation_state|response_header)"'
)
_Message = tuple[int, str, str]  # ms since 1970, identity of the sender, text


def sniff(name: str, head: bytes) -> float:
    """Sure by how the list of conversations begins."""
    start = head.lstrip()
    return 0.95 if start.startswith(b"{") and _BEGINNING.search(head) else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The conversations of a file, each one's messages by time.

    Raises:
        BadFileError: it is no JSON, or is cut off.
    """
    with open_json(file) as json:
        for key in json.members():
            if key in ("conversations", "conversation_state"):
                for _ in json.elements():
                    yield from _conversation(json)


def _conversation(json: JsonStream, is_inner: bool = False) -> Iterator[SourceThread]:
    """The conversation ahead; before 2018 what it is stood one level deeper."""
    about: Any = None
    events_at = None
    thread, found = SourceThread(""), []
    for key in json.members():
        if key == "conversation":
            about = json.value()
        elif key in ("events", "event"):
            events_at = json.position
            found = _events(json, thread)
        elif key == "conversation_state" and not is_inner:
            yield from _conversation(json, is_inner=True)
    if thread.num_read or found:
        _describe(thread, about, found, f"conversation at byte {events_at:,}")
        yield thread


def _events(json: JsonStream, thread: SourceThread) -> list[_Message]:
    """The messages of the list ahead, in its order; what is not a message is counted in the thread."""
    found: list[_Message] = []
    num_read = 0
    for batch in json.batches():
        for event in batch:
            try:
                message = _message(event)
            except ValueError as fault:
                malformed(thread, f"event {num_read} of conversation", fault)
            else:
                if isinstance(message, str):
                    thread.dropped[message] += 1
                else:
                    found.append(message)
            num_read += 1
    return found


def _message(event: Any) -> _Message | str:
    """A message, or the reason to leave the event out."""
    if type(event) is not dict:
        raise ValueError(f"{kind_of(event)} instead of an object")
    kind, stamp = event.get("event_type"), event.get("timestamp")
    if type(kind) is not str:
        raise ValueError(f"`event_type` is {kind_of(kind)} instead of a text")
    if kind not in _WITH_TEXT:
        return _REASONS.get(kind, "system")
    digits = str(stamp) if type(stamp) in (str, int) else ""
    if not digits.isdecimal() or len(digits) > 20:
        raise ValueError("`timestamp` is no number of microseconds")
    time = checked_time(int(digits) // 1000, "timestamp")
    sender = _identity(event.get("sender_id"))
    if not sender:
        raise ValueError("`sender_id` has neither `gaia_id` nor `chat_id`")
    chat = event.get("chat_message")
    content = chat.get("message_content") if type(chat) is dict else None
    if type(content) is not dict:
        raise ValueError("`chat_message` has no `message_content`")
    text = _text(content.get("segment"))
    if not text.strip():
        return "media" if content.get("attachment") else "empty"
    return time, sender, text


def _text(segments: Any) -> str:
    if segments is None:
        return ""
    if type(segments) is not list:
        raise ValueError(f"`segment` is {kind_of(segments)} instead of a list")
    parts = []
    for segment in segments:
        if type(segment) is not dict or segment.get("type") not in _SEGMENTS:
            raise ValueError("`segment` has a part of no known type")
        text = segment.get("text", "\n" if segment["type"] == "LINE_BREAK" else "")
        if type(text) is not str:
            raise ValueError(f"`segment` has a text that is {kind_of(text)}")
        parts.append(text)
    return "".join(parts)


def _identity(person: Any) -> str:
    """What identifies somebody; "" where nothing does."""
    if type(person) is not dict:
        return ""
    return next((person[key] for key in ("gaia_id", "chat_id") if type(person.get(key)) is str and person[key]), "")


def _describe(thread: SourceThread, about: Any, messages: list[_Message], place: str) -> None:
    """Fill in who talks, and the messages by time."""
    about = about if type(about) is dict else {}
    ids = [about.get("conversation_id"), about.get("id")]
    inner = about["conversation"] if type(about.get("conversation")) is dict else about
    ids.append(inner.get("id"))
    numbers = [one.get("id") for one in ids if type(one) is dict]
    names = Names()
    participants = inner.get("participant_data")
    for person in participants if type(participants) is list else ():
        identity = _identity(person.get("id")) if type(person) is dict else ""
        name = person.get("fallback_name") if identity else None
        if identity:
            names.of(identity, name if type(name) is str and name.strip() else identity)
    owner = inner
    for key in ("self_conversation_state", "self_read_state", "participant_id"):
        owner = owner.get(key) if type(owner) is dict else None
    identity = _identity(owner)
    if identity:
        thread.owner, thread.owner_is_marked = (names.of(identity, identity),), True
    people = [names.get(one) or one for one in names.identities()]
    thread.key = next((number for number in numbers if type(number) is str and number), place)
    title = inner.get("name")
    others = ", ".join(name for name in people if name not in thread.owner)
    thread.title = title if type(title) is str and title else others
    kind = inner.get("type")
    thread.is_group = kind == "GROUP" if kind in ("GROUP", "STICKY_ONE_TO_ONE") else None
    thread.people = tuple(people)
    if thread.fault:
        thread.fault = f"{thread.fault} ({thread.key})"
    for time, sender, text in sorted(messages, key=lambda message: message[0]):
        thread.add(names.of(sender, sender), time, text)


READER = Reader(
    source="hangouts",
    name="Google Hangouts (Takeout)",
    sniff=sniff,
    read=read,
    how="takeout.google.com had it until 2022; its conversations are in Google Chat's download now.",
)
