"""Slack's exports: a folder per conversation with a file per day, lists above it; and slackdump's single file."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.reader_fixtures_json import CONVERSATION, DELETED, FRIEND, OWNER, PHOTO, as_json, ms

IDS = {OWNER: "U01BEN", FRIEND: "U02ANNA"}
DIRECT = "D01ABCDEF"
USERS = [
    {"id": "U01BEN", "name": "ben", "real_name": OWNER, "is_bot": False, "profile": {"display_name": OWNER}},
    {"id": "U02ANNA", "name": "anna", "profile": {"display_name": "", "real_name": FRIEND, "email": "a@x.example"}},
    {"id": "U03ZOE", "name": "zoe", "real_name": "Zoë Quist"},
    {"id": "U04BOT", "name": "helper", "real_name": "Helper", "is_bot": True},
    {"id": "U05ANNA", "name": "anna2", "profile": {"display_name": FRIEND}},
]
LISTS: dict[str, Any] = {
    "users": USERS,
    "channels": [{"id": "C01CAKES", "name": "cakes", "members": ["U01BEN", "U02ANNA"]}],
    "groups": [{"id": "G01SECRET", "name": "secret", "members": ["U01BEN"]}],
    "mpims": [{"id": "G02THREE", "name": "mpdm-ben--anna--zoe-1", "members": ["U01BEN", "U02ANNA", "U03ZOE"]}],
    "dms": [
        {"id": DIRECT, "created": 1, "members": ["U01BEN", "U02ANNA"]},
        {"id": "D02", "created": 1, "members": ["U01BEN", "U03ZOE"]},
    ],
}


def at(time: str, micros: int = 0) -> str:
    return f"{ms(time) // 1000}.{micros:06d}"


def message(sender: str, time: str, text: Any, micros: int = 0, **extra: Any) -> dict[str, Any]:
    made = {"client_msg_id": "1a2b", "type": "message", "text": text, "user": IDS.get(sender, sender)}
    return made | {"ts": at(time, micros), "team": "T1"} | extra


def _in_blocks(text: str) -> list[dict[str, Any]]:
    """The text as Slack's rich text, in which emoji have their code points."""
    before, emoji, after = text.partition("🎉")
    parts: list[dict[str, Any]] = [{"type": "text", "text": before}]
    parts += [{"type": "emoji", "name": "tada", "unicode": "1f389"}] if emoji else []
    parts += [{"type": "text", "text": after}] if after else []
    return [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": parts}]}]


def conversation(only_blocks: bool = False) -> list[dict[str, Any]]:
    """The conversation of all readers, emoji by name as Slack writes them into texts, or everything in blocks."""
    made = []
    for sender, time, text, kind in CONVERSATION:
        if kind == DELETED:
            tombstone = {"subtype": "tombstone", "user": "USLACKBOT", "hidden": True}
            made.append(message(sender, time, "This message was deleted.") | tombstone)
        else:
            extra: dict[str, Any] = {"blocks": _in_blocks(text)} if text else {}
            extra |= {"files": [{"id": "F01", "mimetype": "image/jpeg"}], "upload": True} if kind == PHOTO else {}
            made.append(message(sender, time, "" if only_blocks else text.replace("🎉", ":tada:"), **extra))
    return made


def write_export(
    folder: Path, messages: Iterable[Any], conversation: str = DIRECT, day: str = "2024-03-05", **lists: Any
) -> Path:
    """The file of a day, with the lists above it; those given as None are left out."""
    for name, content in (LISTS | lists).items():
        if content is not None:
            (folder / f"{name}.json").write_bytes(as_json(content))
    (folder / conversation).mkdir(exist_ok=True)
    path = folder / conversation / f"{day}.json"
    path.write_bytes(as_json(list(messages)))
    return path


def write_dump(folder: Path, messages: Iterable[Any], channel: str = DIRECT, has_users: bool = True) -> Path:
    """slackdump's file of a conversation."""
    if has_users:
        (folder / "users.json").write_bytes(as_json(USERS))
    path = folder / f"{channel}.json"
    path.write_bytes(as_json({"name": "", "messages": list(messages), "channel_id": channel}))
    return path


def write_large(path: Path, num_bytes: int) -> None:
    """A day of about that size, each message with its sender's profile as in reality."""
    profile = {"avatar_hash": "g1a2b3c4d5e6", "image_72": "https://avatars.example/g1a2b3c4d5e6-72.png", "team": "T1"}
    profile |= {"first_name": "Anna", "real_name": FRIEND, "display_name": FRIEND, "is_restricted": False}
    texts = ("see you at nine then", "look at <https://example.org/cake|this> :tada:", "<@U02ANNA> &lt;3", "ask me")
    with open(path, "w", encoding="utf-8") as file:
        file.write("[")
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for place in range(number, number + 1000):
                text = texts[place % 4]
                row = message((OWNER, FRIEND)[place % 2], "2024-03-05T14:03:21", text, blocks=_in_blocks(text))
                row["user_profile"] = profile
                row["ts"] = f"{1_600_000_000 + place}.000{place % 1000:03d}"
                if place % 5 == 0:
                    row["thread_ts"] = f"{1_600_000_000 + place // 20}.000000"
                rows.append(json.dumps(row, ensure_ascii=False))
            file.write("," * bool(number) + ",\n".join(rows))
            number += 1000
        file.write("]")
