"""The same conversations out of every format, year, box and wrapping are the same messages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    ERAS,
    OWNER,
    START,
    TALKS,
    WRAPPINGS,
    as_json,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    since_2024,
    wrap,
    write_folder,
    write_zip,
)

from jaegpt.errors import JaegptError
from jaegpt.exports.extract import survey_export
from jaegpt.exports.message_files import BOXES


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_era_and_wrapping_reads_to_the_same_messages(tmp_path: Path, era: str, wrapping: str) -> None:
    path = wrap(tmp_path, files_of(era), wrapping, ERAS[era][0])
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert report.threads == len(TALKS)
    assert report.groups == 1
    assert sum(table["is_group"].to_pylist()) == len(TALKS[2].messages)


@pytest.mark.parametrize("box", BOXES)
def test_every_box_is_read(tmp_path: Path, box: str) -> None:
    talks = tuple(replace(talk, box=box) for talk in TALKS)
    report, table = read(write_folder(tmp_path / "export", files_of("since 2024", talks)), tmp_path / "out")
    assert rows(table) == expected()
    assert report.boxes == {box: len(TALKS)}
    assert set(table["box"].to_pylist()) == {box}


@pytest.mark.parametrize("wrapping", ["folder", "zip"])
@pytest.mark.parametrize("doubly_encoded", [False, True])
def test_the_encrypted_download(tmp_path: Path, wrapping: str, doubly_encoded: bool) -> None:
    files = encrypted_files(TALKS)
    if doubly_encoded:
        files = {name: json.dumps(json.loads(raw), ensure_ascii=False).encode() for name, raw in files.items()}
        files = {name: raw.decode().encode().decode("latin-1").encode() for name, raw in files.items()}
    files["media/photo.jpg"] = b"\xff\xd8"
    files["Nobody_7.json"] = as_json({"participants": [OWNER, "Nobody"], "threadName": "Nobody_7", "messages": []})
    path = write_folder(tmp_path / "e", files) if wrapping == "folder" else write_zip(tmp_path / "e.zip", files)
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert report.formats == {"encrypted": len(TALKS) + 1}


def test_files_of_a_thread_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    texts = [f"number {index}" for index in range(24)]
    talk = replace(TALKS[0], messages=tuple((OWNER, START, text) for text in texts))  # all in one millisecond
    files = {}
    for number in range(1, 13):  # message_1 is the newest, message_12 the oldest
        part = replace(talk, messages=talk.messages[24 - 2 * number : 26 - 2 * number])
        files[f"messages/inbox/x_1/message_{number}.json"] = as_json(since_2024(part))
    _, table = read(write_folder(tmp_path / "export", files), tmp_path / "out", owner=OWNER)
    assert table["text"].to_pylist() == texts


def test_one_thread_over_several_zips_and_overlapping_downloads(tmp_path: Path) -> None:
    old, new = TALKS[0].messages[:3], TALKS[0].messages[1:]
    first = write_zip(tmp_path / "1.zip", files_of("since 2024", (replace(TALKS[0], messages=new), TALKS[1])))
    second = write_zip(tmp_path / "2.zip", files_of("2022", (replace(TALKS[0], messages=old), TALKS[2])))
    report, table = read([str(first), str(second), str(first)], tmp_path / "out")
    assert rows(table) == expected()
    assert report.dropped == {"double": 2}
    assert report.threads == len(TALKS)


def test_other_files_of_a_download_are_left_alone(tmp_path: Path) -> None:
    files = files_of("since 2024") | {
        "your_facebook_activity/messages/autofill_information.json": as_json({"autofill_information_v2": {}}),
        "your_facebook_activity/messages/secret_conversations.json": b"[not json",
        "your_facebook_activity/posts/your_posts_1.json": b"{broken",
        "your_facebook_activity/messages/stickers_used/1.png": b"",
        "your_facebook_activity/messages/inbox/bo_1002/photos/1.jpg": b"\0",
        "posts/your_posts_1.json": b"{broken",
    }
    report, table = read(write_folder(tmp_path / "export", files), tmp_path / "out")
    assert rows(table) == expected()
    assert report.files == len(TALKS)


@pytest.mark.parametrize(
    "files",
    [
        {"messages/inbox/bo_1002/message_1.html": b"<html>"},
        {"html/messages.htm": b"<html>"},
        {"your_facebook_activity/messages/inbox/bo_1002/message_1.html": b"<html>"},
    ],
)
def test_html_alone_is_recognised_with_instructions(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(JaegptError, match=r"HTML only .*format JSON"):
        read(write_folder(tmp_path / "export", files), tmp_path / "out")


def test_threads_of_2018_without_a_box(tmp_path: Path) -> None:
    files = {name.replace("/inbox/", "/"): raw for name, raw in files_of("early 2018").items()}
    report, table = read(write_zip(tmp_path / "export.zip", files), tmp_path / "out")
    assert rows(table) == expected()
    assert report.boxes == {"inbox": len(TALKS)}


def test_html_beside_a_broken_zip_comes_with_instructions_too(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "export", {"messages/inbox/bo_1002/message_1.html": b"<html>", "a.zip": b"PK"})
    with pytest.raises(JaegptError, match=r"a\.zip: not readable (.|\n)*HTML only .*format JSON"):
        read(path, tmp_path / "out", on_error="skip")


def test_a_first_message_without_time_does_not_hide_the_year(tmp_path: Path) -> None:
    files = files_of("early 2018")
    name = "messages/inbox/bo_1002/message.json"
    content = json.loads(files[name])
    content["messages"].insert(0, {"sender_name": "Bo", "content": "when was this"})
    path = write_folder(tmp_path / "export", files | {name: as_json(content)})
    report, table = read(path, tmp_path / "out", on_error="skip")
    assert rows(table) == expected()
    assert report.dropped == {"malformed": 1}


def test_html_beside_json_is_a_notice(tmp_path: Path) -> None:
    files = files_of("since 2024") | {"messages/inbox/bo_1002/message_1.html": b"<html>"}
    report, table = read(write_folder(tmp_path / "export", files), tmp_path / "out")
    assert rows(table) == expected()
    assert len(report.problems) == 1


def test_threads_are_told_apart_by_folder_not_by_name(tmp_path: Path) -> None:
    twin = replace(TALKS[1], folder="bo_7777", messages=((OWNER, START + 1, "to the other Bo"),))
    report, _ = read(write_folder(tmp_path / "export", files_of("2023", (*TALKS, twin))), tmp_path / "out")
    assert report.threads == 4


def test_surveying_writes_nothing(tmp_path: Path) -> None:
    from helpers.export_fixtures import config, tree

    path = write_folder(tmp_path / "export", files_of("since 2024"))
    before = tree(tmp_path)
    report = survey_export(config(path), num_samples=4)
    assert report.messages_kept == len(expected())
    assert 0 < len(report.samples) <= 4
    assert tree(tmp_path) == before
