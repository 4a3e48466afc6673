"""Signal's exported chat history, and what signal-export writes."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from helpers.reader_checks import CONVERSATION, DELETED, OWNER, ms

ANNA_ACI = "QW5uYUFubmFBbm5hQW5uYQ=="
FRAMES: tuple[dict[str, Any], ...] = (
    {"version": "1", "backupTimeMs": "1767225600000", "mediaRootBackupKey": "AAAA", "currentAppVersion": "8.0"},
    {"account": {"givenName": "Ben", "familyName": "Ødeby", "profileKey": "AAAA"}},
    {"recipient": {"id": "1", "self": {}}},
    {"recipient": {"id": "2", "releaseNotes": {}}},
    {
        "recipient": {
            "id": "3",
            "contact": {
                "aci": ANNA_ACI,
                "e164": "4915112345678",
                "profileGivenName": "anna b.",
                "systemGivenName": "Anna",
                "systemFamilyName": "Berg",
            },
        }
    },
    {"chat": {"id": "7", "recipientId": "3"}},
    {},
)


def lines(frames: Iterable[Any]) -> bytes:
    """JSON lines; half a surrogate pair can only be written as an escape."""
    found = (json.dumps(frame, ensure_ascii=False) for frame in frames)
    return "".join(f"{line}\n" for line in found).encode("utf-8", "backslashreplace")


def item(author: str, time: str | int, chat: str = "7", **content: Any) -> dict[str, Any]:
    sent = time if isinstance(time, int) else ms(time)
    direction = {"outgoing": {}} if author == "1" else {"incoming": {"dateReceived": str(sent + 900), "read": True}}
    return {"chatItem": {"chatId": chat, "authorId": author, "dateSent": str(sent), **direction, **content}}


def said(author: str, time: str | int, body: str, chat: str = "7", **more: Any) -> dict[str, Any]:
    return item(author, time, chat, standardMessage={"text": {"body": body}, **more})


def conversation() -> list[dict[str, Any]]:
    frames = list(FRAMES)
    for who, time, text in CONVERSATION:
        author = "1" if who == OWNER else "3"
        if text == DELETED:
            frames.append(item(author, time, remoteDeletedMessage={}))
        elif text in ("", "look: the cake"):
            photo = {"attachments": [{"pointer": {"contentType": "image/jpeg"}}]}
            frames.append(item(author, time, standardMessage=photo | ({"text": {"body": text}} if text else {})))
        else:
            frames.append(said(author, time, text))
    return frames


def data_json(zone: str = "UTC") -> bytes:
    """signal-export's `data.json`."""
    rows = []
    for who, time, text in CONVERSATION:
        moment = datetime.fromisoformat(time).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        is_photo = text in ("", "look: the cake")
        rows.append(
            {
                "date": moment.isoformat(),
                "sender": "Me" if who == OWNER else "AnnaBerg",
                "body": "" if text == DELETED else f"{text}  ",
                "quote": "\n\n> are you\n> there\n\n" if text == "around nine 🎉" else "",
                "sticker": None,
                "reactions": [["AnnaBerg", "👍"]] if text.startswith("see you") else [],
                "attachments": [{"name": "a b.jpg", "path": "media/a%20b.jpg"}] if is_photo else [],
                "deleted": text == DELETED,
                "call": False,
                "missed": False,
            }
        )
    return lines(rows)


def chat_md(zone: str = "UTC", minutes: bool = False) -> bytes:
    """signal-export's `chat.md`; before version 3 with other stamps, in minutes."""
    found = []
    for row in map(json.loads, data_json(zone).splitlines()):
        date, time = row["date"].split("T")
        stamp = f"[{date}, {time[:5]}]" if minutes else f"[{date} {time}]"
        body = row["body"] + "".join(f"\n(- {name}: {emoji} -)" for name, emoji in row["reactions"])
        body += "".join(f"![{file['name']}](./{file['path']})  " for file in row["attachments"])
        words = "(This message was deleted)" if row["deleted"] else row["quote"] + body
        found.append(f"{stamp} {row['sender']}: {words}\n\n")
    return "".join(found).encode()


def write_large(path: Path, num_bytes: int) -> None:
    """An export of about that size, with 300 chats that take turns."""
    texts = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake")
    frames = list(FRAMES[:3])
    for chat in range(300):
        contact = {"aci": f"aci{chat:020}", "profileGivenName": f"Friend {chat}"}
        frames += [
            {"recipient": {"id": str(chat + 10), "contact": contact}},
            {"chat": {"id": str(chat), "recipientId": str(chat + 10)}},
        ]
    with open(path, "wb") as file:
        file.write(lines(frames))
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for _ in range(10_000):
                chat, time = number * 7 % 300, 1_600_000_000_000 + number * 3000
                author = "1" if number % 3 else str(chat + 10)
                rows.append(said(author, time, texts[number % 4], str(chat), reactions=[]))
                number += 1
            file.write(lines(rows))


def write_large_md(path: Path, num_bytes: int) -> None:
    """A `chat.md` of about that size, every tenth message a reply or with a reaction."""
    texts = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake")
    with open(path, "w", encoding="utf-8") as file:
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for _ in range(10_000):
                moment = datetime.fromtimestamp(1_600_000_000 + number * 30, ZoneInfo("UTC"))
                quote = "\n\n> is it\n> true\n\n" if number % 10 == 0 else ""
                reaction = "\n(- AnnaBerg: 👍 -)" if number % 10 == 5 else ""
                sender = "Me" if number % 3 else "AnnaBerg"
                rows.append(f"[{moment:%Y-%m-%d %H:%M:%S}] {sender}: {quote}{texts[number % 4]}  {reaction}\n\n")
                number += 1
            file.write("".join(rows))
