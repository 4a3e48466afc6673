"""LINE's exported chats: every language gives the same conversation; traps; damaged files."""

from pathlib import Path

import pytest
from helpers.reader_checks import NUM_MUTATIONS
from helpers.reader_fixtures_line import SHAPES, chat
from helpers.reader_fixtures_text import FRIEND, OWNER, Read, check_damaged, expected, read

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES
from jaegpt.exports.readers.line_text import READER

DAY = "2024/03/05(火)\n"


def read_text(folder: Path, text: str, **options: str) -> Read:
    path = folder / "chat.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return read(READER, path, **{"zone": "UTC", **options})


@pytest.mark.parametrize("name", SHAPES)
def test_every_language_gives_the_same_conversation(tmp_path: Path, name: str) -> None:
    text = chat(SHAPES[name])
    for content in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        found = read_text(tmp_path, content, zone="Asia/Tokyo")
        assert found.messages == expected(60_000)
        assert (found.dropped, found.said) == ({"media": 2}, [])
    (thread,) = found.threads
    assert set(thread.people) == {FRIEND, OWNER}
    assert thread.resolution_ms == 60_000
    if name != "desktop":  # which has no head
        assert (thread.title, thread.is_group, thread.owner) == (FRIEND, False, (OWNER,))
        assert thread.owner_is_marked is False
        assert READER.sniff("a.txt", text.encode()[:HEAD_BYTES]) > 0.9
    assert READER.sniff("a.txt", text.partition("\n\n")[2].encode()) >= (0.6 if "\t" in text or "    " in text else 0)


@pytest.mark.parametrize(
    "text",
    ["", "hello\n", "{}", "a\tb\tc\n", "10:30\tAnna\thi\n", "12/09/2016, 17:07 - Anna: hi\n", "SQLite format 3\0",
     "[Photo] 10:30", "2024/03/05(火)\nno clock\n"],
)  # fmt: skip
def test_other_files_are_no_chats(text: str) -> None:
    assert READER.sniff("[LINE] Anna.txt", text.encode()) < 0.3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[Sticker]", "sticker"), ("[スタンプ]", "sticker"), ("[Voice message]", "media"), ("[檔案]", "media"),
        ("[Location]", "location"),
        ("[連絡先]", "contact"), ("[Poll]", "poll"), ("[Notes]", "media"), ("☎ 通話時間 5:32", "call"),
        ("☎ No answer", "call"),
        ("You unsent a message.", "unsent"), ("メッセージの送信を取り消しました", "unsent"),
        ("Cleo joined the group", "system"),
    ],
)  # fmt: skip
def test_what_line_writes_in_the_place_of_a_text(tmp_path: Path, text: str, reason: str) -> None:
    found = read_text(tmp_path, f"{DAY}10:30\tAnna\t{text}\n10:31\tAnna\tkept\n")
    assert (found.dropped, found.texts) == ({reason: 1}, ["kept"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [("10:30\t\tAnna changed the picture", "system"), ("10:30\tAnna joined the group", "system"),
    ("10:30\t☎ 通話時間 5:32", "call"),
     ("10:30\tYou unsent a message.", "unsent"), ("10:30\t\tAnnaがメッセージの送信を取り消しました", "unsent")],
)  # fmt: skip
def test_lines_without_a_name_are_lines_own(tmp_path: Path, line: str, reason: str) -> None:
    found = read_text(tmp_path, f"{DAY}{line}\n10:31\tAnna\tkept\n")
    assert (found.dropped, found.texts, found.threads[0].people) == ({reason: 1}, ["kept"], ("Anna",))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("see [Photo] there", "see [Photo] there"), ("a\tb\tc", "a\tb\tc"), ("写真", "写真"), ('"one"', '"one"'),
        ("x: y", "x: y"),
        ('"first\nsecond ""quoted""\n\n10:99 third"', 'first\nsecond "quoted"\n\n10:99 third'),
        ("2024/03/06", "2024/03/06"),
        ("first\nno quotes", "first\nno quotes"), ("(heart)", "(heart)"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    ],
)  # fmt: skip
def test_what_people_write_is_kept(tmp_path: Path, text: str, kept: str) -> None:
    found = read_text(tmp_path, f"{DAY}10:30\tAnna: x\t{text}\n\n2024/03/07(木)\n10:31\tBen\tx\n")
    assert (found.texts, found.senders, found.dropped) == ([kept, "x"], ["Anna: x", "Ben"], {})
    assert found.utc == ["2024-03-05 10:30:00", "2024-03-07 10:31:00"]


def test_weekdays_decide_the_order_of_dates_and_else_it_is_said(tmp_path: Path) -> None:
    assert read_text(tmp_path, "Tue, 3/5/2024\n10:30AM\tAnna\thi\n").utc == ["2024-03-05 10:30:00"]
    assert read_text(tmp_path, "Sun, 3/5/2020\n12:30AM\tAnna\thi\n").utc == ["2020-05-03 00:30:00"]
    found = read_text(tmp_path, "3/5/2024 วันx\n10:30\tAnna\thi\n")
    assert "export.date_order" in found.said[0]


def test_groups(tmp_path: Path) -> None:
    text = f"[LINE] Ski 2025のトーク履歴\n保存日時：2024/04/01 10:30\n\n{DAY}10:30\tAnna\thi\n10:31\tBen\tyes\n"
    (thread,) = read_text(tmp_path, text).threads
    assert (thread.title, thread.key, thread.is_group, thread.owner) == ("Ski 2025", "Ski 2025", True, ())
    (thread,) = read_text(tmp_path, f"{DAY}10:30\tAnna\thi\n10:31\tBen\tyes\n10:32\tCleo\tno\n").threads
    assert (thread.is_group, thread.owner, thread.title) == (True, (), "Anna & Ben & Cleo")


def test_a_line_without_a_name_is_nobodys_message(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"[LINE] Chat history with Anna\n\n{DAY}10:30\tAnna\thi\n10:31\t\tno name\n")
    assert (found.texts, found.dropped) == (["hi"], {"system": 1})


def test_faults_are_counted_and_named(tmp_path: Path) -> None:
    found = read_text(
        tmp_path, f"[LINE] Chat history with Anna\n\n{DAY}10:30\tAnna\thi\n\n2024/13/45(火)\n10:31\tAnna\tx\n"
    )
    assert (found.texts, found.dropped) == (["hi"], {"malformed": 1})
    assert found.threads[0].fault == "line 7: '2024/13/45(火)', '10:31' is no time from 1990 to 2099"
    found = read_text(tmp_path, f"the end of a message\n{DAY}10:30\tAnna\thi\n")
    assert found.threads[0].fault == "line 1: no day line and no time before the first message"


@pytest.mark.parametrize(
    "content", [b"", b"[LINE] Chat history with Anna\n", b"10:30\tAnna\thi\n", DAY.encode(), b"\xff\xff"]
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadFileError) as error:
        read(READER, tmp_path / "a.txt")
    assert error.value.path == str(tmp_path / "a.txt")


def test_a_day_goes_on_in_the_next_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.READ_BYTES", 100)
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.MIN_BLOCK", 50)
    monkeypatch.setattr("jaegpt.exports.readers.line_text.PIECE", 7)
    lines = "".join(f"{10 + number // 60}:{number % 60:02}\tAnna\tm{number}\n" for number in range(300))
    found = read_text(tmp_path, DAY + lines + "\n2024/03/06(水)\n10:00\tAnna\tlast\n")
    assert found.texts == [*(f"m{number}" for number in range(300)), "last"]
    assert found.utc[299] == "2024-03-05 14:59:00"
    assert found.utc[300] == "2024-03-06 10:00:00"
    assert len(found.threads) > 10


def test_damaged_chats_end_in_messages_or_in_one_clear_error(tmp_path: Path) -> None:
    contents = {f"{name}.txt": chat(shape).encode() for name, shape in SHAPES.items()}
    ends = check_damaged(READER, contents, tmp_path, NUM_MUTATIONS)
    assert ends["read"] > 0.3 * NUM_MUTATIONS, ends
    assert ends["refused"] > 0.05 * NUM_MUTATIONS, ends
