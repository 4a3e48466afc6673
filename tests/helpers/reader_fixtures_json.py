"""What the tests of readers of JSON share: the conversation of all readers, a read file, and mutations of JSON."""

import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.reader_checks import NUM_MUTATIONS, messages, places, read_path
from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import Reader, SourceThread

OWNER, FRIEND = "Ben Ødeby", "Anna Berg"
PHOTO, DELETED = "photo", "deleted"
# (sender, time in UTC, text, what it is beside a text): what every format that can hold it is read to.
CONVERSATION = (
    (FRIEND, "2024-03-05T14:03:21", "hey, are you coming tonight?", ""),
    (OWNER, "2024-03-05T14:03:58", "yes!\nbut late", ""),
    (OWNER, "2024-03-05T14:04:10", "around nine 🎉", ""),
    (FRIEND, "2024-03-05T14:20:00", "look: the cake", PHOTO),
    (OWNER, "2024-03-05T14:21:05", "", PHOTO),
    (FRIEND, "2024-03-05T14:22:00", "", DELETED),
    (OWNER, "2024-03-05T16:00:00", "see you (: at 9:00 - ok?", ""),
)
Message = tuple[str, int, str]  # sender, ms since 1970, text


def ms(time: str) -> int:
    return int(datetime.fromisoformat(f"{time}+00:00").timestamp()) * 1000


EXPECTED: list[Message] = [(sender, ms(time), text) for sender, time, text, _ in CONVERSATION if text]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, -(2**63), 2**63, 2**64, 2**70, 1e300, 1.5, 1_709_647_401, "1709647401", "", " ", "\0",
    "\ud83d", "\ude00x", "x" * 5000, "é", "\u202e", "🙂", [], {}, [[]], [None], {"name": None}, {"text": 5}, ["a", 1],
    "../../x", "2024-02-30T25:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59Z", "\x1b", "message",
)  # fmt: skip


def as_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def read_content(reader: Reader, folder: Path, content: Any, zone: str = "UTC") -> list[SourceThread]:
    path = folder / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else as_json(content))
    return read_path(reader, path, zone)[0]


def _mutated_tree(raw: bytes, rng: random.Random) -> bytes:
    content = json.loads(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        nodes = places(content)
        if not nodes:
            break
        parent, key = rng.choice(nodes)
        action = rng.randrange(4)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(rng.choice((*HOSTILE, parent[key]))))
        elif action == 2:
            other, place = rng.choice(nodes)
            parent[key] = copy.deepcopy(other[place] if place in other or isinstance(other, list) else None)
        else:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
    return json.dumps(content, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _mutated_bytes(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    action = rng.randrange(7)
    if action == 0:
        return raw[:at]
    if action == 1:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if action == 2:
        strange = (b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud83d", b"\\x1B", b'"', b"{", b"]", b"1e999", b"\\")
        return raw[:at] + rng.choice(strange) + raw[at:]
    if action == 3:
        return raw[at:]
    if action == 4:
        return rng.choice((b"", b"\xef\xbb\xbf" + raw, raw + raw, b"[" * 10_000, bytes(300), b"\xff\xfe" + raw))
    if action == 5:
        end = at + rng.randrange(1, 60)
        return raw[:at] + raw[at:end][::-1] + raw[end:]
    return raw[:at] + raw[at + rng.randrange(40) :]


def check_mutations(reader: Reader, name: str, folder: Path, forms: list[Callable[[Path], Path]]) -> None:
    """Mutated files end in messages or in one clear error, and both happen. A form writes an export and says where the
    file to read is; every JSON file beside it may be the one that is mutated."""
    rng = random.Random(name)
    ends: Counter[str] = Counter()
    for case in range(NUM_MUTATIONS):
        place = folder / str(case)
        place.mkdir()
        path = forms[case % len(forms)](place)
        files = sorted(place.rglob("*.json"))
        victim = path if rng.random() < 0.7 else rng.choice(files)
        mutate = rng.choice((_mutated_tree, _mutated_tree, _mutated_bytes))
        victim.write_bytes(mutate(victim.read_bytes(), rng))
        try:
            threads, _ = read_path(reader, path)
        except BadFileError as error:
            ends["refused" if error.detail and str(place) in str(error) else "unclear"] += 1
            continue
        ends["read"] += bool(messages(threads))
    assert not ends["unclear"], ends
    assert ends["read"] > 0.2 * NUM_MUTATIONS, ends
    assert ends["refused"] > 0.1 * NUM_MUTATIONS, ends


# The beginnings of files of other kinds, of which no reader here may think that they are its own.
FOREIGN: dict[str, bytes] = {
    "messenger": as_json(
        {
            "participants": [{"name": FRIEND}, {"name": OWNER}],
            "messages": [{"sender_name": OWNER, "timestamp_ms": 1_709_647_401_000, "content": "yes"}],
            "title": FRIEND,
            "is_still_participant": True,
            "thread_path": "inbox/annaberg_1",
            "magic_words": [],
        }
    ),
    "encrypted messenger": as_json(
        {
            "participants": [FRIEND, OWNER],
            "threadName": "Anna Berg_7",
            "messages": [{"isUnsent": False, "senderName": OWNER, "text": "yes", "timestamp": 1, "type": "text"}],
        }
    ),
    "instagram 2020": as_json([{"participants": ["a"], "conversation": [{"sender": "a", "created_at": "2020"}]}]),
    "profile": as_json({"profile_v2": {"name": {"full_name": OWNER}, "personal_information": {"type": "message"}}}),
    "snapchat": as_json({"anna_b": [{"From": "anna_b", "Media Type": "TEXT", "Created": "2022-07-22 19:28:21 UTC"}]}),
    "matrix": as_json({"room_name": "x", "messages": [{"type": "m.room.message", "sender": "@a:b", "content": {}}]}),
    "chatlab": as_json({"chatlab": {"version": "0.0.1"}, "meta": {"name": "x"}, "messages": [{"type": 0}]}),
    "package.json": as_json({"name": "x", "version": "1", "type": "module", "id": 5, "messages": []}),
    "strings": as_json(["message", "type", "ts"]),
    "numbers": b"[1, 2, 3]",
    "geojson": as_json({"type": "FeatureCollection", "features": []}),
    "csv": b"thread,sender,sent_at,text\r\na,b,2024-01-01,hello\r\n",
    "text": b'[05.03.24, 14:03:21] Anna Berg: "type": "message", "messages"\n',
    "xml": b"<?xml version='1.0'?><smses count='1'><sms address='1' date='1' body='x'/></smses>",
    "sqlite": b"SQLite format 3\0" + bytes(100) + b"CREATE TABLE messages",
    "html": b'<!DOCTYPE html><title>Exported Data</title><div class="message">"messages"</div>',
    "nothing": b"",
    "zeros": bytes(512),
}  # fmt: skip
