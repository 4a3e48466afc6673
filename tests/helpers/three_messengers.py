"""Chats of one person with a friend in each of WhatsApp, Telegram and Messenger, as the three apps export them."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from helpers import reader_fixtures_telegram as telegram
from helpers.export_fixtures import Talk, files_of, write_folder

OWNER = "Ben Ødeby"
START = 1_709_647_380_000  # 2024-03-05 14:03 UTC, a whole minute
WORDS = "coffee music homework football cinema weather birthday holiday breakfast library".split()  # noqa: SIM905
NUM_MESSAGES = 120


def talk(friend: str, shift: int, step_ms: int, pause_ms: int) -> list[tuple[str, int, str]]:
    """Two people in turn, sometimes twice in a row, in sessions of six messages: (sender, ms, text)."""
    said, time = [], START
    for number in range(NUM_MESSAGES):
        time += step_ms if number % 6 else pause_ms
        words = f"{WORDS[(number * 3 + shift) % 10]} {WORDS[(number + shift) % 10]}"
        said.append(((OWNER, friend, OWNER)[number % 3], time, f"what do you think about the {words} number {number}"))
    return said


def whatsapp(friend: str) -> str:
    """An Android phone's export: minutes, day first, and lines of WhatsApp's own."""
    lines = ["05/03/2024, 14:03 - Messages and calls are end-to-end encrypted."]
    for sender, ms, text in talk(friend, 1, 60_000, 3 * 3_600_000):
        lines.append(f"{datetime.fromtimestamp(ms / 1000, UTC):%d/%m/%Y, %H:%M} - {sender}: {text}")
    return "\n".join([*lines, f"25/03/2024, 10:00 - {friend}: <Media omitted>", ""])


def account() -> bytes:
    messages = [
        telegram.message(number, sender, datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"), text)
        for number, (sender, ms, text) in enumerate(talk(telegram.FRIEND, 3, 7_000, 3 * 3_600_000))
    ]
    messages[10] |= {"forwarded_from": "Somebody"}
    return json.dumps(telegram.account(telegram.chat(messages)), ensure_ascii=False).encode()


def write_three(folder: Path) -> Path:
    """The exports as they came, in the new `folder`."""
    people = ("Dag Moe", OWNER)
    messenger = Talk("dagmoe_1001", "Dag Moe", people, tuple(talk("Dag Moe", 5, 2_345, 3 * 3_600_000)))
    write_folder(folder, files_of("since 2024", (messenger,)))
    write_folder(folder, {"DataExport_2024-04-01/result.json": account()})
    with zipfile.ZipFile(folder / "WhatsApp Chat - Eva Lund.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("WhatsApp Chat with Eva Lund.txt", whatsapp("Eva Lund"))
        archive.writestr("IMG-20240305-WA0001.jpg", b"\xff\xd8")
    return folder
