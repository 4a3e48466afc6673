"""Tables of messages for the generic reader: the conversation of all readers, and one of any size."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OWNER, FRIEND = "Ben Ødeby", "Anna Berg"
# (sender, time in UTC, text): what every format that can hold it is read to.
CONVERSATION = (
    (FRIEND, "2024-03-05T14:03:21Z", "hey, are you coming tonight?"),
    (OWNER, "2024-03-05T14:03:58Z", "yes!\nbut late"),
    (OWNER, "2024-03-05T14:04:10Z", "around nine 🎉"),
    (FRIEND, "2024-03-05T14:20:00Z", "look: the cake"),
    (OWNER, "2024-03-05T14:21:05Z", ""),
    (OWNER, "2024-03-05T16:00:00Z", "see you (: at 9:00 - ok?"),
)


def rows(**extra: object) -> list[dict[str, object]]:
    """The conversation as rows of a table, with more columns of one value."""
    return [
        {"thread": FRIEND, "sender": sender, "sent_at": time, "text": text, **extra}
        for sender, time, text in CONVERSATION
    ]


def as_csv(table: list[dict[str, object]], delimiter: str = ",", mark: bytes = b"", line_end: str = "\r\n") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(table[0]), delimiter=delimiter, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(table)
    return mark + out.getvalue().encode()


def as_json_lines(table: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table).encode()


def as_parquet(table: list[dict[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table), sink)
    return bytes(sink.getvalue())


def write_large(path: Path, num_bytes: int) -> None:
    """A CSV of about that size: 500 threads that take turns, in seconds."""
    texts = ("see you at nine then", "no idea, ask her", 'she said "never" 🎉', "on my way\nwith the cake")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("thread", "sender", "sent_at", "text"))
        number = 0
        while file.tell() < num_bytes:
            for _ in range(10_000):
                thread = number * 7 % 500
                time = datetime.fromtimestamp(1_600_000_000 + number * 3, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                sender = OWNER if number % 3 else f"Friend {thread}"
                writer.writerow((f"Friend {thread}", sender, time, texts[number % 4]))
                number += 1
