"""What the tests of readers of text formats and of databases share: the conversation, reading, damage."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import DateOrder, Reader, ReadOptions, SourceFile, SourceThread

OWNER, FRIEND = "Ben Ødeby", "Anna Berg"
# (time in UTC, sender, what it is, text)
CONVERSATION = (
    ("14:03:21", FRIEND, "text", "hey, are you coming tonight?"),
    ("14:03:58", OWNER, "text", "yes!\nbut late"),
    ("14:04:10", OWNER, "text", "around nine 🎉"),
    ("14:20:00", FRIEND, "photo", "look: the cake"),
    ("14:21:05", OWNER, "photo", ""),
    ("14:22:00", FRIEND, "deleted", ""),
    ("16:00:00", OWNER, "text", "see you (: at 9:00 - ok?"),
)


def moments(zone: str = "UTC") -> list[datetime]:
    """The times of the conversation on the clocks of a zone."""
    return [datetime.fromisoformat(f"2024-03-05T{time}+00:00").astimezone(ZoneInfo(zone)) for time, *_ in CONVERSATION]


def expected(resolution_ms: int) -> list[tuple[str, int, str]]:
    """(sender, ms in UTC, text) of what is kept, in a format of that resolution."""
    return [
        (sender, round(moment.timestamp() * 1000) // resolution_ms * resolution_ms, text)
        for moment, (_, sender, _, text) in zip(moments(), CONVERSATION, strict=True)
        if text
    ]


@dataclass
class Read:
    """All pieces of all threads of a file, put together by key, and what was said about it."""

    threads: list[SourceThread]
    said: list[str] = field(default_factory=list)

    @property
    def messages(self) -> list[tuple[str, int, str]]:
        return [
            row for thread in self.threads for row in zip(thread.senders, thread.sent_at, thread.texts, strict=True)
        ]

    @property
    def texts(self) -> list[str]:
        return [text for thread in self.threads for text in thread.texts]

    @property
    def senders(self) -> list[str]:
        return [sender for thread in self.threads for sender in thread.senders]

    @property
    def utc(self) -> list[str]:
        """The times as "2024-03-05 14:03:21"."""
        return [f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" for _, ms, _ in self.messages]

    @property
    def dropped(self) -> dict[str, int]:
        return dict(sum((thread.dropped for thread in self.threads), Counter[str]()))


def read(reader: Reader, path: str | Path | SourceFile, zone: str = "Europe/Berlin", date_order: str = "auto") -> Read:
    """Read a file as discovery would."""
    said: list[str] = []
    file = path if isinstance(path, SourceFile) else SourceFile(str(path))
    options = ReadOptions(timezone=ZoneInfo(zone), date_order=cast(DateOrder, date_order))
    return Read(list(reader.read(file, options, said.append)), said)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with bytes changed, cut off, left out, doubled, moved or put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 6))):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice((1, 4, 30, 200)))
        kind = rng.randrange(7)
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        elif kind == 2:
            hostile = (b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b'"', b"9" * 40, b"99/99/9999", b"\xe2\x80\x8e")
            content = content[:at] + rng.choice(hostile) + content[at:]
        elif kind == 3:
            content = content[at:]
        elif kind == 4:
            content = content[:at] + content[end:]
        elif kind == 5:
            content = content[:at] + content[at:end] * 2 + content[end:]
        else:
            to = rng.randrange(len(content) + 1)
            content = content[:to] + content[at:end] + content[to:]
    return content


def check_damaged(reader: Reader, contents: dict[str, bytes], folder: Path, num_cases: int) -> Counter[str]:
    """How many damaged files were read and how many were refused; anything else fails.

    Args:
        reader: what reads them.
        contents: files by name, each read without a fault as it is.
        folder: where to write.
        num_cases: how many damaged files, in turn of each of `contents`.
    """
    rng = random.Random(f"damaged {reader.name}")
    ends: Counter[str] = Counter()
    for case in range(num_cases):
        name = sorted(contents)[case % len(contents)]
        path = folder / name
        path.write_bytes(damaged(contents[name], rng))
        reader.sniff(name, path.read_bytes()[:8192])
        try:
            found = read(reader, path)
        except BadFileError as error:
            _check_refusal(error, path)
            ends["refused"] += 1
            continue
        for thread in found.threads:
            assert len(thread.senders) == len(thread.sent_at) == len(thread.texts), case
            assert thread.num_read == len(thread.texts) + sum(thread.dropped.values()), case
            assert all(type(time) is int for time in thread.sent_at), case
            assert all(isinstance(text, str) and text for text in thread.texts), case
            assert (thread.fault is not None) == (thread.dropped["malformed"] > 0), case
        ends["read"] += 1
    return ends


def _check_refusal(error: BadFileError, path: Path) -> None:
    assert error.path.startswith(str(path))
    assert error.detail


def write_lines(path: Path, num_bytes: int, lines: Callable[[int, random.Random], str]) -> None:
    """A text file of about that size from a function that gives ever more lines for the number of a round."""
    rng = random.Random(17)
    with open(path, "w", encoding="utf-8", newline="") as file:
        number = 0
        while file.tell() < num_bytes:
            file.write("".join(lines(number + step, rng) for step in range(5000)))
            number += 5000


LARGE_TEXTS = (
    "see you at nine then", "no idea, ask her", 'she said "never" 🎉', "on my way\nwith the cake", "ok", "yes",
    "haha, that is what I thought as well, but then he wrote that it was not so at all", "why not: tomorrow?",
    "have a look at https://www.example.com/a?b=1", "mañana, creo que sí", "doch nicht, zu spät (leider)", "👍",
)  # fmt: skip
