"""Google Chat's download, with its folders of groups and users."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from helpers.reader_fixtures_json import CONVERSATION, DELETED, FRIEND, OWNER, PHOTO, as_json

EMAILS = {OWNER: "ben@x.example", FRIEND: "anna@x.example"}
DIRECT = "DM h4xTkcAAAAE"


def person(name: str, kind: str = "Human") -> dict[str, str]:
    return {"name": name, "email": EMAILS.get(name, f"{name.split()[0].lower()}@x.example"), "user_type": kind}


def date(time: str, space: str = "\u202f") -> str:
    return datetime.fromisoformat(time).strftime(f"%A, %B {int(time[8:10])}, %Y at %-I:%M:%S{space}%p UTC")


def message(number: int, sender: str, time: str, text: Any, topic: str = "", **extra: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"creator": person(sender), "created_date": date(time)}
    made |= {"text": text} if text != "" else {}
    topic = topic or f"t{number:08}"
    return made | {"topic_id": topic, "message_id": f"h4xTkcAAAAE/{topic}/m{number:08}"} | extra


def conversation() -> list[dict[str, Any]]:
    """The conversation of all readers."""
    made = []
    for number, (sender, time, text, kind) in enumerate(CONVERSATION):
        extra: dict[str, Any] = {}
        if kind == PHOTO:
            extra["attached_files"] = [{"original_name": "cake.jpg", "export_name": "File-cake.jpg"}]
        if kind == DELETED:
            extra |= {"message_state": "DELETED", "deletion_metadata": {"deletion_type": "CREATOR"}}
        made.append(message(number, sender, time, text, **extra))
    return made


def write_chat(
    root: Path,
    messages: list[Any],
    folder: str = DIRECT,
    members: tuple[str, ...] | None = (OWNER, FRIEND),
    owner: str | None = OWNER,
    **info: Any,
) -> Path:
    """A conversation's file among those that describe it; the folders are called as in a German account."""
    group = root / "Takeout" / "Google Chat" / "Gruppen" / folder
    group.mkdir(parents=True, exist_ok=True)
    if members is not None:
        (group / "group_info.json").write_bytes(as_json({**info, "members": [person(name) for name in members]}))
    if owner is not None:
        user = root / "Takeout" / "Google Chat" / "Nutzer" / "User 110000000000000000001"
        user.mkdir(parents=True, exist_ok=True)
        content = {
            "user": person(owner),
            "membership_info": [{"group_id": folder, "membership_state": "MEMBER_JOINED"}],
        }
        (user / "user_info.json").write_bytes(as_json(content))
    path = group / "messages.json"
    path.write_bytes(as_json({"messages": messages}))
    return path


def write_large(path: Path, num_bytes: int) -> None:
    """Google Chat's file of a conversation, of about that size."""
    texts = ("see you at nine then", "look at https://example.org/cake 🎉", 'she said "never"', "ask @Anna Berg\nor me")
    start = datetime(2020, 1, 1)
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"messages": [')
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for place in range(number, number + 1000):
                time = (start + timedelta(seconds=40 * place)).isoformat()
                topic = f"t{place // 2}" if place % 10 < 2 else ""
                row = message(place, (OWNER, FRIEND)[place % 2], time, texts[place % 4], topic)
                rows.append(json.dumps(row, ensure_ascii=False, indent=2))
            file.write("," * bool(number) + ",\n".join(rows))
            number += 1000
        file.write("]}")
