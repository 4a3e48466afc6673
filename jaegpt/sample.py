"""The embedded sample: real conversations of `chitchat-dataset` (MIT), written the way Messenger writes an export.

The owner is the dataset's most prolific speaker and every other speaker a contact with one thread. Speakers are random
identifiers in the dataset; the display names here are invented, with accents, so that the double encoding of Meta's
files is exercised on every run.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import chitchat_dataset
import orjson

MESSAGES_PER_FILE = 10_000  # Messenger's own limit
CONVERSATIONS = 500  # the owner's first so many, so that `make repro` takes about 15 minutes on two cores
OWNER_NAME = "Maëlle Tarvén"
FIRST_NAMES = (
    "Zoë", "André", "Chloé", "Łucja", "Søren", "Jürgen", "Nuño", "Renée", "Inês", "Björn", "Anaïs", "Siân",
    "Tomáš", "Gülay", "Ömer", "Ludmiła", "Ángel", "Dóra", "Žofie", "Ștefan", "Aylin", "Théo", "Márta",
    "Eñaut",
)  # fmt: skip
LAST_NAMES = (
    "Brévoll", "Quillón", "Lindmørk", "Távarro", "Grünfelt", "Okońska", "Desmarée", "Halvøy", "Çelmez",
    "Řebíček", "Fonsâo", "Wýnter",
)  # fmt: skip

# Where contact number `index % 29` lands when not in the inbox; the busiest contacts come first and stay there.
_BOXES = {7: "archived_threads", 15: "e2ee_cutover", 20: "filtered_threads", 26: "message_requests"}
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def write_sample(folder: str | Path, copies: int = 1, rank: int = 1) -> dict[str, int]:
    """Write the sample export under `folder` and return its counts (`threads`, `messages`).

    Conversations in which the owner is alone are left out: nobody answered them, so they belong to no thread. The first
    CONVERSATIONS of the others are taken.
    With `copies` > 1 the same threads are written again under other thread numbers, for measurements of speed. With
    `rank` 2 the owner is the second most prolific speaker, to see what holds for another person.
    """
    folder = Path(folder)
    threads = _threads_by_partner(rank)
    for copy in range(copies):
        for index, (partner, messages) in enumerate(threads):
            _write_thread(folder, index, f"{partner}/{copy}" if copy else partner, messages)
    profile = {"profile_v2": {"name": {"full_name": double_encode(OWNER_NAME)}}}
    _write_json(folder / "personal_information/profile_information/profile_information.json", profile)
    return {"threads": len(threads) * copies, "messages": sum(len(messages) for _, messages in threads) * copies}


def double_encode(text: str) -> str:
    """What Meta's exporter does to text: each UTF-8 byte becomes a character of its own ("é" -> "Ã©")."""
    return text.encode("utf-8").decode("latin-1")


def contact_name(index: int) -> str:
    """The invented display name of contact `index`; all names below 288 (24 * 12) differ."""
    return f"{FIRST_NAMES[index % len(FIRST_NAMES)]} {LAST_NAMES[(index // len(FIRST_NAMES)) % len(LAST_NAMES)]}"


def _threads_by_partner(rank: int) -> list[tuple[str, list[dict[str, Any]]]]:
    """(partner, messages oldest first) of the speaker with the `rank`-th most messages, the busiest partner first."""
    content = orjson.loads(Path(chitchat_dataset.__file__).with_name("dataset.json").read_bytes())
    conversations = [[message for turn in talk["messages"] for message in turn] for talk in content.values()]
    written = Counter(message["sender"] for talk in conversations for message in talk)
    owner = sorted(written, key=lambda speaker: (-written[speaker], speaker))[rank - 1]
    threads: dict[str, list[dict[str, Any]]] = defaultdict(list)
    shared = [talk for talk in conversations if len(speakers := _speakers(talk)) == 2 and owner in speakers]
    for talk in sorted(shared, key=lambda talk: talk[0]["timestamp"])[:CONVERSATIONS]:
        (partner,) = _speakers(talk) - {owner}
        threads[partner] += [{**message, "is_owner": message["sender"] == owner} for message in talk]
    for messages in threads.values():
        messages.sort(key=lambda message: message["timestamp"])  # stable: ISO times of one zone sort as text
    return sorted(threads.items(), key=lambda item: (-len(item[1]), item[0]))


def _speakers(talk: list[dict[str, Any]]) -> set[str]:
    return {message["sender"] for message in talk}


def _write_thread(folder: Path, index: int, key: str, messages: list[dict[str, Any]]) -> None:
    name = contact_name(index)
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")
    title = "".join(letter for letter in name.lower() if letter.isascii() and letter.isalnum())
    path = f"{_BOXES.get(index % 29, 'inbox')}/{title}_{number}"
    newest_first = [_message(message, OWNER_NAME if message["is_owner"] else name) for message in reversed(messages)]
    for start in range(0, len(newest_first), MESSAGES_PER_FILE):
        content = {
            "participants": [{"name": double_encode(name)}, {"name": double_encode(OWNER_NAME)}],
            "messages": newest_first[start : start + MESSAGES_PER_FILE],
            "title": double_encode(name),
            "is_still_participant": True,
            "thread_path": path,
            "magic_words": [],
        }
        file_number = start // MESSAGES_PER_FILE + 1
        _write_json(folder / f"your_facebook_activity/messages/{path}/message_{file_number}.json", content)


def _message(message: dict[str, Any], sender: str) -> dict[str, Any]:
    """One message in the current era's keys; blank ones have no `content`, as in a real export."""
    text = double_encode(_EMAIL.sub("someone@example.com", message["text"]))
    return {
        "sender_name": double_encode(sender),
        "timestamp_ms": int(datetime.fromisoformat(message["timestamp"]).timestamp() * 1000),
        **({"content": text} if text.strip() else {}),
        "is_geoblocked_for_viewer": False,
        "is_unsent_image_by_messenger_kid_parent": False,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="ascii", newline="\n")
