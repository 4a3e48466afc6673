"""signal-export's data.json and chat.md: the conversation, what surrounds a text, and damaged files."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import (
    check_mutations,
    dropped,
    expected,
    messages,
    ms,
    mutated_bytes,
    mutated_tree,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_json import FOREIGN
from helpers.reader_fixtures_signal import chat_md, data_json, lines, write_large_md

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.readers.signal_export import READERS

JSON, TEXT = READERS
ROW = {"date": "2024-03-05T12:00:00.250000", "sender": "AnnaBerg", "body": "x  ", "quote": "", "sticker": None}
ROW |= {"reactions": [], "attachments": []}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
@pytest.mark.parametrize("form", ["data.json", "chat.md"])
def test_the_conversation(tmp_path: Path, zone: str, form: str) -> None:
    reader, content = (JSON, data_json(zone)) if form == "data.json" else (TEXT, chat_md(zone))
    folder = tmp_path / "AnnaBerg"
    folder.mkdir()
    assert reader.sniff(f"out/AnnaBerg/{form}", content[:8192]) > 0.8
    (thread,), said = read_bytes(reader, content, folder, zone, form)
    assert messages([thread]) == expected("AnnaBerg", "Me")
    assert (dropped([thread]), said) == ({"media": 1, "deleted": 1}, [])
    assert (thread.key, thread.title, thread.is_group, thread.resolution_ms) == ("AnnaBerg", "AnnaBerg", None, 1000)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == (("Me",), True, {"Me", "AnnaBerg"})


def test_stamps_in_minutes_as_before_version_3(tmp_path: Path) -> None:
    content = chat_md(minutes=True)
    assert TEXT.sniff("AnnaBerg/index.md", content[:8192]) > 0.5
    (thread,), _ = read_bytes(TEXT, content.replace(b"\n", b"\r\n"), tmp_path)
    assert messages([thread]) == expected("AnnaBerg", "Me", 60_000)
    assert thread.resolution_ms == 60_000


def test_the_text_is_read_where_it_stands_alone(tmp_path: Path) -> None:
    assert len(messages(read_bytes(TEXT, chat_md(), tmp_path, name="chat.md")[0])) == len(expected())
    (tmp_path / "data.json").write_bytes(b'{"date": 1}')
    assert len(messages(read_path(TEXT, tmp_path / "chat.md")[0])) == len(expected())
    (tmp_path / "data.json").write_bytes(data_json())
    assert read_path(TEXT, tmp_path / "chat.md") == ([], ["its messages are read from data.json beside it"])


@pytest.mark.parametrize(
    ("written", "text", "reason"),
    [
        ("one\n\n> two\n\n  ", "one\n\n> two", None),  # no quotation of the program's: it does not come first
        ("\n\n> is it\n> true\n\nno  ", "no", None),
        ("\n\n> is it\n\n  ", "", "empty"),
        ("a: b\n\nc  \n(- Mia: 👍, Me: 🎉 -)", "a: b\n\nc", None),
        ("look  [voice.m4a](./media/voice.m4a)  ![p q](./media/p%20(1).jpg)  ", "look", None),
        ("  ![p](./media/p.jpg)  ", "", "media"),
        ("  (media not exported)  ", "", "media"),
        ("look  \n(- Mia: 👍 -)(attachment not exported)  ", "look", None),
        ("it was (media not exported), sadly  ", "it was (media not exported), sadly", None),
        ("  \n(( 👍 ))", "", "sticker"),
        ("  [👍](../exported_stickers/ab/1.webp)  ", "", "sticker"),
        ("(This message was deleted)", "", "deleted"),
        ("Outgoing voice call (accepted, 3m 20s)  ", "", "call"),
        ("Missed video call  ", "", "call"),
        ("Missed you!  ", "Missed you!", None),
        ("[link](https://example.org)  ", "[link](https://example.org)", None),
    ],
)
def test_what_surrounds_a_text(tmp_path: Path, written: str, text: str, reason: str | None) -> None:
    content = f"[2024-03-05 12:00:00] Mia: {written}\n\n[2024-03-05 13:00:00] Me: ok  \n\n"
    threads, _ = read_bytes(TEXT, content.encode(), tmp_path)
    assert messages(threads)[:-1] == ([("Mia", ms("2024-03-05T12:00:00Z"), text)] if text else [])
    assert dropped(threads) == ({reason: 1} if reason else {})


def test_rows_of_data_json(tmp_path: Path) -> None:
    rows: list[Any] = [ROW, ROW | {"body": "Incoming call  "}, ROW | {"body": "  ", "sticker": {"emoji": "👍"}}]
    rows += [ROW | {"call": True, "missed": True}, ROW | {"deleted": True}]
    bad = [5, ROW | {"date": "1970-01-01T00:00:00"}, ROW | {"date": 5}, ROW | {"sender": None}, ROW | {"body": []}]
    threads, _ = read_bytes(JSON, lines([*rows, *bad]), tmp_path)
    assert messages(threads) == [("AnnaBerg", ms("2024-03-05T12:00:00.250Z"), "x")]
    assert dropped(threads) == {"call": 2, "sticker": 1, "deleted": 1, "malformed": 5}
    assert threads[0].fault == "line 6: int instead of an object"
    (tmp_path / "NotetoSelf").mkdir()
    assert dropped(read_bytes(JSON, lines([ROW]), tmp_path / "NotetoSelf")[0]) == {"notes": 1}


def test_the_doubled_hour_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    times = ("02:30", "02:50", "02:10", "02:40")
    content = "".join(f"[2023-10-29 {time}:00] Me: x  \n\n" for time in times)
    threads, _ = read_bytes(TEXT, content.encode(), tmp_path, "Europe/Berlin")
    assert threads[0].sent_at == [ms(f"2023-10-29T{time}:00Z") for time in ("00:30", "00:50", "01:10", "01:40")]


def test_damaged_files_are_refused_with_the_place(tmp_path: Path) -> None:
    for reader, content, says in (
        (TEXT, b"hello\n" + chat_md(), "line 1"),
        (TEXT, chat_md() + b"\xff", "not UTF-8"),
        (JSON, data_json()[:-40], "line 7: not JSON"),
    ):
        with pytest.raises(BadFileError, match=says):
            read_bytes(reader, content, tmp_path)
    (thread,), _ = read_bytes(TEXT, chat_md() + b"[2024-02-30 10:00:00] Me: x  \n\n", tmp_path)
    assert thread.fault.startswith(f"line {chat_md().count(chr(10).encode()) + 1}: ")


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_not_taken(kind: str) -> None:
    for reader, name in ((JSON, "data.json"), (TEXT, "chat.md")):
        assert reader.sniff(name, FOREIGN[kind][:8192]) == 0
    whatsapp = b"[2020-01-01, 12:00:01] Anna: hello\r\n[2020-01-01, 12:00:02] Ben: hi\r\n"
    assert TEXT.sniff("_chat.txt", whatsapp) == 0


def test_mutated_files(tmp_path: Path) -> None:
    text, rows = chat_md(), data_json()
    trees = [json.loads(line) for line in rows.splitlines()]
    check_mutations(TEXT, tmp_path, {"text": lambda rng: mutated_bytes(text, rng)})
    forms = {
        "bytes": lambda rng: mutated_bytes(rows, rng),
        "trees": lambda rng: lines(mutated_tree(trees, rng)),
    }
    check_mutations(JSON, tmp_path, forms)


def test_a_large_file(tmp_path: Path) -> None:
    write_large_md(tmp_path / "chat.md", 2**22)
    threads, _ = read_path(TEXT, tmp_path / "chat.md")
    texts = {"see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake"}
    assert {text for *_, text in messages(threads)} == texts
    assert len(messages(threads)) % 10_000 == 0
