"""imessage-exporter's text: the conversation, the lines that the program adds, and damaged files."""

from pathlib import Path

import pytest
from helpers.reader_checks import (
    FRIEND,
    as_sniffed,
    check_mutations,
    dropped,
    expected,
    messages,
    ms,
    mutated_bytes,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_imessage_text import block, conversation, write_large
from helpers.reader_fixtures_json import FOREIGN

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.readers.imessage_text import READER

NOON = "2024-03-05T12:00:00Z"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_conversation(tmp_path: Path, zone: str, mark: bytes) -> None:
    content = mark + conversation(zone).encode()
    assert READER.sniff("+4915112345678.txt", as_sniffed(content)) > 0.5
    (thread,), said = read_bytes(READER, content, tmp_path, zone, "+4915112345678.txt")
    assert messages([thread]) == expected(FRIEND, "Me")
    assert (dropped([thread]), said) == ({"media": 1, "unsent": 1}, [])
    assert (thread.key, thread.owner, thread.owner_is_marked) == ("+4915112345678", ("Me",), True)
    assert (set(thread.people), thread.is_group, thread.resolution_ms) == ({"Me", FRIEND}, None, 1000)
    crlf = content.replace(b"\n", b"\r\n")
    assert messages(read_bytes(READER, crlf, tmp_path, zone)[0]) == messages([thread])


@pytest.mark.parametrize(
    ("lines", "text", "reason"),
    [
        (["one", "", "", "two"], "one\n\n\ntwo", None),
        (["hi", "Tapbacks:", "    Loved by Anna Berg"], "hi", None),
        (["hi", "Reactions:", "Loved by Anna Berg", "Liked by Me", ""], "hi", None),
        (["hi", "Tapbacks:", "🎉 by Me", "Unknown emoji! by Me", "Sticker from Me not found!", ""], "hi", None),
        (["hi", "🎉 by Me"], "hi\n🎉 by Me", None),
        (["Tapbacks:", "Loved by Me", "", "🎉 by Me"], "🎉 by Me", None),
        (["hi", "    May 17, 2022  5:29:42 PM", "    Me", "    a reply", "", "more"], "hi\n\nmore", None),
        (["hi", "This message responded to an earlier message."], "hi", None),
        (["hi", "Sent with Slam"], "hi", None),
        (["May 17, 2022  5:29:42 PM hullo", "Edited 5 seconds later: b", "Edited 1 hour, 2 seconds later: c: d"],
         "c: d", None),
        (["https://example.org/a", "The title of a page", "What it says"], "https://example.org/a", None),
        (["see https://example.org/a", "and tell me"], "see https://example.org/a\nand tell me", None),
        (["attachments/1/2.jpeg", "look"], "look", None),
        (["Attachment missing!"], "", "media"),
        (["Library/MobileSync/Backup/00/3d/3d0d7e5fb2ce28"], "", "media"),
        (["This message was deleted from the conversation!"], "", "deleted"),
        (["You deleted a message."], "", "unsent"),
        (["SharePlay Message", "Ended"], "", "call"),
        (["Started sharing location!"], "", "location"),
        (["GamePigeon message:", "Your move"], "", "app"),
        (["Liked “see you”"], "", "reaction"),
        ([], "", "empty"),
    ],
)  # fmt: skip
def test_what_the_sender_wrote(tmp_path: Path, lines: list[str], text: str, reason: str | None) -> None:
    content = block(NOON, FRIEND, *lines) + block("2024-03-05T13:00:00Z", "Me", "ok")
    threads, _ = read_bytes(READER, content.encode(), tmp_path)
    assert messages(threads) == [
        *([(FRIEND, ms(NOON), text)] if text else []),
        ("Me", ms("2024-03-05T13:00:00Z"), "ok"),
    ]
    assert dropped(threads) == ({reason: 1} if reason else {})


def test_announcements_are_no_messages(tmp_path: Path) -> None:
    line = "Mar 05, 2024  2:00:00 PM Anna Berg named the conversation Ski trip\n\n"
    for content in (line + conversation(), conversation() + line, conversation() + line.strip()):
        assert READER.sniff("x", content.encode()) > 0.5
        threads, _ = read_bytes(READER, content.encode(), tmp_path)
        assert messages(threads) == expected(FRIEND, "Me")
        assert dropped(threads)["system"] == 1


def test_the_doubled_hour_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    blocks = [f"Oct 29, 2023  2:{minute}:00 AM\nMe\nx\n\n" for minute in ("30", "50", "10", "40")]
    threads, _ = read_bytes(READER, "".join(blocks).encode(), tmp_path, "Europe/Berlin")
    assert threads[0].sent_at == [ms(f"2023-10-29T{time}:00Z") for time in ("00:30", "00:50", "01:10", "01:40")]


def test_damage_is_counted_or_refused(tmp_path: Path) -> None:
    content = conversation() + "Feb 30, 2024  2:00:00 PM\nMe\nx\n\nMar 05, 2024 14:61:00 PM\nMe\ny\n\n"
    threads, _ = read_bytes(READER, content.encode(), tmp_path)
    assert dropped(threads)["malformed"] == 2
    line = conversation().count("\n") + 1
    assert threads[0].fault == f"line {line}: day is out of range for month"
    whole = content.encode()
    for bad, says in ((b"hello\n" + whole, "line 1"), (whole + b"\xff", "not UTF-8"), (b"", "line 1")):
        with pytest.raises(BadFileError, match=says):
            read_bytes(READER, bad, tmp_path)


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_not_taken(kind: str) -> None:
    assert READER.sniff("chat.txt", FOREIGN[kind][:8192]) == 0


def test_mutated_files(tmp_path: Path) -> None:
    content = conversation().encode() * 2
    check_mutations(READER, tmp_path, {"text": lambda rng: mutated_bytes(content, rng)})


def test_a_file_of_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.READ_BYTES", 2**18)
    write_large(tmp_path / "chat.txt", 2**22)
    threads, _ = read_path(READER, tmp_path / "chat.txt")
    assert len(threads) > 1
    assert len(messages(threads)) % 10_000 == 0
    assert not dropped(threads)
    texts = {"see you at nine then", "no idea, ask her", "she said “never” 🎉", "on my way\nwith the cake"}
    assert {text for *_, text in messages(threads)} == texts
