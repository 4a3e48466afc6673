"""What the tests of all readers do: read a file, compare it with the one conversation, and mutate it."""

import copy
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.text import BYTE_ORDER_MARK

NUM_MUTATIONS = int(os.environ.get("JAEGPT_MUTATIONS", "200"))  # of each reader; `make test` takes 2,000
FRIEND, OWNER = "Anna Berg", "Ben Ødeby"
DELETED = "(deleted)"
# (whose, time in UTC, text): what each format that can hold it is read to; photo and deleted message are dropped.
CONVERSATION = (
    (FRIEND, "2024-03-05T14:03:21Z", "hey, are you coming tonight?"),
    (OWNER, "2024-03-05T14:03:58Z", "yes!\nbut late"),
    (OWNER, "2024-03-05T14:04:10Z", "around nine 🎉"),
    (FRIEND, "2024-03-05T14:20:00Z", "look: the cake"),  # under a photo
    (OWNER, "2024-03-05T14:21:05Z", ""),  # a photo without words
    (FRIEND, "2024-03-05T14:22:00Z", DELETED),
    (OWNER, "2024-03-05T16:00:00Z", "see you (: at 9:00 - ok?"),
)
_HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 2**70, 1e300, 1.5, 253_402_300_799_000, "", " ", "\0", "\ud83d", "x" * 3000, "null",
    [], {}, [[]], [None], {"text": None}, "1709647401000", "2024-13-45 99:99:99", [{"a": [{"a": [{}]}]}],
)  # fmt: skip


def ms(time: str) -> int:
    """ms since 1970 of an ISO time."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def expected(friend: str = FRIEND, owner: str = OWNER, step_ms: int = 1) -> list[tuple[str, int, str]]:
    """The conversation as it is read, under the names that a format has for the two, in steps of its resolution."""
    names = {FRIEND: friend, OWNER: owner}
    return [
        (names[who], ms(time) // step_ms * step_ms, text)
        for who, time, text in CONVERSATION
        if text not in ("", DELETED)
    ]


def read_path(reader: Reader, path: Path, timezone: str = "UTC") -> tuple[list[SourceThread], list[str]]:
    """The threads of a file, the account of each checked, and what was said about it."""
    said: list[str] = []
    threads = list(reader.read(SourceFile(str(path)), ReadOptions(timezone=ZoneInfo(timezone)), said.append))
    for thread in threads:
        assert thread.num_read == len(thread.texts) + thread.dropped.total()
        assert len(thread.senders) == len(thread.sent_at) == len(thread.texts)
        assert bool(thread.fault) == bool(thread.dropped["malformed"]), thread
        assert all(type(time) is int for time in thread.sent_at)
        assert all(type(name) is str for name in (*thread.senders, *thread.texts, *thread.people, *thread.owner))
        assert type(thread.key) is type(thread.title) is str
    return threads, said


def read_bytes(reader: Reader, content: bytes, folder: Path, timezone: str = "UTC", name: str = "file") -> Any:
    (folder / name).write_bytes(content)
    return read_path(reader, folder / name, timezone)


def messages(threads: list[SourceThread]) -> list[tuple[str, int, str]]:
    return [row for thread in threads for row in zip(thread.senders, thread.sent_at, thread.texts, strict=True)]


def dropped(threads: list[SourceThread]) -> dict[str, int]:
    return dict(+sum((thread.dropped for thread in threads), Counter()))


def head_of(path: Path) -> bytes:
    return as_sniffed(path.read_bytes())


def as_sniffed(content: bytes) -> bytes:
    """What sniffing shows the readers of a file."""
    return content[:HEAD_BYTES].removeprefix(BYTE_ORDER_MARK)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, reversed, doubled, or the end cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(changed))
        end = min(len(changed), start + rng.choice((1, 1, 4, 60)))
        kind = rng.choice(("flip", "flip", "cut", "end", "swap", "double", "insert"))
        if kind == "flip":
            changed[start] = rng.randrange(256)
        elif kind == "cut":
            del changed[start:end]
        elif kind == "end" and rng.random() < 0.3:
            del changed[start + 1 :]
        elif kind == "swap":
            changed[start:end] = changed[start:end][::-1]
        elif kind == "insert":
            changed[start:start] = rng.choice((b"\0", b"\xed\xa0\x80", b"\xff", b"\\ud83d", b'"', b"{", b"]", b"\r\n"))
        else:
            changed[start:start] = changed[start:end] * rng.choice((1, 3))
    return bytes(changed)


def mutated_tree(value: Any, rng: random.Random) -> Any:
    """A JSON value, some of whose members are gone, doubled or of the wrong type."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 5))):
        found = places(value)
        parent, key = rng.choice(found)
        kind = rng.randrange(4)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(rng.choice((*_HOSTILE, parent[key]))))
        elif kind == 2:
            other, place = rng.choice(found)
            try:
                parent[key] = copy.deepcopy(other[place])
            except (KeyError, IndexError):
                continue
        else:
            parent[key] = copy.deepcopy(rng.choice(_HOSTILE))  # not itself: a list would grow from case to case
        if not places(value):
            break
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def check_mutations(
    reader: Reader, folder: Path, contents: Mapping[str, Callable[[random.Random], bytes]], both: bool = True
) -> None:
    """Read mutated files, NUM_MUTATIONS over all forms: each ends in messages or in the one error, and both occur.

    Args:
        contents: form -> what makes a mutated file of that form.
    """
    ends: Counter[str] = Counter()
    for form, make in contents.items():
        rng = random.Random(f"{reader.name} {form}")
        for case in range(-(-NUM_MUTATIONS // len(contents))):
            content = make(rng)
            assert 0 <= reader.sniff("file", content[:HEAD_BYTES]) <= 1
            try:
                threads, _ = read_bytes(reader, content, folder)
            except BadFileError:
                ends["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{form}, case {case}: {error!r}") from error
            else:
                ends["read"] += bool(messages(threads))
    assert ends["read"] > 0, ends
    assert ends["refused"] > 0 or not both, ends
