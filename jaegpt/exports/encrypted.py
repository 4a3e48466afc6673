"""The end-to-end-encrypted download: a flat folder of `Name_N.json`, one thread each."""

from typing import Any

from jaegpt.exports.rows import Shape, Verdict

_USUAL = {"isUnsent": (None, False), "type": (None, "text", "media", "link", "Generic")}


def judge(message: dict[str, Any]) -> Verdict:
    """The text of a message; its `type` matters only where it says that something was unsent."""
    if message.get("isUnsent"):
        return None, "unsent"
    if message.get("type") == "placeholder":
        return None, "unsent" if "unsent" in str(message.get("text")) else "placeholder"
    return message.get("text"), None


ENCRYPTED = Shape("senderName", "timestamp", 1, "text", _USUAL, judge)


def is_encrypted_download(raw: bytes) -> bool:
    """Whether a file's bytes show that it is of this format, however damaged; its name alone does not."""
    return b'"threadName"' in raw or b'"senderName"' in raw
