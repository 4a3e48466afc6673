"""KakaoTalk's exported chats: every form gives the same conversation; traps; damaged files."""

from pathlib import Path

import pytest
from helpers.reader_checks import NUM_MUTATIONS, head_of
from helpers.reader_fixtures_kakaotalk import SHAPES, chat, chat_csv
from helpers.reader_fixtures_text import FRIEND, OWNER, Read, check_damaged, expected, read

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES
from jaegpt.exports.readers.kakaotalk import READER

WINDOWS = "--------------- 2024년 3월 5일 화요일 ---------------\n"
PHONE = "2024년 3월 5일 오후 2:30, "


def read_text(folder: Path, text: str, name: str = "chat.txt", **options: str) -> Read:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read(READER, path, **{"zone": "UTC", **options})


@pytest.mark.parametrize("name", SHAPES)
def test_every_form_gives_the_same_conversation(tmp_path: Path, name: str) -> None:
    text = chat(SHAPES[name])
    for content in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        found = read_text(tmp_path, content, zone="Asia/Seoul")
        assert found.messages == expected(60_000)
        assert (found.dropped, found.said) == ({"media": 2, "deleted": 1}, [])
    (thread,) = found.threads
    assert (thread.title, thread.is_group, thread.owner, thread.owner_is_marked) == (FRIEND, False, (OWNER,), False)
    assert thread.resolution_ms == 60_000
    assert READER.sniff("a.txt", text.encode()[:HEAD_BYTES]) > 0.9
    assert READER.sniff("a.txt", text.removeprefix(SHAPES[name].head).encode()) > 0.5


def test_the_csv_of_the_mac(tmp_path: Path) -> None:
    path = tmp_path / f"KakaoTalk_Chat_{FRIEND}_2024-04-01-10-30-00.csv"
    path.write_bytes(chat_csv())
    found = read(READER, path, "Asia/Seoul")
    assert found.messages == expected(1000)
    assert found.dropped == {"media": 2, "deleted": 1}
    (thread,) = found.threads
    assert (thread.title, thread.owner, thread.resolution_ms, thread.is_group) == (FRIEND, (OWNER,), 1000, False)
    assert READER.sniff("a.csv", head_of(path)) > 0.9


@pytest.mark.parametrize(
    "text",
    ["", "hello\n", "{}", "Date,Name,Text\n", "12/09/2016, 17:07 - Anna: hi\n", "SQLite format 3\0"
    , "[Photo] [x] y\n",
     "[05.03.24, 15:03:21] Anna: hi\n", "2024/03/05(火)\n10:30\tAnna\thi\n", "Date,User,Amount\n1,2,3\n",
     "[INFO] [12:30] started\n"],
)  # fmt: skip
def test_other_files_are_no_chats(text: str) -> None:
    assert READER.sniff("KakaoTalk.txt", text.encode()) < 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("사진 3장", "media"), ("동영상", "media"), ("파일: 보고서 1.pdf", "media"), ("이모티콘", "sticker"),
        ("(Emoticon)", "sticker"),
        ("보이스톡 해요", "call"), ("보이스톡 0:17", "call"), ("Voice Call 1:02:03", "call"),
        ("삭제된 메시지입니다.", "deleted"),
        ("File: a b.zip", "media"), ("30,400원을 받으세요.", "service"), ("지도: 서울역", "location"),
        ("투표: 언제?", "poll"), ("", "empty"), (" " * 301, "empty"),
    ],
)  # fmt: skip
def test_what_kakaotalk_writes_in_the_place_of_a_text(tmp_path: Path, text: str, reason: str) -> None:
    found = read_text(tmp_path, f"{PHONE}김민지 : {text}\n{PHONE}김민지 : kept\n")
    assert (found.dropped, found.texts) == ({reason: 1}, ["kept"])


def test_lines_about_the_room(tmp_path: Path) -> None:
    lines = ("김민지님이 Anna님을 초대했습니다.", "Anna님이 나갔습니다.", "Anna left.", "The message has been deleted.")
    text = "".join(f"[김민지] [오후 2:30] hi\n{line}\n" for line in lines)
    found = read_text(tmp_path, f"{WINDOWS}{text}[Anna] [오후 2:31] first\nsecond\n")
    assert (found.texts, found.dropped) == (["hi"] * 4 + ["first\nsecond"], {"system": 4})
    text = (
        f"{PHONE}김민지님이 들어왔습니다.\n2024. 3. 5. 오후 2:31: Anna님이 나갔습니다.\n"
        f"{PHONE}김민지 : hi\n2024년 3월 6일 수요일\n{PHONE}Anna : x\n"
    )
    found = read_text(tmp_path, text)
    assert (found.texts, found.dropped) == (["hi", "x"], {"system": 2})


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("사진 봤어?", "사진 봤어?"), ("a : b", "a : b"), ("first\n\nsecond", "first\n\nsecond"),
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("내일 12:30에 봐", "내일 12:30에 봐"), ("[x] [y] z", "[x] [y] z"), ("ㅋㅋㅋ 🎉", "ㅋㅋㅋ 🎉"),
        ("he left.", "he left."),
    ],
)  # fmt: skip
def test_what_people_write_is_kept(tmp_path: Path, text: str, kept: str) -> None:
    found = read_text(tmp_path, f"{PHONE}김 [민지] : {text}\n{PHONE}Anna : x\n")
    assert (found.texts, found.senders, found.dropped) == ([kept, "x"], ["김 [민지]", "Anna"], {})
    found = read_text(tmp_path, f"{WINDOWS}[김 [민지]] [오후 2:30] {text}\n[Anna] [PM 2:31] x\n")
    assert (found.texts, found.senders, found.dropped) == ([kept, "x"], ["김 [민지]", "Anna"], {})


@pytest.mark.parametrize("name", ["회원님", "You"])
def test_the_owners_own_name_marks_them(tmp_path: Path, name: str) -> None:
    (thread,) = read_text(tmp_path, f"{PHONE}{name} : hi\n{PHONE}Anna : x\n{PHONE}Cleo : x\n").threads
    assert (thread.owner, thread.owner_is_marked, thread.is_group) == ((name,), True, True)


@pytest.mark.parametrize(
    ("clock", "utc"), [("오전 12:05", "00:05"), ("오후 12:05", "12:05"), ("AM 9:04", "09:04"), ("15:07", "15:07")]
)
def test_clocks(tmp_path: Path, clock: str, utc: str) -> None:
    assert read_text(tmp_path, f"{WINDOWS}[Anna] [{clock}] hi\n").utc == [f"2024-03-05 {utc}:00"]


def test_a_day_goes_on_in_the_next_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.READ_BYTES", 100)
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.MIN_BLOCK", 50)
    monkeypatch.setattr("jaegpt.exports.readers.kakaotalk.PIECE", 7)
    lines = "".join(f"[Anna] [{number // 60 + 10}:{number % 60:02}] m{number}\nmore\n" for number in range(300))
    found = read_text(
        tmp_path, WINDOWS + lines + "--------------- 2024년 3월 6일 수요일 ---------------\n[Anna] [9:00] last\n"
    )
    assert found.texts == [*(f"m{number}\nmore" for number in range(300)), "last"]
    assert (found.utc[299], found.utc[300]) == ("2024-03-05 14:59:00", "2024-03-06 09:00:00")
    assert len(found.threads) > 10


def test_faults_are_counted_and_named(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"the end\n{PHONE}Anna : hi\n2024년 13월 5일 오후 2:30, Anna : x\n")
    assert (found.texts, found.dropped) == (["hi"], {"malformed": 2})
    assert found.threads[0].fault == "line 1: no time before the first message"
    found = read_text(tmp_path, f"{PHONE}Anna : hi\nmore\n2024년 13월 5일 오후 2:30, Anna : x\n")
    assert found.threads[0].fault == "line 3: '2024년 13월 5일', '오후 2:30' is no time from 1990 to 2099"
    bad = '"x",Anna,hi\n2024-03-05 10:00:00,Anna\n2024-03-05 10:00:01,,note\n'
    rows = f"Date,User,Message\n2024-03-05 10:00:00,Anna,hi\n{bad}"
    found = read_text(tmp_path, rows, "a.csv")
    assert (found.texts, found.dropped) == (["hi"], {"malformed": 2, "system": 1})
    assert found.threads[0].fault == "line 3: 'x' is no time from 1990 to 2099"


def test_formulas_in_a_csv_stay_texts(tmp_path: Path) -> None:
    rows = 'Date,User,Message\n2024-03-05 10:00:00,Anna,"=HYPERLINK(""x"")\nsecond, line"\n'
    assert read_text(tmp_path, rows, "a.csv").texts == ['=HYPERLINK("x")\nsecond, line']


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no line begins"), (WINDOWS.encode(), "no line begins"),
        (f"{PHONE}Anna : hi".encode() + b"\xff", "not UTF-8"),
        (b'Date,User,Message\n2024-03-05 10:00:00,Anna,"hi', "line 2: no CSV"),
        (b"Date,User,Message\n\xff\xff,a,b\n", "not UTF-8"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadFileError, match=says) as error:
        read(READER, tmp_path / "a.txt")
    assert error.value.path == str(tmp_path / "a.txt")


def test_damaged_chats_end_in_messages_or_in_one_clear_error(tmp_path: Path) -> None:
    contents = {f"{name}.txt": chat(shape).encode() for name, shape in SHAPES.items()} | {"a.csv": chat_csv()}
    ends = check_damaged(READER, contents, tmp_path, NUM_MUTATIONS)
    assert ends["read"] > 0.3 * NUM_MUTATIONS, ends
    assert ends["refused"] > 0.05 * NUM_MUTATIONS, ends
