"""Downloads that went wrong, each with the right counts: every file is read or named, every person counts once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.export_fixtures import (
    OWNER,
    START,
    TALKS,
    Talk,
    as_json,
    config,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    write_folder,
    write_zip,
)

from jaegpt.errors import JaegptError
from jaegpt.exports import archives, first_pass
from jaegpt.exports.extract import survey_export
from jaegpt.exports.people import NAMELESS, clean_name

GOOD = files_of("since 2024")
THREAD = "your_facebook_activity/messages/inbox/bo_1002"
COPIED_FILES = (
    "message_1 (1)", "message_1 2", "message_1 - Copy", "message_1 - Kopie (2)", "message_1 copy", "message_1(1)",
    "Copy of message_1", "Kopie von message_1", "message_1 のコピー", "message_1のコピー", "Message_1", "message_1~",
)  # fmt: skip


@pytest.mark.parametrize("name", COPIED_FILES)
@pytest.mark.parametrize("beside", [False, True])
def test_a_copy_of_a_message_file_is_read(tmp_path: Path, name: str, beside: bool) -> None:
    raw = GOOD[f"{THREAD}/message_1.json"]
    files = GOOD | {f"{THREAD}/{name}.json": raw}
    if not beside:
        del files[f"{THREAD}/message_1.json"]
    report, table = read(write_folder(tmp_path / "e", files), tmp_path / "out")
    assert rows(table) == expected()
    assert report.dropped == ({"double": 3} if beside else {})


@pytest.mark.parametrize("wrapping", ["folder", "zip"])
@pytest.mark.parametrize(
    "mark", [" 2", " - Copy", " (1)", " - Copie", " - Kopie (3)", " copy", "のコピー", " - 副本", "(1)"]
)
def test_a_copy_of_a_threads_folder_is_that_thread(tmp_path: Path, mark: str, wrapping: str) -> None:
    later = replace(
        TALKS[1], folder=f"bo_1002{mark}", messages=(*TALKS[1].messages, ("Bo Łęck", START + 10**9, "later"))
    )
    files = files_of("since 2024", (*TALKS, later))
    path = write_folder(tmp_path / "e", files) if wrapping == "folder" else write_zip(tmp_path / "e.zip", files)
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected((TALKS[0], replace(later, folder="bo_1002"), TALKS[2]))
    assert (report.threads, report.dropped) == (len(TALKS), {"double": 3})


@pytest.mark.parametrize("box", ["broadcast_channels", "e2ee_something_new", "Inbox", "other threads"])
def test_a_box_of_another_name_is_read(tmp_path: Path, box: str) -> None:
    talks = (TALKS[0], TALKS[2], replace(TALKS[1], box=box))
    report, table = read(write_folder(tmp_path / "e", files_of("since 2024", talks)), tmp_path / "out")
    assert rows(table) == expected()
    assert report.threads == len(TALKS)


def test_threads_whose_messages_folder_was_left_behind_are_read(tmp_path: Path) -> None:
    files = {name.partition("messages/")[2]: raw for name, raw in GOOD.items()}
    _, table = read(write_zip(tmp_path / "e.zip", files), tmp_path / "out")
    assert rows(table) == expected()


def test_a_file_of_messages_that_was_sent_is_an_attachment(tmp_path: Path) -> None:
    raw = files_of("since 2024", (replace(TALKS[1], messages=((OWNER, START, "of somebody else"),)),))
    sent = dict.fromkeys((f"{THREAD}/files/message_1.json", "messages/x_1/files/message_1.json"), *raw.values())
    report, table = read(write_folder(tmp_path / "e", GOOD | sent), tmp_path / "out")
    assert rows(table) == expected()
    assert report.files == len(TALKS)


@pytest.mark.parametrize("name", ["Bo Łęck", "Bo Łęck_41 (1)", "Bo Łęck_41 2", "Bo"])
def test_an_encrypted_thread_under_another_name_is_read(tmp_path: Path, name: str) -> None:
    files = encrypted_files(TALKS)
    files[f"{name}.json"] = files.pop("Bo Łęck_41.json")
    files["notes.json"] = b'{"mine": 1}'
    report, table = read(write_folder(tmp_path / "e", files), tmp_path / "out")
    assert rows(table) == expected()
    assert report.problems == []


UNREAD = (
    "facebook-2.zip.crdownload", "facebook-2.zip.part", "Unconfirmed 17.crdownload", "facebook-2.zip.tmp",
    f"{THREAD}/message_2.json.part", f"{THREAD}/.message_2.json.icloud", f"{THREAD}/message_2.json.gz",
    f"{THREAD}/message_2.txt", "facebook-2.7z", "facebook-2.tar.gz", "facebook-2.zip.001",
)  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_may_hold_messages_and_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path / "e", GOOD | {name: b"PK\3\4", f"{THREAD}/files/film.part": b"", "x.html": b""})
    report, table = read(path, tmp_path / "out")
    assert rows(table) == expected()
    assert len(report.problems) == 1
    assert f"(1, the first is {path}/{name})" in report.problems[0]


def test_a_download_that_safari_has_not_finished_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "e", GOOD | {"facebook-2.zip.download/facebook-2.zip": b"PK\3\4"})
    report, _ = read(path, tmp_path / "out", on_error="skip")
    assert report.skipped == {"corrupt_zip": 1}


def _conversations(*talks: Talk) -> bytes:
    threads = []
    for talk in talks:
        messages: list[dict[str, Any]] = [
            {"sender": sender, "created_at": f"2019-05-04T10:{index:02}:00.1234+00:00", "text": text}
            for index, (sender, _, text) in enumerate(talk.messages)
        ]
        messages.append({"sender": OWNER, "created_at": "2019-05-04T11:00:00+00:00", "heart": "x"})
        messages.append({"sender": OWNER, "created_at": "2019-05-04T11:00:00+00:00", "video_call_action": "ended"})
        threads.append({"participants": list(talk.people), "conversation": messages[::-1]})
    return as_json(threads)


@pytest.mark.parametrize("name", ["messages.json", "part/messages (1).json"])
def test_the_one_file_of_instagram_until_2020(tmp_path: Path, name: str) -> None:
    files = {name: _conversations(*TALKS), "profile.json": as_json({"username": OWNER})}
    report, table = read(write_zip(tmp_path / "e.zip", files), tmp_path / "out")
    assert sorted(table["text"].to_pylist()) == sorted(text for _, _, text, _ in expected())
    assert (report.threads, report.groups, report.files, report.formats) == (3, 1, 1, {"instagram": 1})
    assert report.dropped == {"empty": 3, "call": 3}
    assert report.owner is not None
    assert (report.owner.names, report.owner.how) == ((OWNER,), "profile")
    assert table["sent_at"].cast("int64").to_pylist()[0] % 60_000 == 123


@pytest.mark.parametrize("copy", ["messages (1).json", "messages 2.json", "messages - Kopie.json"])
def test_a_copy_of_the_one_file_is_the_same_download(tmp_path: Path, copy: str) -> None:
    raw = _conversations(*TALKS).replace(b":00.1234+", b":00+")  # whole seconds, where one file may say a thing twice
    once, _ = read(write_folder(tmp_path / "a", {"messages.json": raw}), tmp_path / "out-a", owner=OWNER)
    report, _ = read(write_folder(tmp_path / "b", {"messages.json": raw, copy: raw}), tmp_path / "out-b", owner=OWNER)
    assert report.messages_read == 2 * once.messages_read > 0
    assert (report.messages_kept, report.threads) == (once.messages_kept, once.threads)


def test_a_friends_name_in_a_profile_is_not_the_owners(tmp_path: Path) -> None:
    files = files_of("instagram", TALKS)
    friend = next(name for name in TALKS[0].people if name != OWNER)
    values = {"Devise": {"value": friend}, "Nom d’utilisateur": {"value": "somebody.else"}}
    name = "personal_information/personal_information/personal_information.json"
    files[name] = as_json({"profile_user": [{"string_map_data": values}]})
    report, _ = read(write_folder(tmp_path / "e", files), tmp_path / "out")
    assert report.owner is not None
    assert (report.owner.names, report.owner.how) == ((OWNER,), "most threads")


def test_the_one_file_of_instagram_with_faults(tmp_path: Path) -> None:
    bad = as_json([{"participants": ["a"], "conversation": [{"sender": "a", "created_at": "yesterday", "text": "x"}]}])
    report, _ = read(write_folder(tmp_path / "e", GOOD | {"messages.json": bad}), tmp_path / "out", on_error="skip")
    assert report.dropped == {"malformed": 1}
    for raw in (b'{"participants": 1, "conversation": 2}', b'[{"participants": [5], "conversation": []}]'):
        path = write_folder(tmp_path / f"e{len(raw)}", GOOD | {"messages.json": raw})
        with pytest.raises(JaegptError, match=r"messages\.json: "):
            read(path, tmp_path / f"out{len(raw)}")


DELETED = (
    "Utilisateur Facebook", "Facebook User", "Facebook-Nutzer", "Usuario de Facebook", "Utente di Facebook",
    "Utilizador do Facebook", "Facebook-gebruiker", "Facebook-användare", "Użytkownik Facebooka", "Uživatel Facebooku",
    "Пользователь Facebook", "Facebook Kullanıcısı", "Người dùng Facebook", "Facebook 用户", "Facebookユーザー",
    "Facebook 사용자", "مستخدم فيسبوك", "Instagram User", "Utilisateur d’Instagram", "Χρήστης Facebook", "",
)  # fmt: skip


@pytest.mark.parametrize("name", DELETED)
def test_deleted_accounts_have_no_name_in_any_language(tmp_path: Path, name: str) -> None:
    assert clean_name(name) == NAMELESS
    gone = Talk("x_2001", name, (name, OWNER), ((name, START, "first"), (OWNER, START + 1, "a")), "e2ee_cutover")
    later = replace(gone, title=name or "x", messages=((name, START + 500, "another"), (OWNER, START + 600, "b")))
    path = write_folder(tmp_path / "e", files_of("since 2024", (gone, *TALKS)) | encrypted_files((later,)))
    report, _ = read(path, tmp_path / "out")
    assert report.threads == 5
    assert "found no continuation" in report.problems[0]


@pytest.mark.parametrize("name", ["Ben User", "Facebook", "Face Book", "Ana Usuario", "facebookfan", "Userin Meta"])
def test_names_of_people_stay(name: str) -> None:
    assert clean_name(name) == name


def test_equal_lines_of_one_second_are_as_many_as_one_copy_has(tmp_path: Path) -> None:
    talk = replace(
        TALKS[0], messages=((OWNER, START, "ha"), (OWNER, START, "ha"), (OWNER, START, "ha"), TALKS[0].messages[3])
    )
    fewer = replace(talk, messages=talk.messages[1:])
    exact = replace(talk, messages=((OWNER, START + 100, "ha"), (OWNER, START + 900, "ha"), TALKS[0].messages[3]))
    once = write_folder(tmp_path / "1", files_of("early 2018", (talk, *TALKS[1:])))
    again = write_folder(tmp_path / "2", files_of("early 2018", (fewer, *TALKS[1:])))
    now = write_folder(tmp_path / "3", files_of("since 2024", (exact, *TALKS[1:])))
    for index, paths in enumerate(([once], [once, again], [again, once], [once, now], [now, again, once])):
        _, table = read([str(path) for path in paths], tmp_path / f"out{index}")
        assert table["text"].to_pylist().count("ha") == 3, paths


@pytest.mark.parametrize(
    ("fields", "how"),
    [
        ({"Nom d’utilisateur": OWNER, "Nom": "Z.", "Bio": "Bo Łęck"}, "profile"),
        ({"Username": OWNER, "Name": "Z."}, "profile"),
        ({"Benutzername": OWNER}, "profile"),
        ({"Username": "somebody.else", "ユーザーネーム": OWNER}, "profile"),
    ],
)
def test_an_instagram_profile_in_any_language_names_the_owner(tmp_path: Path, fields: dict[str, str], how: str) -> None:
    from jaegpt.sample import double_encode

    values = {double_encode(key): {"value": double_encode(value)} for key, value in fields.items()}
    labels = [{"label": key, "value": value["value"]} for key, value in values.items()]
    for index, user in enumerate(({"string_map_data": values}, {"label_values": labels})):
        files = files_of("instagram", TALKS[:1])
        name = ("personal_information/personal_information", "account_information/personal_information")[index]
        files[f"personal_information/{name}.json"] = as_json({"profile_user": [user]})
        report, _ = read(write_folder(tmp_path / f"e{index}", files), tmp_path / f"out{index}")
        assert report.owner is not None
        assert (report.owner.names, report.owner.how) == ((OWNER,), how)


def test_a_file_that_vanishes_while_it_is_read_is_the_projects_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    path = write_folder(tmp_path / "e", GOOD)

    def vanished(entry: archives.Entry) -> bytes:
        (path / THREAD / "message_1.json").unlink(missing_ok=True)
        return archives.read_bytes(entry)

    monkeypatch.setattr(first_pass, "read_bytes", vanished)
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n.*message_1\.json: cannot be opened"):
        read(path, tmp_path / "out")


def test_a_number_beyond_all_counting_is_a_number(tmp_path: Path) -> None:
    files = {name.replace("_1.json", f"_{'7' * 200}.json"): raw for name, raw in GOOD.items()}
    _, table = read(write_zip(tmp_path / "e.zip", files), tmp_path / "out")
    assert rows(table) == expected()
    assert survey_export(config(tmp_path / "e.zip"), num_samples=0).threads == len(TALKS)
