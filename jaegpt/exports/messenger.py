"""Messenger's and Instagram's `message_N.json`, from the seconds of early 2018 to now."""

import re
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.rows import Dialect, Verdict
from jaegpt.exports.system_rules import ANY_THING, POSTS

# The keys that decide what becomes of a message, each with the values that leave it as it is.
_USUAL = {
    "is_taken_down": (None, False),
    "is_unsent": (None, False),
    "call_duration": (None,),
    "missed": (None, False),
    "type": (None, "Generic", "Share"),
    "share": (None,),
}
_TYPES = {"Call": "call", "Subscribe": "subscription", "Unsubscribe": "subscription", "Payment": "payment"}
# Written where a share's own text would stand: by Messenger, or by the writer who pasted an address and no more.
_STAND_IN = re.compile(
    rf".{{1,120}} (?:sent|shared) an? (?:live )?{ANY_THING}\.|(?:You s|S)(?:ent|hared) an? (?:{POSTS})"
    r"|\s*(?:https?://|www\.)\S+\s*",
    re.DOTALL,
)
# Games and apps that post in a player's name; and the live scores and listings that refresh themselves.
_APPS = ("8 Ball Pool", "Robinhood", "Words With Friends")
_CHESS = "Chess:"  # how the game's posts begin; in what a page says of itself it means nothing
_REFRESHED = "Last update"


def judge(message: dict[str, Any]) -> Verdict:
    """The text of a message with an unusual value, or why it is left out; the most certain rules first."""
    if message.get("is_taken_down"):
        return None, "taken_down"
    if message.get("is_unsent"):
        return None, "unsent"
    if message.get("call_duration") is not None or message.get("missed"):
        return None, "call"
    kind = message.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return None, _TYPES[kind]
    share = message.get("share")
    if isinstance(share, dict):
        return _shared(message.get("content"), share.get("link"), share.get("share_text"))
    return message.get("content"), None


MODERN = Dialect("sender_name", "timestamp_ms", 1, "content", _USUAL, judge)
SECONDS = Dialect("sender_name", "timestamp", 1000, "content", _USUAL, judge)


def dialect_of(messages: list[Any]) -> Dialect:
    """How a file writes its messages: until August 2018 times are `timestamp`, in seconds; a few may be missing."""
    for key, dialect in ((MODERN.time, MODERN), (SECONDS.time, SECONDS)):
        if any(key in message for message in messages if isinstance(message, dict)):
            return dialect
    return MODERN


def is_thread(raw: bytes) -> bool:
    """Whether a file's bytes show that it is of this format; only for files whose name and place do not show it."""
    return b'"sender_name"' in raw and b'"participants"' in raw


def thread_of(content: object, path: str) -> tuple[list[str], str, bool | None, list[Any]]:
    """(participants, title, whether it says to be a group, messages) of a parsed file, names as written there.

    Raises:
        BadFileError: it is not a thread.
    """
    if not isinstance(content, dict):
        raise BadFileError(path, "wrong_structure", f"found {type(content).__name__} where a thread was expected")
    participants, messages = content.get("participants"), content.get("messages")
    if not isinstance(participants, list) or not isinstance(messages, list):
        key = "messages" if isinstance(participants, list) else "participants"
        found = "nothing" if content.get(key) is None else type(content[key]).__name__
        raise BadFileError(path, "wrong_structure", f"`{key}` is {found} instead of a list")
    names: list[Any] = [person.get("name") if isinstance(person, dict) else person for person in participants]
    if not all(isinstance(name, str) for name in names):
        raise BadFileError(path, "wrong_structure", "`participants` holds something that is not a name")
    title = content.get("title", content.get("threadName"))
    declared = {"RegularGroup": True, "Regular": False}
    kind = content.get("thread_type")
    is_group = declared.get(kind) if isinstance(kind, str) else None
    return names, title if isinstance(title, str) else "", is_group, messages


def _shared(content: Any, link: Any, share_text: Any) -> Verdict:
    """What stands for a share: the words written beside it, else its link, else its text.

    The seed kept such words too, and appended the link to them.
    """
    words = content if isinstance(content, str) and not _STAND_IN.fullmatch(content) else None
    quoted = share_text if isinstance(share_text, str) else ""
    if any(app in text for app in _APPS for text in (content, share_text) if isinstance(text, str)):
        return None, "app_share"
    if isinstance(content, str) and _CHESS in content:
        return None, "app_share"
    if quoted.startswith(_REFRESHED):
        return None, "app_share"
    if words and words.strip():
        return words, None
    if isinstance(link, str) and link.strip():
        return link, None
    return quoted or content, None
