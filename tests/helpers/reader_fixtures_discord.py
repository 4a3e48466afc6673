"""DiscordChatExporter's files, and Discord's own data package."""

import json
from pathlib import Path
from typing import Any

from helpers.reader_fixtures_json import CONVERSATION, DELETED, FRIEND, OWNER, PHOTO, as_json

IDS = {OWNER: "310000000000000001", FRIEND: "310000000000000002"}
CHANNEL = "410000000000000001"


def person(name: str, **extra: Any) -> dict[str, Any]:
    made = {
        "id": IDS.get(name, "310000000000000009"),
        "name": name,
        "discriminator": "0000",
        "nickname": name,
        "color": None,
        "isBot": False,
        "roles": [],
        "avatarUrl": "https://cdn.example/0.png",
    }
    return made | extra


def message(number: int, sender: str, time: str, text: Any, kind: str = "Default", **extra: Any) -> dict[str, Any]:
    made = {
        "id": str(500000000000000000 + number),
        "type": kind,
        "timestamp": f"{time}+00:00",
        "timestampEdited": None,
        "callEndedTimestamp": None,
        "isPinned": False,
        "content": text,
        "author": person(sender),
        "attachments": [],
        "embeds": [],
        "stickers": [],
        "reactions": [],
        "mentions": [],
        "inlineEmojis": [],
    }
    return made | extra


def conversation() -> list[dict[str, Any]]:
    """The conversation of all readers; Discord keeps no trace of deleted messages."""
    photo = [{"id": "1", "url": "https://cdn.example/1.jpg", "fileName": "1.jpg", "fileSizeBytes": 5}]
    return [
        message(number, sender, time, text, attachments=photo if kind == PHOTO else [])
        for number, (sender, time, text, kind) in enumerate(CONVERSATION)
        if kind != DELETED
    ]


def export(messages: list[Any], kind: str = "DirectTextChat", **channel: Any) -> dict[str, Any]:
    """The file of a channel."""
    is_direct = kind.startswith("Direct")
    about = {"id": CHANNEL, "type": kind, "categoryId": None, "category": None, "name": FRIEND, "topic": None}
    guild = ("0", "Direct Messages") if is_direct else ("610000000000000001", "Bakers")
    return {
        "guild": {"id": guild[0], "name": guild[1], "iconUrl": "https://cdn.example/0.png"},
        "channel": about | channel,
        "dateRange": {"after": None, "before": None},
        "exportedAt": "2024-04-01T10:00:00.1234567+02:00",
        "messages": messages,
        "messageCount": len(messages),
    }


def write_package(folder: Path, root: str = "messages", prefix: str = "c", is_csv: bool = True) -> list[Path]:
    """Discord's own package with one channel: the files that hold messages, and the index last."""
    channel = folder / root / f"{prefix}{CHANNEL}"
    channel.mkdir(parents=True)
    (channel / "channel.json").write_bytes(as_json({"id": CHANNEL, "type": 1, "recipients": list(IDS.values())}))
    row = {
        "ID": 500000000000000001,
        "Timestamp": "2024-03-05 14:03:58",
        "Contents": "yes!\nbut late",
        "Attachments": "",
    }
    if is_csv:
        path = channel / "messages.csv"
        path.write_text('ID,Timestamp,Contents,Attachments\r\n5000,2024-03-05 14:03:58.1+00:00,"yes!\nbut late",\r\n')
    else:
        path = channel / "messages.json"
        path.write_text(json.dumps([row]))
    index = folder / root / "index.json"
    index.write_bytes(as_json({CHANNEL: f"Direct Message with {FRIEND}#0"}))
    return [path, index]


def write_large(path: Path, num_bytes: int) -> None:
    """A channel of about that size."""
    texts = ("see you at nine then", "look at https://example.org/cake 🎉", 'she said "never"', "ask @Anna Berg\nor me")
    rows = [
        message(place, (FRIEND, OWNER)[place % 2], "2024-03-05T14:03:21.123", texts[place % 4]) for place in range(20)
    ]
    block = json.dumps(rows, ensure_ascii=False, indent=2)[1:-2]
    head, tail = json.dumps(export([]), ensure_ascii=False, indent=2).split("[]")
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + "[" + block)
        while file.tell() < num_bytes:
            file.write(("," + block) * 50)
        file.write("]" + tail)
