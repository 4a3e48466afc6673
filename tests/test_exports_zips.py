"""Zips of every kind of damage and malice: each file in them is read, or is one bad file with a reason."""

import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    OWNER,
    START,
    TALKS,
    as_json,
    expected,
    files_of,
    read,
    rows,
    since_2024,
    tree,
    write_zip,
)

from jaegpt.errors import JaegptError
from jaegpt.exports import archives as sources

GOOD = files_of("since 2024")
BAD_NAME = "your_facebook_activity/messages/inbox/bad_9/message_1.json"
TALK = since_2024(TALKS[1])


@pytest.mark.parametrize(
    "name", ["../evil/messages/inbox/x_1/message_1.json", "/messages/inbox/x_1/message_1.json", "..\\evil"]
)
def test_names_that_lead_out_of_a_zip(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "in/e.zip", GOOD | {name: as_json(TALK)})
    before = tree(tmp_path)
    with pytest.raises(JaegptError, match="leads out of the zip"):
        read(path, tmp_path / "stop")
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert report.skipped == {"unsafe_name": 1}
    assert rows(table) == expected()
    written = {name for name in tree(tmp_path) if name not in before}
    assert written
    assert all(name.startswith("skip/part-") for name in written), written


def test_links_inside_a_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo(BAD_NAME)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/hostname")
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert report.skipped == {"link": 1}
    assert rows(table) == expected()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_pipes_and_devices_inside_a_zip(tmp_path: Path, kind: int) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo(BAD_NAME)
        member.external_attr = (kind | 0o644) << 16
        archive.writestr(member, as_json(TALK))
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert report.skipped == {"unreadable": 1}
    assert rows(table) == expected()


@pytest.mark.parametrize("name", [f"message_{'1' * 5000}.json", f"message_{'1' * 300}.json", f"{'ż' * 200}_1.json"])
def test_names_that_no_file_system_takes(tmp_path: Path, name: str) -> None:
    """A number of 5,000 digits is more than Python reads."""
    folder = "your_facebook_activity/messages/inbox/bo_1002/" if name.startswith("message") else ""
    path = write_zip(tmp_path / "e.zip", GOOD | {folder + name: as_json(TALK)})
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n  .*a name of [\d,]+ characters") as error:
        read(path, tmp_path / "stop")
    assert len(str(error.value)) < 1000
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert report.skipped == {"unsafe_name": 1}
    assert rows(table) == expected()


def test_many_small_values_are_not_parsed(tmp_path: Path) -> None:
    """20 MiB of brackets would take 600 MiB; as much of messages does no harm."""
    brackets = b"[" + b"[]," * (20 * 2**20 // 3) + b"0]"
    message = {**TALK["messages"][0], "content": "word, " * 100}
    talk = as_json({**TALK, "messages": [message] * (20 * 2**20 // len(as_json(message)))})
    for name, raw in (("brackets", brackets), ("talk", talk)):
        assert len(raw) > sources._VALUES_MATTER_FROM
        (tmp_path / name).write_bytes(raw)
    refused, taken = sources.list_entries(str(tmp_path), lambda name: True).entries
    with pytest.raises(sources.BadFileError, match="more than 12,000,000 values"):
        sources.read_bytes(refused)
    assert sources.read_bytes(taken) == talk


def test_encrypted_members(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD | {BAD_NAME: as_json(TALK)})
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x01\x02", 0, raw.rfind(BAD_NAME.encode()))
    raw[at + 8] |= 1  # the flag in the table of contents
    path.write_bytes(raw)
    with pytest.raises(JaegptError, match="protected by a password"):
        read(path, tmp_path / "stop")
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert report.skipped == {"encrypted": 1}
    assert rows(table) == expected()


def test_a_zip_bomb_is_not_opened(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD | {BAD_NAME: b" " * 300_000_000})
    assert path.stat().st_size < 2**20
    began = time.perf_counter()
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert time.perf_counter() - began < 5
    assert report.skipped == {"too_large": 1}
    assert rows(table) == expected()


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD | {BAD_NAME: b" " * 30_000_000})
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x01\x02", 0, raw.rfind(BAD_NAME.encode()))
    raw[at + 24 : at + 28] = struct.pack("<I", 1000)
    path.write_bytes(raw)
    report, _ = read(path, tmp_path / "out", on_error="skip")
    assert sum(report.skipped.values()) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_methods_that_unpack_without_limit_are_refused(tmp_path: Path, method: int, is_damaged: bool) -> None:
    path = write_zip(tmp_path / "e.zip", GOOD)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(BAD_NAME, as_json(TALK))
        at = archive.getinfo(BAD_NAME).header_offset + 30 + len(BAD_NAME)
    if is_damaged:
        raw = bytearray(path.read_bytes())
        raw[at : at + 20] = b"\xff" * 20
        path.write_bytes(raw)
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.skipped == {"compression": 1}
    assert f"packed by method {method}, " in report.problems[0]


def test_ordinary_chat_is_far_from_the_limit_on_expansion() -> None:
    import zlib

    messages = [{**TALK["messages"][0], "timestamp_ms": START + 60_000 * index} for index in range(10_000)]
    dull = as_json({**TALK, "messages": messages})
    assert len(dull) > 2**20
    assert len(dull) / len(zlib.compress(dull, 9)) < sources.MAX_EXPANSION / 2


def test_corrupt_zips(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", GOOD).read_bytes()
    for index, raw in enumerate((b"", b"not a zip", whole[: len(whole) // 2], whole[:-30], whole[40:])):
        path = tmp_path / f"{index}.zip"
        path.write_bytes(raw)
        with pytest.raises(JaegptError, match=r"cannot be read:\n|no threads"):
            read(path, tmp_path / f"out{index}")
    damaged = bytearray(whole)
    damaged[300:340] = bytes(40)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    report, table = read(tmp_path / "damaged.zip", tmp_path / "skip", on_error="skip", owner=OWNER)
    assert sum(report.skipped.values()) >= 1
    assert set(rows(table)) < set(expected())
