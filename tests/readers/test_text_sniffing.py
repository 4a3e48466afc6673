"""No reader of a text format takes the files of another, nor what only looks like one."""

from pathlib import Path

import pytest
from helpers import (
    reader_fixtures_kakaotalk,
    reader_fixtures_line,
    reader_fixtures_whatsapp,
    reader_fixtures_whatsapp_db,
)
from helpers.reader_fixtures_text import read

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES
from jaegpt.exports.readers import kakaotalk, line_text, whatsapp_db, whatsapp_text

READERS = (whatsapp_text.READER, line_text.READER, kakaotalk.READER, whatsapp_db.READER)
FILES = {
    **{f"whatsapp {name}": (whatsapp_text, reader_fixtures_whatsapp.chat(locale).encode())
       for name, locale in reader_fixtures_whatsapp.LOCALES.items()},
    **{f"line {name}": (line_text, reader_fixtures_line.chat(shape).encode())
       for name, shape in reader_fixtures_line.SHAPES.items() if shape.head},
    **{f"kakaotalk {name}": (kakaotalk, reader_fixtures_kakaotalk.chat(shape).encode())
       for name, shape in reader_fixtures_kakaotalk.SHAPES.items()},
    "kakaotalk csv": (kakaotalk, reader_fixtures_kakaotalk.chat_csv()),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_one_readers(name: str) -> None:
    module, content = FILES[name]
    for reader in READERS:
        certainty = reader.sniff("export.txt", content[:HEAD_BYTES])
        assert certainty > 0.5 if reader is module.READER else certainty < 0.3, (reader.name, certainty)


def test_databases_are_no_text(tmp_path: Path) -> None:
    head = reader_fixtures_whatsapp_db.android(tmp_path / "a.db").read_bytes()[:HEAD_BYTES]
    assert [reader.sniff("a.db", head) >= 0.3 for reader in READERS] == [False, False, False, True]


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\n\n", b"\0" * 99, b"\xff\xfe", b"{}", b"[]",
        b'{"messages":[{"content":"12/09/2016, 17:07 - Anna: hi"}]}',
        b"name,date\r\nAnna,2024-01-02 10:00\r\n", b"date,time,text\n2024-01-02,10:30,hi\n",
        b"<html><body>10:30\tAnna</body></html>",
        b"2024-01-02 10:30 notes\n\nbread\nmilk\n", b"# Diary\n\n12/09/2016: was nice\n",
        b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n",
        b"1\n00:00:01,000 --> 00:00:02,000\nhi\n", b"May 17, 2022  5:29:42 PM\nMe\nhi\n",
        b"[10:30] <anna> hi\n[10:31] <ben> yes\n",
        b"17/Mar/2024:10:30:00 GET /a\n", b"10.0.0.1 - - [17/Mar/2024:10:30:00] x\n",
    ],
)  # fmt: skip
def test_other_files_are_nobodys(head: bytes) -> None:
    assert [reader.name for reader in READERS if reader.sniff("notes.txt", head) > 0.3] == []


@pytest.mark.parametrize(
    "head", ["13.03.24, 15:00 - Anna: ", "2024/03/05(火)\n10:30\tAnna\t", "2024년 3월 5일 오후 2:30, Anna : "]
)
def test_no_line_takes_long(tmp_path: Path, head: str) -> None:
    """Regular expressions that try every way to read a line would need hours for these."""
    parts = (
        "a:",
        "\u200e ",
        "<",
        "a.",
        "x.y (",
        " ",
        "\n",
        " :",
        "사진 ",
        "님이 ",
        "已",
        "\t",
        "[",
        "-",
        "1",
        "\u200e<a: b.c>",
        "O: a (1)\n",
    )
    for part in parts:
        path = tmp_path / "a.txt"
        path.write_text(f"{head}{part * 50_000}>)\n{head}x\n{part * 50_000}", encoding="utf-8")
        for reader in READERS[:3]:
            try:
                found = read(reader, path)
            except BadFileError:
                continue
            assert sum(thread.num_read for thread in found.threads) > 0
