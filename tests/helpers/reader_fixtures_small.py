"""Snapchat's, Matrix's and ChatLab's JSON, with the conversation of all readers and of any size."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from helpers.reader_checks import CONVERSATION, DELETED, FRIEND, OWNER, ms
from helpers.reader_fixtures_json import as_json

SNAP = {FRIEND: "anna_b", OWNER: "ben.o"}
MATRIX = {FRIEND: "@anna:example.org", OWNER: "@ben:example.org"}
CHATLAB = {FRIEND: "123456", OWNER: "987654"}
TEXTS = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake")


def is_photo(text: str) -> bool:
    return text in ("", "look: the cake")


def snap(sender: str, time: str, text: str | None, kind: str = "TEXT", **more: Any) -> dict[str, Any]:
    """A message as Snapchat writes it since 2023."""
    return {
        "From": sender,
        "Media Type": kind,
        "Created": f"{time[:10]} {time[11:19]} UTC",
        "Content": text,
        "Conversation Title": None,
        "IsSender": sender == SNAP[OWNER],
        "Created(microseconds)": ms(time) + 250,
        "IsSaved": True,
        "Media IDs": "",
    } | more


def snapchat() -> dict[str, Any]:
    messages = []
    for who, time, text in CONVERSATION:
        if text == DELETED:
            messages.append(snap(SNAP[who], time, "", "STATUSERASEDMESSAGE"))
        else:
            messages.append(snap(SNAP[who], time, text.replace("'", "&#39;"), "MEDIA" if is_photo(text) else "TEXT"))
    return {SNAP[FRIEND]: messages[::-1]}


def old_snapchat() -> dict[str, Any]:
    """The same as before 2023; captions were not in it."""
    lists: dict[str, list[Any]] = {"Received Saved Chat History": [], "Sent Saved Chat History": []}
    for who, time, text in reversed(CONVERSATION):
        if text == DELETED:
            continue
        kind, key = ("Sent", "To") if who == OWNER else ("Received", "From")
        message = {key: SNAP[FRIEND], "Media Type": "IMAGE" if is_photo(text) else "TEXT"}
        message |= {"Created": f"{time[:10]} {time[11:19]} UTC", "Text": text}
        lists[f"{kind} Saved Chat History"].append(message)
    return lists


def event(sender: str, time: str, content: dict[str, Any], kind: str = "m.room.message", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "sender": sender,
        "content": content,
        "origin_server_ts": ms(time),
        "event_id": f"${time}{sender}",
        "room_id": "!room:example.org",
    } | more


def said(sender: str, time: str, body: str, **more: Any) -> dict[str, Any]:
    return event(sender, time, {"msgtype": "m.text", "body": body} | more)


def matrix(*events: dict[str, Any], by: str = OWNER) -> dict[str, Any]:
    head = {"room_name": FRIEND, "room_creator": FRIEND, "topic": "", "export_date": "5 March 2024", "exported_by": by}
    return head | {"messages": list(events)}


def matrix_conversation() -> dict[str, Any]:
    first = "2024-03-05T14:00:00Z"
    events = [
        event(MATRIX[who], first, {"membership": "join", "displayname": who}, "m.room.member", state_key=MATRIX[who])
        for who in (FRIEND, OWNER)
    ]
    for who, time, text in CONVERSATION:
        if text == DELETED:
            events.append(event(MATRIX[who], time, {}, unsigned={"redacted_because": {}}))
        elif is_photo(text):
            photo = {"msgtype": "m.image", "body": text or "IMG.jpg", "filename": "IMG.jpg", "url": "mxc://x/y"}
            events.append(event(MATRIX[who], time, photo))
        else:
            events.append(said(MATRIX[who], time, text))
    return matrix(*events)


def chatlab_message(account: str, time: str, kind: int, content: str | None, **more: Any) -> dict[str, Any]:
    name = next((name for name, number in CHATLAB.items() if number == account), account)
    message = {"sender": account, "accountName": name, "timestamp": ms(time) // 1000, "type": kind, "content": content}
    return message | more


def chatlab(*messages: dict[str, Any], **meta: Any) -> dict[str, Any]:
    about = {"name": FRIEND, "platform": "qq", "type": "private", "ownerId": CHATLAB[OWNER]} | meta
    return {
        "chatlab": {"version": "0.0.2", "exportedAt": 1709654400, "generator": "a converter"},
        "meta": about,
        "members": [{"platformId": number, "accountName": name} for name, number in CHATLAB.items()],
        "messages": list(messages),
    }


def chatlab_conversation() -> dict[str, Any]:
    messages = []
    for who, time, text in CONVERSATION:
        kind = 81 if text == DELETED else 1 if text == "" else 0
        content = None if kind == 81 else "[图片]" if kind == 1 else text
        messages.append(chatlab_message(CHATLAB[who], time, kind, content))
    return chatlab(*messages)


def as_chatlab_lines(content: dict[str, Any]) -> bytes:
    rows = [{"_type": "header", "chatlab": content["chatlab"], "meta": content["meta"]}]
    rows += [{"_type": "member"} | member for member in content["members"]]
    rows += [{"_type": "message"} | message for message in content["messages"]]
    return b"# written by a converter\n" + json_lines(rows)


def json_lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def _write_large(
    path: Path, num_bytes: int, start: bytes, end: bytes, of_number: Callable[[int], dict[str, Any]]
) -> None:
    with open(path, "wb") as file:
        file.write(start)
        number = 0
        while file.tell() < num_bytes:
            rows = [json.dumps(of_number(number + row), ensure_ascii=False) for row in range(10_000)]
            file.write((",\n" if number else "").encode() + ",\n".join(rows).encode())
            number += 10_000
        file.write(end)


def write_large_snapchat(path: Path, num_bytes: int) -> None:
    base = snap("anna_b", "2020-09-13T12:26:40Z", "x")

    def message(number: int) -> dict[str, Any]:
        time = 1_900_000_000_000 - number * 3000
        own = number % 3 > 0
        more = {"From": "ben.o" if own else "anna_b", "IsSender": own, "Content": TEXTS[number % 4]}
        return base | more | {"Created(microseconds)": time}

    _write_large(path, num_bytes, b'{"anna_b": [', b"]}", message)


def write_large_matrix(path: Path, num_bytes: int) -> None:
    head = as_json(matrix())
    base = said(MATRIX[OWNER], "2020-09-13T12:26:40Z", "x")

    def message(number: int) -> dict[str, Any]:
        content = {"msgtype": "m.text", "body": TEXTS[number % 4]}
        sender = MATRIX[OWNER] if number % 3 else MATRIX[FRIEND]
        time = 1_600_000_000_000 + number * 3000
        return base | {"content": content, "sender": sender, "origin_server_ts": time, "event_id": f"${number:040}"}

    _write_large(path, num_bytes, head[: head.rindex(b"[") + 1], b"]}", message)


def write_large_chatlab(path: Path, num_bytes: int) -> None:
    head = as_json(chatlab())
    base = chatlab_message(CHATLAB[OWNER], "2020-09-13T12:26:40Z", 0, "x", platformMessageId="0" * 20)

    def message(number: int) -> dict[str, Any]:
        sender = CHATLAB[OWNER] if number % 3 else CHATLAB[FRIEND]
        return base | {"sender": sender, "content": TEXTS[number % 4], "timestamp": 1_600_000_000 + number * 3}

    _write_large(path, num_bytes, head[: head.rindex(b"[") + 1], b"]}", message)


def write_large_chatlab_lines(path: Path, num_bytes: int) -> None:
    base = chatlab_message(CHATLAB[OWNER], "2020-09-13T12:26:40Z", 0, "x", platformMessageId="0" * 20)
    with open(path, "wb") as file:
        file.write(as_chatlab_lines(chatlab()))
        number = 0
        while file.tell() < num_bytes:
            sender = CHATLAB[OWNER] if number % 3 else CHATLAB[FRIEND]
            row = base | {"sender": sender, "content": TEXTS[number % 4], "timestamp": 1_600_000_000 + number * 3}
            file.write(json_lines([{"_type": "message"} | row]))
            number += 1


def write_large(folder: Path, num_bytes: int) -> None:
    """A file of each of the formats, each of about that size."""
    folder.mkdir()
    write_large_snapchat(folder / "chat_history.json", num_bytes)
    write_large_matrix(folder / "matrix - Anna.json", num_bytes)
    write_large_chatlab(folder / "chatlab.json", num_bytes)
    write_large_chatlab_lines(folder / "chatlab.jsonl", num_bytes)
