"""Whatever lies in a download, it ends in messages or in one clear error, and never writes elsewhere."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    START,
    TALKS,
    as_json,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    since_2024,
    write_folder,
    write_zip,
)

from jaegpt.errors import JaegptError
from jaegpt.exports import archives as sources
from jaegpt.exports.messenger import MODERN
from jaegpt.exports.rows import read_rows

GOOD = files_of("since 2024")
BAD_NAME = "your_facebook_activity/messages/inbox/bad_9/message_1.json"
TALK = since_2024(TALKS[1])
MESSAGE = {"sender_name": "Bo", "timestamp_ms": START, "content": "x"}

# Whole files that are bad, with the reason they are counted under and what the error says.
BAD_FILES = {
    "zero bytes": (b"", "empty_file", "the file is empty"),
    "truncated": (as_json(TALK)[:200], "not_json", "not JSON .* at byte 200"),
    "truncated, with a mark": (b"\xef\xbb\xbf" + as_json(TALK)[:200], "not_json", "not JSON .* at byte 203"),
    "other text": (b"<html></html>", "not_json", "not JSON .* at byte 0"),
    "not UTF-8": (as_json(TALK).replace(b'"hey"', b'"h\xe9y"'), "not_utf8", r"not UTF-8 \(byte 0xe9\) at byte \d+"),
    "UTF-16": (as_json(TALK).decode().encode("utf-16"), "not_utf8", "not UTF-8"),
    "raw NUL bytes": (as_json(TALK).replace(b'"hey"', b'"h\0y"'), "not_json", r"at byte \d+"),
    "only NUL bytes": (bytes(500), "not_json", "at byte 0"),
    "deep nesting": (b"[" * 10_000 + b"]" * 10_000, "not_json", r"at byte \d+"),
    "deep nesting inside": (
        as_json(TALK).replace(b'"hey"', b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        "not_json",
        "byte",
    ),
    "a list": (b"[]", "wrong_structure", "found list where a thread was expected"),
    "a number": (b"17", "wrong_structure", "found int"),
    "null": (b"null", "wrong_structure", "found NoneType"),
    "no participants": (as_json({"messages": []}), "wrong_structure", "`participants` is nothing instead of a list"),
    "null participants": (as_json({**TALK, "participants": None}), "wrong_structure", "`participants` is nothing"),
    "messages of a wrong type": (as_json({**TALK, "messages": {}}), "wrong_structure", "`messages` is dict"),
    "participants of a wrong type": (as_json({**TALK, "participants": [5]}), "wrong_structure", "not a name"),
    "nameless participant": (as_json({**TALK, "participants": [{}]}), "wrong_structure", "not a name"),
}
# Single messages that are bad in a file that is not.
BAD_MESSAGES = {
    "null": (None, "NoneType instead of an object"),
    "a list": ([], "list instead of an object"),
    "no sender": ({"timestamp_ms": START, "content": "x"}, "`sender_name` is missing instead of a text"),
    "sender of a wrong type": ({**MESSAGE, "sender_name": 5}, "`sender_name` is int"),
    "no time": ({"sender_name": "Bo", "content": "x"}, "`timestamp_ms` is missing"),
    "time as text": ({**MESSAGE, "timestamp_ms": "1520000000000"}, "`timestamp_ms` is str"),
    "time as fraction": ({**MESSAGE, "timestamp_ms": 1.5e12}, "`timestamp_ms` is float"),
    "time as truth": ({**MESSAGE, "timestamp_ms": True}, "`timestamp_ms` is bool"),
    "negative time": ({**MESSAGE, "timestamp_ms": -1}, "outside the years"),
    "no known time": ({**MESSAGE, "timestamp_ms": 0}, "`timestamp_ms` 0 lies outside the years 1990 to 2099"),
    "seconds for ms": ({**MESSAGE, "timestamp_ms": START // 1000}, "outside the years"),
    "microseconds": ({**MESSAGE, "timestamp_ms": START * 1000}, "outside the years"),
    "not a number": ({**MESSAGE, "timestamp_ms": []}, "`timestamp_ms` is list"),
    "year 9999": ({**MESSAGE, "timestamp_ms": 253_402_300_799_000}, "outside the years"),
    "beyond 64 bits": ({**MESSAGE, "timestamp_ms": 2**70}, "`timestamp_ms` is float"),
    "just 64 bits": ({**MESSAGE, "timestamp_ms": 2**63}, "outside the years"),
    "content of a wrong type": ({**MESSAGE, "content": ["x"]}, "`content` is list"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("wrapping", ["folder", "zip"])
def test_bad_files(tmp_path: Path, name: str, wrapping: str) -> None:
    raw, reason, says = BAD_FILES[name]
    files = GOOD | {BAD_NAME: raw}
    path = write_folder(tmp_path / "e", files) if wrapping == "folder" else write_zip(tmp_path / "e.zip", files)
    with pytest.raises(JaegptError, match=rf"1 file cannot be read:\n  .*{BAD_NAME}: .*{says}(.|\n)*on_error to skip"):
        read(path, tmp_path / "stop")
    assert not any((tmp_path / "stop").iterdir())
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert rows(table) == expected()
    assert report.skipped == {reason: 1}
    assert len(report.problems) == 1


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_messages(tmp_path: Path, name: str) -> None:
    message, says = BAD_MESSAGES[name]
    content = {**TALK, "messages": [*TALK["messages"][:1], message, *TALK["messages"][1:]]}
    files = GOOD | {"your_facebook_activity/messages/inbox/bo_1002/message_1.json": as_json(content)}
    path = write_folder(tmp_path / "e", files)
    with pytest.raises(JaegptError, match=rf"1 of 4 messages malformed, the first is messages\[1\]: .*{says}"):
        read(path, tmp_path / "stop")
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert rows(table) == expected()
    assert report.dropped == {"malformed": 1}
    assert report.skipped == {}
    assert len(report.problems) == 1
    assert "bo_1002/message_1.json: 1 of 4 messages malformed" in report.problems[0]


@pytest.mark.parametrize("era", ["encrypted", "early 2018"])
def test_times_of_nothing_and_in_seconds(tmp_path: Path, era: str) -> None:
    """Seconds are seconds in the formats that do not say so, and a time of 0 is none in any."""
    files = encrypted_files(TALKS) if era == "encrypted" else files_of(era)
    for name, raw in files.items():
        content = json.loads(raw)
        for message in content["messages"]:
            message["timestamp"] //= 1000 if era == "encrypted" else 1
        content["messages"].insert(0, {**content["messages"][0], "timestamp": 0})
        files[name] = as_json(content)
    path = write_folder(tmp_path / "e", files)
    with pytest.raises(JaegptError, match="`timestamp` 0 lies outside the years 1990 to 2099"):
        read(path, tmp_path / "stop")
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert rows(table) == expected()
    assert report.dropped == {"malformed": len(TALKS)}


def test_a_million_bad_messages_are_described_once() -> None:
    messages: list[dict[str, int]] = [{} for _ in range(100_000)]
    tracemalloc.start()
    read_rows(messages, MODERN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(messages)  # bytes; a description has twice as many


def test_all_bad_files_are_listed_together(tmp_path: Path) -> None:
    bad = {f"messages/inbox/bad_{index}/message_1.json": raw for index, (raw, _, _) in enumerate(BAD_FILES.values())}
    path = write_folder(tmp_path / "e", GOOD | bad)
    (path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(JaegptError) as error:
        read(path, tmp_path / "stop")
    assert str(error.value).count("\n  ") == len(bad) + 1
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert rows(table) == expected()
    assert sum(report.skipped.values()) == len(bad) + 1


def test_odd_types_where_they_do_not_matter(tmp_path: Path) -> None:
    odd = {"title": 5, "thread_type": [], "image": None, "joinable_mode": 3, "magic_words": {}}
    content = {**TALK, **odd}
    content["messages"] = [
        {**message, "share": 7, "type": {}, "reactions": 1, "users": 0} for message in TALK["messages"]
    ]
    name = "your_facebook_activity/messages/inbox/bo_1002/message_1.json"
    _, table = read(write_folder(tmp_path / "e", GOOD | {name: as_json(content)}), tmp_path / "out")
    assert rows(table) == expected()


def test_unreadable_things(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", GOOD)
    thread = path / "your_facebook_activity/messages/inbox"
    for folder in ("pipe_1", "dangling_2"):
        (thread / folder).mkdir()
    os.mkfifo(thread / "pipe_1/message_1.json")  # reading it would wait for ever
    (thread / "dangling_2/message_1.json").symlink_to(tmp_path / "nowhere")
    (thread / "linked_3").symlink_to(tmp_path)
    (thread / "loop_4").symlink_to(thread)
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.skipped == {"unreadable": 2, "link": 2}
    with pytest.raises(JaegptError, match="4 files cannot be read"):
        read(path, tmp_path / "stop")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", GOOD | {BAD_NAME: b"{}"})
    (path / BAD_NAME).chmod(0)
    with pytest.raises(JaegptError, match="cannot be opened"):
        read(path, tmp_path / "out")


@pytest.mark.parametrize("is_zip", [False, True])
def test_files_that_vanish_while_they_are_read(tmp_path: Path, is_zip: bool) -> None:
    files = files_of("since 2024")
    path = write_zip(tmp_path / "e.zip", files) if is_zip else write_folder(tmp_path / "e", files)
    entries = sources.list_entries(str(path), lambda name: True).entries
    assert len(entries) == len(files)
    for entry in entries:
        (path if is_zip else Path(entry.path)).unlink(missing_ok=True)
        with pytest.raises(sources.BadFileError, match=r"No such file|not readable from its zip"):
            sources.read_bytes(entry)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "pipe"])
def test_links_to_pipes_and_devices(tmp_path: Path, target: str) -> None:
    path = write_folder(tmp_path / "e", GOOD)
    os.mkfifo(tmp_path / "pipe")
    where = tmp_path / "pipe" if target == "pipe" else Path(target)
    (path / BAD_NAME).parent.mkdir()
    (path / BAD_NAME).symlink_to(where)
    (path / "b.zip").symlink_to(where)
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.skipped == {"unreadable": 1, "corrupt_zip": 1}


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_pipes_are_not_opened(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path / "e", GOOD)
    os.mkfifo(path / name)
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.skipped == ({"corrupt_zip": 1} if name == "a.zip" else {})
    with pytest.raises(JaegptError, match=r"not a regular file|neither a folder nor a zip"):
        read(path / name, tmp_path / "alone")


def test_too_large_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 100)
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    with pytest.raises(JaegptError, match=r"bytes, more than 100"):
        read(write_folder(tmp_path / "e", GOOD), tmp_path / "out")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    for path, says in (
        ("none", "does not exist"),
        ("empty", r"no threads under .*your_facebook_activity"),
        ("file.txt", "neither"),
    ):
        with pytest.raises(JaegptError, match=rf"export\.path: .*{says}"):
            read(tmp_path / path, tmp_path / f"out-{path}")
    with pytest.raises(JaegptError, match=r"export\.path"):
        read("a\0b", tmp_path / "out-nul")


def test_file_names_of_any_bytes(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", GOOD)
    for name in (b"new\nline_1", b"latin-\xe9_2"):
        folder = os.fsencode(path / "your_facebook_activity/messages/inbox") + b"/" + name
        os.mkdir(folder)
        with open(folder + b"/message_1.json", "wb") as file:
            file.write(as_json({**TALK, "messages": []}))
        with open(folder + b"/message_2.json", "wb") as file:
            file.write(b"{")
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.threads == 5
    assert all(problem.isprintable() and problem.encode("utf-8") for problem in report.problems)
