"""WhatsApp's exported chats: every locale gives the same conversation; each trap of the format; damaged files."""

import json
import zipfile
from pathlib import Path

import pytest
from helpers.reader_checks import NUM_MUTATIONS, head_of
from helpers.reader_fixtures_text import FRIEND, OWNER, Read, check_damaged, expected, read
from helpers.reader_fixtures_whatsapp import LOCALES, LRM, chat, write

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, SourceFile
from jaegpt.exports.readers.whatsapp_text import READER


def read_text(folder: Path, text: str, name: str = "chat of mine.txt", **options: str) -> Read:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read(READER, path, **options)


@pytest.mark.parametrize("name", LOCALES)
def test_every_locale_gives_the_same_conversation(tmp_path: Path, name: str) -> None:
    locale = LOCALES[name]
    path = write(tmp_path, locale)
    # One day alone, 3/5/24, may be in March or in May.
    found = read(READER, path, date_order="month_first" if name == "android en-US" else "auto")
    assert found.messages == expected(locale.resolution_ms)
    assert found.dropped == {"media": 1, "deleted": 1} | ({"system": 1} if locale.notice else {})
    (thread,) = found.threads
    assert (thread.title, thread.key, thread.is_group) == (FRIEND, FRIEND, False)
    assert (thread.owner, thread.owner_is_marked) == ((OWNER,), False)
    assert set(thread.people) == {FRIEND, OWNER}
    assert thread.resolution_ms == locale.resolution_ms
    assert READER.sniff(str(path), path.read_bytes()[:HEAD_BYTES]) > 0.5


def test_without_its_name_a_chat_is_still_known_by_its_content(tmp_path: Path) -> None:
    for name, locale in LOCALES.items():
        assert READER.sniff("a.txt", chat(locale).encode()[:HEAD_BYTES]) >= 0.5, name


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "{}", '{"messages": []}', "a,b,c\n1,2,3\n", "<?xml version='1.0'?><smses/>",
        "2024-01-02 12:34:56 - root - ERROR: disk full\n2024-01-02 12:34:57 - root - INFO: done\n",
        "[2024-01-02 12:34:56] local.ERROR: it failed\n[2024-01-02 12:34:57] local.ERROR: again\n",
        "2024-01-02 12:34:56: INFO: done\n", "SQLite format 3\0",
        "2024/01/30(金)\n13:05\tAnna\thi\n",
        "2025년 10월 10일 오전 10:09, 김민지 : 안녕\n",
        "--------------- 2024년 12월 9일 월요일 ---------------\n[김민지] [오후 2:30] 안녕\n",
        json.dumps([{"sender_name": "Anna", "content": "[05.03.24, 15:03:21] Anna: hi"}]),
    ],
)  # fmt: skip
def test_other_files_are_no_chats(text: str) -> None:
    assert READER.sniff("a.txt", text.encode()) < 0.3


def test_signals_pages_have_the_shape_but_are_another_readers() -> None:
    assert READER.sniff("Anna/chat.md", b"[2019-05-29, 15:04] Me: hi\n[2019-05-29, 15:04] Anna: yes\n") == 0


def test_a_zip_of_an_iphone_names_the_chat(tmp_path: Path) -> None:
    path = tmp_path / f"WhatsApp Chat - {FRIEND} (2).zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_chat.txt", chat(LOCALES["ios de"]))
    found = read(READER, SourceFile(str(path), "_chat.txt"))
    assert found.messages == expected(1000)
    assert (found.threads[0].title, found.threads[0].owner) == (FRIEND, (OWNER,))


def test_the_notice_of_an_iphone_names_the_other_person(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "_chat.txt"
    path.write_text(chat(LOCALES["ios en"]), encoding="utf-8")
    (thread,) = read(READER, path).threads
    assert (thread.title, thread.owner, thread.is_group) == (FRIEND, (OWNER,), False)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / f"WhatsApp Chat with {FRIEND}.txt"
    path.write_bytes(chat(LOCALES["android es"]).encode(encoding))
    assert read(READER, path).messages == expected(60_000)
    assert READER.sniff("a.txt", head_of(path)) > 0.5


@pytest.mark.parametrize(
    ("dates", "utc", "is_said"),
    [
        (("13/2/24", "1/3/24"), ("2024-02-13", "2024-03-01"), False),
        (("2/13/24", "3/1/24"), ("2024-02-13", "2024-03-01"), False),
        # Nothing exceeds 12: time must not run backwards, then the steps must be small.
        (("1/2/24", "3/1/24"), ("2024-01-02", "2024-03-01"), False),
        (("1/2/24", "2/2/24", "3/2/24"), ("2024-02-01", "2024-02-02", "2024-02-03"), False),
        (("5/3/24",), ("2024-03-05",), True),
        (("05.03.24",), ("2024-03-05",), False),
        (("15-01-20", "15-02-03"), ("2015-01-20", "2015-02-03"), False),
        (("2020.04.01",), ("2020-04-01",), False),
        (("2024. 3. 5.",), ("2024-03-05",), False),
        (("5/3/2567",), ("2024-03-05",), True),
        (("۱۴۰۲/۱۲/۱۵",), ("2024-03-05",), False),
        (("5.3.2024 г.",), ("2024-03-05",), False),
    ],
)
def test_the_order_of_dates_is_decided_from_the_whole_file(
    tmp_path: Path, dates: tuple[str, ...], utc: tuple[str, ...], is_said: bool
) -> None:
    found = read_text(tmp_path, "".join(f"{date}, 15:03 - Anna: hi\n" for date in dates), zone="UTC")
    assert found.utc == [f"{day} 15:03:00" for day in utc]
    assert bool(found.said) == is_said
    if is_said:
        assert "export.date_order" in found.said[0]
        assert dates[0] in found.said[0]


def test_the_order_can_be_said_where_it_is_open_and_only_there(tmp_path: Path) -> None:
    text = "5/3/24, 15:03 - Anna: hi\n6/3/24, 15:03 - Anna: hi\n"
    assert read_text(tmp_path, text, date_order="month_first", zone="UTC").utc[0] == "2024-05-03 15:03:00"
    assert read_text(tmp_path, text, date_order="day_first").said == []
    text += "13/3/24, 15:03 - Anna: hi\n"
    assert read_text(tmp_path, text, date_order="month_first", zone="UTC").utc[0] == "2024-03-05 15:03:00"


def test_one_damaged_date_does_not_turn_all_others(tmp_path: Path) -> None:
    lines = [f"{day}/2/2024, 15:03 - Anna: {day}\n" for day in range(1, 29)] * 10
    found = read_text(tmp_path, "".join([*lines[:140], "2/31/2024, 15:03 - Anna: x\n", *lines[140:]]), zone="UTC")
    assert found.dropped == {"malformed": 1}
    assert found.threads[0].fault == "line 141: '2/31/2024', '15:03' is no time from 1990 to 2099"
    assert found.utc[1] == "2024-02-02 15:03:00"


@pytest.mark.parametrize(
    ("clock", "utc"),
    [
        ("12:05 AM", "00:05"), ("12:05 PM", "12:05"), ("00:08 a. m.", "00:08"), ("3:04\u202fpm", "15:04"),
        ("下午3:04", "15:04"), ("凌晨12:30", "00:30"), ("晚上11:00", "23:00"), ("午後3:04", "15:04"),
        ("오전 12:10", "00:10"), ("3:04 μ.μ.", "15:04"), ("3:04 م", "15:04"), ("٣:٠٤ م", "15:04"),
        ("kl. 15.04", "15:04"), ("à 15:04", "15:04"), ("3:04 ÖS", "15:04"), ("du. 3:04", "15:04"),
    ],
)  # fmt: skip
def test_clocks(tmp_path: Path, clock: str, utc: str) -> None:
    found = read_text(tmp_path, f"25/3/2024, {clock} - Anna: hi\n", zone="UTC")
    assert found.utc == [f"2024-03-25 {utc}:00"]


def test_day_halves_that_no_table_has_are_learnt_from_the_order_of_the_day(tmp_path: Path) -> None:
    clocks = ("9:10 zoq", "3:04 vex", "9:10 zoq", "11:59 vex")
    days = ("5/3/2024", "5/3/2024", "25/3/2024", "25/3/2024")
    text = "".join(f"{day}, {clock} - Anna: hi\n" for day, clock in zip(days, clocks, strict=True))
    assert [time[11:16] for time in read_text(tmp_path, text, zone="UTC").utc] == ["09:10", "15:04", "09:10", "23:59"]


def test_the_doubled_hour_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    clocks = ("01:59", "02:30", "02:50", "02:10", "02:10", "03:00")
    text = "".join(f"27.10.24, {clock} - Anna: hi\n" for clock in clocks)
    utc = read_text(tmp_path, text).utc
    assert [time[11:16] for time in utc] == ["23:59", "00:30", "00:50", "01:10", "01:10", "02:00"]
    assert utc == sorted(utc)
    gap = read_text(tmp_path, "31.03.24, 01:59 - Anna: a\n31.03.24, 02:30 - Anna: b\n31.03.24, 03:01 - Anna: c\n")
    assert [time[11:16] for time in gap.utc] == ["00:59", "01:30", "01:01"]  # a clock that showed what never was


def test_names_with_signs_of_the_format_in_them(tmp_path: Path) -> None:
    text = "".join(
        f"13/03/24, 15:0{number} - {name}: {text}\n"
        for number, (name, text) in enumerate(
            (
                ("Dr: Anna - work", "hello"), ("Dr: Anna - work", "note: bring it"), ("Dr: Anna - work", "ok"),
                ("a:b", "no space behind a colon"), ("\u202a+49 171 555\u202c", "x: y"), ("~\u202fCleo", "push name"),
            )
        )
    )  # fmt: skip
    found = read_text(tmp_path, text)
    assert [(sender, text) for sender, _, text in found.messages] == [
        ("Dr: Anna - work", "hello"), ("Dr: Anna - work", "note: bring it"), ("Dr: Anna - work", "ok"),
        ("a:b", "no space behind a colon"), ("+49 171 555", "x: y"), ("Cleo", "push name"),
    ]  # fmt: skip
    assert "Dr: Anna - work" in found.threads[0].people


IOS = "[13.03.24, 15:00:00] "
ANDROID = "13.03.24, 15:00 - "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<Archivo omitido>", "media"), ("<Ficheiro não revelado>", "media"), ("<メディアなし>", "media"),
        ("<Без медиафайлов>", "media"), ("<Pominięto multimedia>\nReport final.pdf", "media"),
        ("IMG-20250330-WA0010.jpg (קובץ מצורף)", "media"), ("STK-20250330-WA0010.webp (file attached)", "sticker"),
        ("Anna Berg.vcf (file attached)", "contact"), ("Report 2.pdf (plik załączony)", "media"),
        ("This message was deleted", "deleted"), ("THIS MESSAGE WAS DELETED.", "deleted"),
        ("This message was deleted by admin Cleo Marsh.", "deleted"), ("Данное сообщение удалено.", "deleted"),
        ("null", "view_once"), ("", "view_once"), ("Waiting for this message. This may take a while.", "waiting"),
        ("location: https://maps.google.com/?q=52.5200,13.4050", "location"), ("live location shared", "location"),
        ("Café Ö (Street 1): https://foursquare.com/v/4b0588", "location"), ("Missed voice call", "call"),
        ("Voice call, 5 min", "call"), ("Video call, \u200e1 hr 20 min", "call"), ("Voice call, \u200e12 sec", "call"),
        ("POLL:\nWhen?\nOPTION: Monday (2 votes)\nOPTION: never (0 votes)", "poll"),
        ("ENCUESTA:\n¿Cuándo?\nOPCIÓN: lunes (1 voto)\nOPCIÓN: nunca (0 votos)", "poll"),
    ],
)  # fmt: skip
def test_what_android_writes_in_the_place_of_a_text(tmp_path: Path, text: str, reason: str) -> None:
    found = read_text(tmp_path, f"{ANDROID}Anna: {text}\n{ANDROID}Anna: kept\n")
    assert (found.dropped, found.texts) == ({reason: 1}, ["kept"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{LRM}image omitted", "media"), ("image omitted", "media"), (f"{LRM}Contact card omitted", "contact"),
        (f"{LRM}貼圖已略去", "sticker"), (f"{LRM}<adjunto: 00000012-STICKER-2024-03-13-15-00-00.webp>", "sticker"),
        (f"{LRM}Plan B.pdf • {LRM}2 pages {LRM}<attached: 00000001-Plan B.pdf>", "media"),
        (f"Plan B.pdf • 2 pages {LRM}document omitted", "media"), (f"{LRM}<Anhang: 00000012-PHOTO.jpg>", "media"),
        (f"{LRM}Missed voice call", "call"), (f"{LRM}Voice call, {LRM}5 min", "call"),
        (f"{LRM}Anna added Cleo", "system"),
        (f"{LRM}Location: https://maps.google.com/?q=52.5,13.4", "location"),
        (f"{LRM}いつかの新しいお知らせ", "system"),
        (f"{LRM}POLL:\nWhen?\n{LRM}OPTION: now ({LRM}2 votes)\n{LRM}OPTION: never ({LRM}0 votes)", "poll"),
        (f"{LRM}You deleted this message.", "deleted"), ("", "view_once"), (".", None),
    ],
)  # fmt: skip
def test_what_an_iphone_writes_in_the_place_of_a_text(tmp_path: Path, text: str, reason: str | None) -> None:
    found = read_text(tmp_path, f"{IOS}Anna: {text}\r\n{IOS}Anna: kept\r\n")
    assert (found.dropped, found.texts) == ({reason: 1} if reason else {}, [text, "kept"] if not reason else ["kept"])


@pytest.mark.parametrize("line", [f"{IOS}Anna:", f"{IOS}Anna:.", f"{IOS}Anna: {LRM}"])
def test_messages_that_can_be_seen_once(tmp_path: Path, line: str) -> None:
    found = read_text(tmp_path, f"{IOS}Anna: hi\n{line}\n")
    assert (found.dropped, found.texts, found.threads[0].people) == ({"view_once": 1}, ["hi"], ("Anna",))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"new time: 9 {LRM}<This message was edited>", "new time: 9"), ("ok <This message was edited>", "ok"),
        ("vale <Se editó este mensaje.>", "vale"), (f"ja {LRM}<irgendwie verändert>", "ja"),
        ("i said image omitted, did you see", None), ("This message was deleted by me, sorry", None),
        ("<br>", None), ("a < b and b > c", None), ("me: ok", None), ("<3", None), ("see main.py (the file)", None),
        ("https://maps.google.com/?q=52.5,13.4", None), ("read: https://foursquare.com/about", None), ("nullify", None),
        ("13.03.24 was nice", None), ("Shopping:\nmilk\nbread (2)\neggs", None), ("POLL:", None),
        ("[13.03.24, 15:00:00] Cleo: copied", None), ("👨\u200d👩\u200d👧 ❤\ufe0f", None),
        ("hi @\u2068Cleo Marsh\u2069!", "hi @Cleo Marsh!"), ("@\u2068~\u202fCleo\u2069", "@Cleo"),
        ("\u200fשלום", None), ("two  spaces ", None), ("first\n\nthird\n", None),
        ("Call me later", None), ("Voice call, 5 min?", None), ("Video call, ok", None), ("=HYPERLINK(1)", None),
    ],
)  # fmt: skip
def test_what_people_write_is_kept_as_it_is(tmp_path: Path, text: str, kept: str | None) -> None:
    for head in (IOS, ANDROID):
        if head == IOS and text.startswith("["):
            continue
        found = read_text(tmp_path, f"{head}Anna: {text}\n{head}Ben: x\n")
        assert (found.texts, found.dropped) == ([text if kept is None else kept, "x"], {}), head


def test_a_caption_stands_before_or_behind_the_file(tmp_path: Path) -> None:
    files = (
        f"caption {LRM}<attached: 00000012-PHOTO-2024.jpg>", f"{LRM}<attached: 00000012-PHOTO-2024.jpg>\ncaption",
        f"caption {LRM}image omitted", f"caption {LRM}neues Wort für ein Bild",
    )  # fmt: skip
    found = read_text(tmp_path, "".join(f"{IOS}Anna: {file}\r\n" for file in files))
    assert (found.texts, found.dropped) == (["caption"] * len(files), {})


def test_lines_of_a_group_have_no_name_or_are_quoted(tmp_path: Path) -> None:
    lines = (
        "Anna created group “Ski: 2024”", 'Ben changed the subject to "Ski: 2025"',
        "Cleo joined using this group's invite link", "Anna: hi", "Ben: hi", "Cleo: hi",
    )  # fmt: skip
    found = read_text(tmp_path, "".join(f"{ANDROID}{line}\n" for line in lines), "WhatsApp Chat with Ski 2025.txt")
    (thread,) = found.threads
    assert (found.dropped, thread.title, thread.is_group, thread.owner) == ({"system": 3}, "Ski 2025", True, ())
    assert thread.people == ("Anna", "Ben", "Cleo")


def test_an_iphones_group_is_named_by_its_notice(tmp_path: Path) -> None:
    lines = (f"Ski 2025: {LRM}Messages and calls are end-to-end encrypted.", "Anna: hi", "Ben: hi")
    found = read_text(tmp_path, "".join(f"{IOS}{line}\r\n" for line in lines), "_chat.txt")
    (thread,) = found.threads
    assert (thread.title, thread.is_group, thread.people, thread.owner) == ("Ski 2025", True, ("Anna", "Ben"), ())


@pytest.mark.parametrize(
    "word",
    ["You deleted this message", "Du hast diese Nachricht gelöscht.", "Вы удалили данное сообщение", "你已刪除此訊息"],
)
def test_the_owner_is_who_deleted_something(tmp_path: Path, word: str) -> None:
    lines = ("Anna: a", "Ben: b", "Cleo: c", f"Cleo: {word}")
    found = read_text(tmp_path, "".join(f"{ANDROID}{line}\n" for line in lines))
    assert (found.threads[0].owner, found.threads[0].owner_is_marked) == (("Cleo",), False)
    assert found.dropped == {"deleted": 1}


def test_nothing_says_who_the_owner_is(tmp_path: Path) -> None:
    (thread,) = read_text(tmp_path, f"{ANDROID}Anna: a\n{ANDROID}Ben: b\n").threads
    assert (thread.owner, thread.is_group, thread.title) == ((), None, "Anna & Ben")


def test_a_large_file_comes_in_pieces_of_whole_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.READ_BYTES", 700)
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.MIN_BLOCK", 300)
    monkeypatch.setattr("jaegpt.exports.readers.whatsapp_text.PIECE", 10)
    texts = [f"message {number} ünï 🎉\n\n13.3 is no date" + "\nmore" * (number % 50) for number in range(400)]
    lines = [f"{number % 28 + 1}.03.24, 15:00 - Anna: {text}" for number, text in enumerate(texts)]
    found = read_text(
        tmp_path, "\r\n".join(line.replace("\n", "\r\n") for line in lines) + "\r\n40.03.24, 1:00 - Anna: x\r\n"
    )
    assert found.texts == texts
    assert len(found.threads) > 20
    assert len({thread.key for thread in found.threads}) == 1
    (fault,) = {thread.fault for thread in found.threads} - {None}
    last = 1 + sum(text.count("\n") + 1 for text in texts)
    assert fault == f"line {last:,}: '40.03.24', '1:00' is no time from 1990 to 2099"


def test_a_stretch_without_a_message_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.READ_BYTES", 1000)
    monkeypatch.setattr("jaegpt.exports.readers.text_blocks.MAX_MESSAGE", 5000)
    with pytest.raises(BadFileError, match="line 1: a message of more than"):
        read_text(tmp_path, f"{ANDROID}Anna: " + "x" * 20_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no line begins"), (b"hello\nthere\n", "no line begins"), (b"\0" * 5000, "no line begins"),
        (f"{ANDROID}Anna: hi".encode() + b"\xff\n", "not UTF-8 text .* at byte 26"),
        (f"{ANDROID}Anna: 🎉".encode()[:-1], "not UTF-8 text"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=says) as error:
        read(READER, path)
    assert str(error.value).startswith(str(path))


def test_what_stands_before_the_first_message_is_counted(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"the rest of a message\n{ANDROID}Anna: hi\n")
    assert (found.dropped, found.texts) == ({"malformed": 1}, ["hi"])
    assert found.threads[0].fault == "line 1: no date and time before the first message"


def test_damaged_chats_end_in_messages_or_in_one_clear_error(tmp_path: Path) -> None:
    contents = {f"{name}.txt": chat(locale).encode() for name, locale in LOCALES.items()}
    ends = check_damaged(READER, contents, tmp_path, NUM_MUTATIONS)
    assert ends["read"] > 0.3 * NUM_MUTATIONS, ends
    assert ends["refused"] > 0.05 * NUM_MUTATIONS, ends
