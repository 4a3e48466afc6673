"""Instagram's `messages.json`, its one file of all threads until December 2020.

A list of `{"participants": ["ben_o", "zoe.tvn"], "conversation": [{"sender", "created_at", "text"}, ...]}`, newest
first, times as ISO 8601. People go by their user names, which are theirs alone; threads have no name or number.
"""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.people import clean_name
from jaegpt.exports.rows import Dialect, Verdict

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_USUAL = {"video_call_action": (None,), "action": (None,)}
_CALL = re.compile(r"call|video chat", re.IGNORECASE)


def judge(message: dict[str, Any]) -> Verdict:
    """The text of a message; what Instagram wrote about a call or an action stands beside it under keys of its own."""
    if message.get("video_call_action") is not None:
        return None, "call"
    action = message.get("action")
    if isinstance(action, str) and not message.get("text"):
        return None, "call" if _CALL.search(action) else "thread"
    return message.get("text"), None


MILLISECONDS = Dialect("sender", "created_at", 1, "text", _USUAL, judge)
WHOLE_SECONDS = Dialect("sender", "created_at", 1000, "text", _USUAL, judge)


def is_conversations(raw: bytes) -> bool:
    """Whether a file's bytes show that it is of this format; other services have a `messages.json` too."""
    return b'"conversation"' in raw and b'"participants"' in raw


def conversations_of(content: object, path: str) -> list[tuple[list[str], str, Dialect, list[Any]]]:
    """(participants, what identifies the thread, its dialect, messages with times as numbers) of each thread of a file.

    Raises:
        BadFileError: the file is not of this format.
    """
    if not isinstance(content, list):
        raise BadFileError(
            path, "wrong_structure", f"found {type(content).__name__} where a list of threads was expected"
        )
    found = []
    bearers: Counter[str] = Counter()
    for index, thread in enumerate(content):
        people = thread.get("participants") if isinstance(thread, dict) else None
        messages = thread.get("conversation") if isinstance(thread, dict) else None
        if not isinstance(people, list) or not isinstance(messages, list):
            raise BadFileError(path, "wrong_structure", f"thread {index} lacks a list of participants or of messages")
        if not all(isinstance(name, str) for name in people):
            raise BadFileError(path, "wrong_structure", f"thread {index} has a participant that is not a name")
        name = f"conversation of {', '.join(sorted(map(clean_name, people)))}"
        bearers[name] += 1  # a group may have the same members as another one
        key = name if bearers[name] == 1 else f"{name} ({bearers[name]})"
        found.append((people, key, *_with_numbers(messages)))
    return found


def _with_numbers(messages: list[Any]) -> tuple[Dialect, list[Any]]:
    """The messages with their times as whole numbers: of milliseconds, or of seconds where no file knows more."""
    times = [_time(message.get("created_at")) if isinstance(message, dict) else None for message in messages]
    in_seconds = bool(times) and all(time is None or time % 1000 == 0 for time in times)
    unit = 1000 if in_seconds else 1
    timed = [
        message if time is None else {**message, "created_at": time // unit}
        for message, time in zip(messages, times, strict=True)
    ]
    return (WHOLE_SECONDS if in_seconds else MILLISECONDS), timed


def _time(written: object) -> int | None:
    """Milliseconds since 1970; None where it is not a time, and the message malformed."""
    if not isinstance(written, str):
        return None
    try:
        moment = datetime.fromisoformat(written)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
