"""Telegram's exports of every year: one chat or an account, with numbers, texts and times as they were written then."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from helpers.reader_fixtures_json import CONVERSATION, DELETED, FRIEND, OWNER, PHOTO, ms

OWNER_NUMBER, FRIEND_NUMBER = 3_000_000_123, 187_654_321  # numbers of people passed 2^31 in 2021
NUMBERS = {OWNER: OWNER_NUMBER, FRIEND: FRIEND_NUMBER}
ERAS = ("2018", "2020", "2021", "2023")


def message(
    number: int, sender: str | None, time: str, text: Any, era: str = "2023", zone: str = "UTC", **extra: Any
) -> dict[str, Any]:
    """One message; `time` is in UTC, and written as the clock of the exporting computer showed it."""
    local = datetime.fromisoformat(f"{time}+00:00").astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M:%S")
    made: dict[str, Any] = {"id": number, "type": "message", "date": local}
    if era == "2018":
        made["edited"] = "1970-01-01T01:00:00"
    if era in ("2021", "2023"):
        made["date_unixtime"] = str(ms(time) // 1000)
    made["from"] = sender
    if era != "2018":
        who = NUMBERS.get(sender or "", 42)
        made["from_id"] = who if era == "2020" else f"user{who}"
    made |= extra
    made["text"] = text
    if era == "2023":
        parts = [text] if isinstance(text, str) else text
        made["text_entities"] = [
            {"type": "plain", "text": part} if isinstance(part, str) else part for part in parts if part
        ]
    return made


def conversation(era: str = "2023", zone: str = "UTC") -> list[dict[str, Any]]:
    """The conversation of all readers; Telegram keeps no trace of deleted messages."""
    kept = [row for row in CONVERSATION if row[3] != DELETED]
    return [
        message(
            100 + number, sender, time, text, era, zone, **({"photo": "photos/photo_1.jpg"} if kind == PHOTO else {})
        )
        for number, (sender, time, text, kind) in enumerate(kept)
    ]


def chat(messages: list[Any], era: str = "2023", kind: str = "personal_chat", **head: Any) -> dict[str, Any]:
    """A chat with its messages, which is a whole file where one chat was exported."""
    made = {"name": FRIEND, "type": kind} | ({} if era == "2018" else {"id": FRIEND_NUMBER})
    return made | head | {"messages": messages}


def account(*chats: dict[str, Any], has_owner: bool = True, left: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """The file of a whole account."""
    made: dict[str, Any] = {"about": "Here is the data you requested. Remember: Telegram is ad free."}
    if has_owner:
        made["personal_information"] = {
            "user_id": OWNER_NUMBER,
            "first_name": "Ben",
            "last_name": "Ødeby",
            "phone_number": "+47 00 00 00 00",
            "bio": "",
        }
    made["contacts"] = {"about": "People you may know", "list": [{"first_name": "Anna", "last_name": "Berg"}]}
    made["chats"] = {"about": "This page lists all chats", "list": list(chats)}
    if left:
        made["left_chats"] = {"about": "These you left", "list": list(left)}
    return made


def write_large(path: Path, num_bytes: int) -> None:
    """An account of about that size: one chat of half of it, and many small ones."""
    texts: tuple[Any, ...] = (
        "see you at nine then",
        ["look at ", {"type": "link", "text": "https://example.org/cake"}, " 🎉"],
        'she said "never"',
        "no idea, ask her [or him]\nperhaps tomorrow, I have to work until seven and then there is the train",
    )
    rows = [
        message(number, (OWNER, FRIEND)[number % 3 == 0], "2024-03-05T14:03:21", texts[number % 4])
        for number in range(12)
    ]
    block = json.dumps(rows, ensure_ascii=False, indent=1)[1:-2]
    shell = json.dumps(account(), ensure_ascii=False, indent=1)
    head, tail = shell[: shell.rindex("[]") + 1], shell[shell.rindex("[]") + 1 :]
    with open(path, "w", encoding="utf-8") as file:
        file.write(head)
        number = 0
        while file.tell() < num_bytes:
            end = file.tell() + (20_000 if number else num_bytes // 2)
            number += 1
            file.write("," * (number > 1) + f'{{"name": "Friend {number}", "type": "personal_chat", "id": {number}, ')
            file.write('"messages": [' + block)
            while file.tell() < end:
                file.write("," + block)
            file.write("]}\n")
        file.write(tail)
