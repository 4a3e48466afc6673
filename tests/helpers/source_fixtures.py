"""Exports of other messengers as tables whose `source` says which: what the frame of all readers is tested by."""

from pathlib import Path
from typing import Any

from helpers.export_fixtures import OWNER, START, files_of, write_folder
from helpers.reader_fixtures_table import as_csv

MINUTE = 60_000
EVEN = START - START % MINUTE


def table(*messages: tuple[str, int, str], thread: str = "Dag Moe", **extra: Any) -> bytes:
    """A CSV of (sender, ms after START, text)."""
    return as_csv(
        [
            {"thread": thread, "sender": sender, "sent_at": START + ms, "text": text, **extra}
            for sender, ms, text in messages
        ]
    )


TALK = table(("Dag Moe", 100_000, "are you there"), (OWNER, 105_000, "yes"), source="viber")
TALK_ROWS = [("Dag Moe", START + 100_000, "are you there", False), (OWNER, START + 105_000, "yes", True)]


def both(folder: Path, **more: bytes) -> Path:
    return write_folder(folder, files_of("2022") | {"backup/chat.csv": TALK} | more)
