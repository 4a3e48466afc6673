"""Hangouts' download in its two layouts."""

import json
from pathlib import Path
from typing import Any

from helpers.reader_fixtures_json import CONVERSATION, DELETED, FRIEND, OWNER, PHOTO, ms

NUMBERS = {OWNER: "110000000000000000001", FRIEND: "110000000000000000002"}
TALK = "UgxTALK4AaABAQ"


def identity(name: str) -> dict[str, str]:
    return {"gaia_id": NUMBERS.get(name, name), "chat_id": NUMBERS.get(name, name)}


def event(number: int, sender: str, time: str, text: Any, kind: str = "REGULAR_CHAT_MESSAGE", **extra: Any) -> Any:
    content: dict[str, Any] = {}
    if text:
        lines: list[dict[str, Any]] = []
        for place, line in enumerate(text.split("\n")):
            lines += [{"type": "LINE_BREAK", "text": "\n"}] if place else []
            lines += [{"type": "TEXT", "text": line, "formatting": {"bold": False}}]
        content["segment"] = lines
    made = {
        "conversation_id": {"id": TALK},
        "sender_id": identity(sender),
        "timestamp": str(ms(time) * 1000 + number),
        "chat_message": {"message_content": content | extra},
        "event_id": f"e{number}",
        "event_type": kind,
    }
    return made


def events() -> list[Any]:
    """The conversation of all readers, newest first; Hangouts keeps no trace of deleted messages."""
    photo = {"attachment": [{"embed_item": {"type": ["PLUS_PHOTO"]}}]}
    made = [
        event(number, sender, time, text, **(photo if kind == PHOTO else {}))
        for number, (sender, time, text, kind) in enumerate(CONVERSATION)
        if kind != DELETED
    ]
    return made[::-1]


def hangouts(talk: list[Any], era: str = "since 2018", number: str = TALK, **about: Any) -> dict[str, Any]:
    """The file with one conversation."""
    inner = {
        "id": {"id": number},
        "type": "STICKY_ONE_TO_ONE",
        "self_conversation_state": {"self_read_state": {"participant_id": identity(OWNER), "latest_read": "0"}},
        "participant_data": [{"id": identity(name), "fallback_name": name} for name in (OWNER, FRIEND)],
    } | about
    if era == "since 2018":
        return {
            "conversations": [
                {"conversation": {"conversation_id": {"id": number}, "conversation": inner}, "events": talk}
            ]
        }
    state = {"conversation_id": {"id": number}, "conversation": inner, "event": talk}
    return {
        "continuation_end_timestamp": "0",
        "conversation_state": [
            {"conversation_id": {"id": number}, "response_header": {"status": "OK"}, "conversation_state": state}
        ],
    }


def write_large(path: Path, num_bytes: int) -> None:
    """Hangouts' file of about that size: conversations of 2,000 messages."""
    texts = ("see you at nine then", "look at this 🎉", 'she said "never"', "ask Anna Berg\nor me")
    rows = [event(place, (OWNER, FRIEND)[place % 2], "2016-03-05T14:03:21", texts[place % 4]) for place in range(2000)]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"conversations": [')
        number = 0
        while file.tell() < num_bytes:
            talk = hangouts(rows, number=f"Ugx{number}")["conversations"]
            file.write("," * bool(number) + json.dumps(talk, ensure_ascii=False, indent=2)[1:-1])
            number += 1
        file.write("]}")
