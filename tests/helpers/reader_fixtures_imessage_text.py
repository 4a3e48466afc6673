"""Text files as imessage-exporter writes them."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from helpers.reader_checks import CONVERSATION, DELETED, FRIEND, OWNER


def stamp(moment: datetime) -> str:
    hour = moment.hour % 12 or 12
    return f"{moment:%b %d, %Y} {hour:>2}:{moment:%M:%S} {'AM' if moment.hour < 12 else 'PM'}"


def block(time: str, sender: str, *lines: str, zone: str = "UTC", receipt: str = "") -> str:
    moment = datetime.fromisoformat(time).astimezone(ZoneInfo(zone))
    return "\n".join((stamp(moment) + receipt, sender, *lines)) + "\n\n"


def conversation(zone: str = "UTC") -> str:
    path = "/Users/ben/Library/Messages/Attachments/0a/10/IMG_0001.heic"
    blocks = []
    for number, (who, time, text) in enumerate(CONVERSATION):
        lines = text.split("\n") if text not in ("", DELETED) else []
        if text in ("", "look: the cake"):
            lines.insert(0, path)
        elif text == DELETED:
            lines = ["Anna Berg unsent this message part 3 seconds after sending!"]
        receipt = " (Read by them after 1 hour, 49 seconds)" if number == 2 else ""
        blocks.append(block(time, "Me" if who == OWNER else FRIEND, *lines, zone=zone, receipt=receipt))
    return "".join(blocks)


def write_large(path: Path, num_bytes: int) -> None:
    """A conversation of about that size, every tenth message with a tapback and a reply."""
    texts = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake")
    with open(path, "w", encoding="utf-8") as file:
        number = 0
        while file.tell() < num_bytes:
            blocks = []
            for _ in range(10_000):
                moment = datetime.fromtimestamp(1_600_000_000 + number * 30, ZoneInfo("UTC"))
                lines = [stamp(moment), "Me" if number % 3 else FRIEND, texts[number % 4]]
                if number % 10 == 0:
                    reply = (stamp(moment), "Me", "yes", "")
                    lines += ["Tapbacks:", "    Loved by Me", *(f"    {line}" for line in reply if line)]
                blocks.append("\n".join(lines) + "\n\n")
                number += 1
            file.write("".join(blocks))
