"""What lies beside the messages does not matter, and what could hold messages is never ignored in silence."""

import zipfile
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    OWNER,
    TALKS,
    as_json,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    write_folder,
    write_zip,
)

from jaegpt.errors import JaegptError

GOOD = files_of("since 2024")
# Files that no reader of messages has to look at, however broken they are.
JUNK = {
    "posts/your_posts_1.json": b"",
    "comments/comments_2.json": b"{broken",
    "your_facebook_activity/posts/your_posts_1.json": b"",
    "your_facebook_activity/groups/your_badges_3.json": bytes(10),
    "__MACOSX/._x_1.json": b"\0\5\x16\7",
    "__MACOSX/your_facebook_activity/messages/inbox/bo_1002/._message_1.json": b"\0\5\x16\7",
    "__MACOSX/messages/inbox/bo_1002/message_1.json": b"\0\5\x16\7",
    "._photo_2.json": b"\0\5\x16\7",
    "your_facebook_activity/messages/inbox/bo_1002/._message_1.json": b"\0",
    "report_2023.json": b"",
    "notes_1.json": b"[1, 2",
    "numbers_4.json": b"17",
}


@pytest.mark.parametrize("wrapping", ["folder", "zip", "two zips", "list of two zips"])
def test_junk_beside_messages_does_not_stop_a_run(tmp_path: Path, wrapping: str) -> None:
    if wrapping == "folder":
        path: Path | list[str] = write_folder(tmp_path / "e", GOOD | JUNK)
    elif wrapping == "zip":
        path = write_zip(tmp_path / "e.zip", GOOD | JUNK)
    else:  # the second holds no messages at all
        first, second = write_zip(tmp_path / "e/1.zip", GOOD), write_zip(tmp_path / "e/2.zip", _below(JUNK))
        path = first.parent if wrapping == "two zips" else [str(first), str(second)]
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert report.files == len(TALKS)
    assert report.problems == []


def _below(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those that do not lie at the top: Meta puts nothing there."""
    return {name: raw for name, raw in files.items() if "/" in name}


def test_junk_of_a_mac_beside_zips(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e/1.zip", GOOD).parent
    (path / "._1.zip").write_bytes(b"\0\5\x16\7")
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert report.problems == []


# Files of an encrypted download that are bad, with the reason they are counted under.
BAD_ENCRYPTED = {
    "zero bytes": (b"", "empty_file"),
    "not JSON": (b"{broken", "not_json"),
    "truncated": (encrypted_files(TALKS[:1])["Anaïs Sølvay_40.json"][:200], "not_json"),
    "a list": (b"[]", "wrong_structure"),
    "a number": (b"17", "wrong_structure"),
    "no participants": (as_json({"threadName": "X_9", "messages": []}), "wrong_structure"),
    "no messages": (as_json({"threadName": "X_9", "participants": []}), "wrong_structure"),
    "messages of a wrong type": (as_json({"threadName": "X_9", "participants": [], "messages": {}}), "wrong_structure"),
    "another format": (
        as_json({"participants": [{"name": "X"}], "messages": [{"sender_name": "X", "timestamp_ms": 1}]}),
        "wrong_structure",
    ),
}


@pytest.mark.parametrize(
    "wrapping", ["folder", "zip", "folder in a folder", "beside Messenger", "zip beside Messenger"]
)
@pytest.mark.parametrize("name", BAD_ENCRYPTED)
def test_bad_files_of_an_encrypted_download_are_reported(tmp_path: Path, wrapping: str, name: str) -> None:
    raw, reason = BAD_ENCRYPTED[name]
    files = encrypted_files(TALKS) | {"Xaver Quist_9.json": raw}
    talks = TALKS
    if wrapping == "folder":
        path = write_folder(tmp_path / "e", files)
    elif wrapping == "zip":
        path = write_zip(tmp_path / "e.zip", files)
    elif wrapping == "folder in a folder":
        path = write_folder(tmp_path / "e/unpacked", files).parent
    else:
        path = write_folder(tmp_path / "e", files_of("since 2024", TALKS[:1]) | JUNK)
        talks = (TALKS[0], *TALKS)
        if wrapping == "beside Messenger":
            write_folder(path / "unpacked", files)
        else:
            write_zip(path / "encrypted.zip", files)
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n  .*Xaver Quist_9\.json: "):
        read(path, tmp_path / "stop")
    report, table = read(path, tmp_path / "skip", on_error="skip")
    assert report.skipped == {reason: 1}
    assert sorted(rows(table)) == sorted(expected(talks))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{broken", as_json({"participants": [], "messages": 5})])
@pytest.mark.parametrize("wrapping", ["folder", "zip"])
def test_a_download_that_was_named_is_judged_though_nothing_in_it_is_whole(
    tmp_path: Path, wrapping: str, raw: bytes
) -> None:
    files = {"Xaver Quist_9.json": raw}
    path = write_folder(tmp_path / "b", files) if wrapping == "folder" else write_zip(tmp_path / "b.zip", files)
    paths = [str(write_folder(tmp_path / "a", GOOD)), str(path)]
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n  .*Xaver Quist_9\.json: "):
        read(paths, tmp_path / "stop")
    report, table = read(paths, tmp_path / "skip", on_error="skip")
    assert sum(report.skipped.values()) == 1
    assert rows(table) == expected()
    with pytest.raises(JaegptError, match=r"export\.path: .*\n.*Xaver Quist_9\.json"):
        read(path, tmp_path / "alone", on_error="skip")


def test_only_files_with_such_a_name(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", {"posts/your_posts_1.json": b"[]"})
    with pytest.raises(JaegptError, match=r"no threads under (.|\n)*only the name .*your_posts_1\.json"):
        read(path, tmp_path / "out")


@pytest.mark.parametrize("link", ["your_facebook_activity", "your_facebook_activity/messages", "messages/inbox"])
def test_linked_folders_where_threads_belong_stand_in_the_way(tmp_path: Path, link: str) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", files_of("since 2024", TALKS[:1]))
    path = write_folder(tmp_path / "e", files_of("late 2018", TALKS[1:]) if "inbox" not in link else _archived())
    (path / link).parent.mkdir(parents=True, exist_ok=True)
    (path / link).symlink_to(elsewhere)
    with pytest.raises(JaegptError, match=rf"{link}: a link to another folder"):
        read(path, tmp_path / "stop", owner=OWNER)
    report, table = read(path, tmp_path / "skip", on_error="skip", owner=OWNER)
    assert report.skipped == {"link": 1}
    assert rows(table) == expected(TALKS[1:])


def _archived() -> dict[str, bytes]:
    return {name.replace("inbox", "archived_threads"): raw for name, raw in files_of("late 2018", TALKS[1:]).items()}


def test_linked_folders_elsewhere_are_mentioned(tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", GOOD)
    path = write_folder(tmp_path / "e", GOOD)
    (path / "older download").symlink_to(elsewhere)
    (path / "your_facebook_activity/messages/inbox/bo_1002/photos").symlink_to(elsewhere)  # holds media at most
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert len(report.problems) == 1
    assert "older download: a link to another folder" in report.problems[0]


def test_zips_one_folder_deeper_are_read(tmp_path: Path) -> None:
    for index, (name, raw) in enumerate(GOOD.items()):
        write_zip(tmp_path / f"e/download {index}/part.zip", {name: raw})
    report, table = read(tmp_path / "e", tmp_path / "out")
    assert rows(table) == expected()
    assert report.problems == []


@pytest.mark.parametrize("place", ["a/b/c/d", "messages", "your_encrypted_messages", "your_things/a/b/c"])
@pytest.mark.parametrize("wrapping", ["folder", "zip"])
def test_encrypted_threads_are_found_wherever_they_lie(tmp_path: Path, wrapping: str, place: str) -> None:
    files = {f"{place}/{name}": raw for name, raw in encrypted_files(TALKS).items()} | _below(JUNK)
    path = write_folder(tmp_path / "e", files) if wrapping == "folder" else write_zip(tmp_path / "e.zip", files)
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert report.problems == []


def test_encrypted_threads_that_somebody_sent_are_an_attachment(tmp_path: Path) -> None:
    sent = {f"messages/inbox/bo_1002/files/{name}": raw for name, raw in encrypted_files(TALKS).items()}
    report, table = read(write_folder(tmp_path / "e", files_of("2022") | sent), tmp_path / "out")
    assert rows(table) == expected()
    assert report.formats == {"messenger": len(TALKS)}


@pytest.mark.parametrize("place", ["messages", "messages/inbox", "your_facebook_activity/messages"])
def test_zips_among_threads_are_mentioned(tmp_path: Path, place: str) -> None:
    path = write_folder(tmp_path / "e", files_of("2022"))
    write_zip(path / place / "older.zip", GOOD)
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert len(report.problems) == 1
    assert f"(1, the first is {place}/older.zip)" in report.problems[0]


def test_zips_deeper_still_and_in_zips_are_mentioned(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", GOOD)
    write_zip(path / "old/2019/part.zip", GOOD)
    write_zip(path / "your_facebook_activity/messages/inbox/bo_1002/files/attachment.zip", GOOD)
    with zipfile.ZipFile(path / "outer.zip", "w") as outer:
        outer.write(path / "old/2019/part.zip", "inner.zip")
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert len(report.problems) == 1
    assert "are not opened (2, the first is old/2019/part.zip)" in report.problems[0]
    write_zip(tmp_path / "deep/a/b/c.zip", GOOD)
    with pytest.raises(JaegptError, match=r"no threads under (.|\n)*a/b/c\.zip"):
        read(tmp_path / "deep", tmp_path / "nothing")
