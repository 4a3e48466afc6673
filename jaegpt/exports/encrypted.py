"""The end-to-end-encrypted download: a flat folder of `Name_N.json`, one thread each."""

from dataclasses import replace
from typing import Any

from jaegpt.exports.rows import Dialect, Verdict, is_a_time

_USUAL = {"isUnsent": (None, False), "type": (None, "text", "media", "link", "Generic")}


def judge(message: dict[str, Any]) -> Verdict:
    """The text of a message; its `type` matters only where it says that something was unsent."""
    if message.get("isUnsent"):
        return None, "unsent"
    if message.get("type") == "placeholder":
        return None, "unsent" if "unsent" in str(message.get("text")) else "placeholder"
    return message.get("text"), None


ENCRYPTED = Dialect("senderName", "timestamp", 1, "text", _USUAL, judge)
ENCRYPTED_SECONDS = replace(ENCRYPTED, time_unit_ms=1000)


def encrypted_dialect_of(messages: list[Any]) -> Dialect:
    """Times are ms. Some programs write seconds, so the first plausible time decides for all of the file."""
    times = (message.get(ENCRYPTED.time) for message in messages if isinstance(message, dict))
    for time in times:
        if type(time) is int and (is_a_time(time, ENCRYPTED) or is_a_time(time, ENCRYPTED_SECONDS)):
            return ENCRYPTED if is_a_time(time, ENCRYPTED) else ENCRYPTED_SECONDS
    return ENCRYPTED


def is_encrypted_download(raw: bytes) -> bool:
    """Whether a file's bytes show that it is of this format, however damaged; its name alone does not."""
    return b'"threadName"' in raw or b'"senderName"' in raw
