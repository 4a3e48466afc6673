"""signal-export's folders, large; small ones and what stands in them are in `reader_fixtures_signal`."""

import json
from datetime import UTC, datetime
from pathlib import Path

from helpers.reader_fixtures_signal import data_json, lines, write_large_md

TEXTS = ("see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake")


def write_large(folder: Path, num_bytes: int) -> None:
    """A chat with a `data.json` and another with a `chat.md`, each of about that size."""
    for name in ("AnnaBerg", "CleoMarsh"):
        (folder / name).mkdir(parents=True)
    write_large_json(folder / "AnnaBerg/data.json", num_bytes)
    write_large_md(folder / "CleoMarsh/chat.md", num_bytes)


def write_large_json(path: Path, num_bytes: int) -> None:
    base = json.loads(data_json().partition(b"\n")[0])
    with open(path, "wb") as file:
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for _ in range(1000):
                date = datetime.fromtimestamp(1_600_000_000 + number * 30, UTC).replace(tzinfo=None).isoformat()
                sender = "Me" if number % 3 else "AnnaBerg"
                rows.append(base | {"date": date, "sender": sender, "body": f"{TEXTS[number % 4]}  "})
                number += 1
            file.write(lines(rows))
