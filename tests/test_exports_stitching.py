"""The halves of one conversation are joined where exactly one can be meant; what is not joined is reported."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.export_fixtures import (
    OWNER,
    START,
    TALKS,
    Talk,
    config,
    encrypted_files,
    expected,
    files_of,
    read,
    rows,
    write_folder,
    write_zip,
)

from jaegpt.exports.extract import survey_export

CUTOVER = replace(TALKS[0], box="e2ee_cutover")
LATER = replace(TALKS[0], messages=(*TALKS[0].messages[-1:], (OWNER, START + 99_000, "now encrypted")))


def test_the_encrypted_half_is_stitched_to_its_cutover_thread(tmp_path: Path) -> None:
    files = files_of("since 2024", (CUTOVER, *TALKS[1:]))
    paths = [str(write_folder(tmp_path / "a", files)), str(write_zip(tmp_path / "b.zip", encrypted_files((LATER,))))]
    report, table = read(paths, tmp_path / "out")
    joined = replace(CUTOVER, messages=(*CUTOVER.messages, LATER.messages[-1]))
    assert rows(table) == expected((joined, *TALKS[1:]))
    assert report.threads == len(TALKS)
    assert report.dropped == {"double": 1}
    assert report.problems == []


@pytest.mark.parametrize("side", ["cutover", "encrypted"])
def test_an_ambiguous_stitch_is_reported_and_not_guessed(tmp_path: Path, side: str) -> None:
    namesake = replace(CUTOVER, folder="anaissolvay_2001", messages=((OWNER, START + 500_000, "you, namesake"),))
    cutover = (CUTOVER, namesake) if side == "cutover" else (CUTOVER,)
    later = (LATER,) if side == "cutover" else (LATER, namesake)
    files = files_of("since 2024", (*cutover, *TALKS[1:]))
    paths = [str(write_folder(tmp_path / "a", files)), str(write_folder(tmp_path / "b", encrypted_files(later)))]
    report, _ = read(paths, tmp_path / "out")
    assert report.threads == 5
    assert len(report.problems) == 1
    assert "Anaïs Sølvay" in report.problems[0]


def test_deleted_people_are_never_stitched_by_name(tmp_path: Path) -> None:
    gone = Talk(
        "facebookuser_9", "Facebook user", ("Facebook user", OWNER), (("Facebook user", START, "hi"),), "e2ee_cutover"
    )
    later = replace(gone, messages=(("Facebook user", START + 1000, "hello"),))
    files = files_of("since 2024", (gone, *TALKS))
    paths = [str(write_folder(tmp_path / "a", files)), str(write_folder(tmp_path / "b", encrypted_files((later,))))]
    report, _ = read(paths, tmp_path / "out")
    assert report.threads == 5


ANNA, ANNA_BEFORE = "Anna Ødeby", "Anna Quist"


def _talk(folder: str, title: str, people: tuple[str, ...], *messages: tuple[str, str], at: int = 0) -> Talk:
    timed = tuple((sender, START + at + 1000 * index, text) for index, (sender, text) in enumerate(messages))
    return Talk(folder, title, people, timed, "e2ee_cutover")


def _both(tmp_path: Path, earlier: tuple[Talk, ...], later: tuple[Talk, ...]) -> list[str]:
    """A Messenger download, with threads that show who its owner is, and an encrypted one."""
    inbox = tuple(replace(TALKS[1], folder=f"bo_{index}") for index in range(3))
    first = write_folder(tmp_path / "a", files_of("since 2024", (*earlier, *inbox)))
    return [str(first), str(write_zip(tmp_path / "b.zip", encrypted_files(later)))]


FORMER = {
    # (earlier thread, later thread) of one person who took another name in between
    "in the earlier half": (
        _talk("anna_1", ANNA, (ANNA, OWNER), (ANNA_BEFORE, "hi"), (OWNER, "hello"), (ANNA, "new name")),
        _talk("", ANNA, (ANNA, OWNER), (ANNA, "and on"), at=90_000),
    ),
    "in the later half": (
        _talk("anna_1", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "hi"), (OWNER, "hello")),
        _talk("", ANNA, (ANNA, OWNER), (ANNA_BEFORE, "and on"), (ANNA, "new name"), at=90_000),
    ),
    "old download, new name known to it": (
        _talk("anna_1", ANNA, (ANNA, OWNER), (ANNA_BEFORE, "hi"), (OWNER, "hello")),
        _talk("", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "and on"), at=90_000),
    ),
    "the owner's": (
        _talk("anna_1", ANNA, (ANNA, OWNER), (ANNA, "hi"), ("Zoë Quist", "hello")),
        _talk("", ANNA, (ANNA, OWNER), ("Zoë Quist", "and on"), at=90_000),
    ),
}


@pytest.mark.parametrize("name", FORMER)
def test_former_names_do_not_hinder(tmp_path: Path, name: str) -> None:
    earlier, later = FORMER[name]
    report, table = read(_both(tmp_path, (earlier,), (later,)), tmp_path / "out", owner=OWNER)
    assert report.threads == 4
    assert report.problems == []
    texts = [text for _, _, text, _ in rows(table)]
    assert texts[: len(earlier.messages)] == [text for _, _, text in earlier.messages]
    assert "and on" in texts[len(earlier.messages) : len(earlier.messages) + len(later.messages)]


def test_a_present_name_goes_before_a_former_one(tmp_path: Path) -> None:
    """Two people: one is called Anna Quist, the other was until she took another name."""
    same = _talk("anna_1", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "I am she"))
    other = _talk("anna_2", ANNA, (ANNA, OWNER), (ANNA_BEFORE, "I was called so"), (ANNA, "now not"), at=5000)
    later = _talk("", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "and on"), at=90_000)
    report, table = read(_both(tmp_path, (same, other), (later,)), tmp_path / "out", owner=OWNER)
    assert report.threads == 5
    assert [text for _, _, text, _ in rows(table)][:2] == ["I am she", "and on"]


def test_two_who_once_had_the_name_are_ambiguous(tmp_path: Path) -> None:
    earlier = tuple(
        _talk(f"anna_{index}", f"Now {index}", (f"Now {index}", OWNER), (ANNA_BEFORE, "once"), at=index)
        for index in range(2)
    )
    later = _talk("", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "and on"), at=90_000)
    report, _ = read(_both(tmp_path, earlier, (later,)), tmp_path / "out", owner=OWNER)
    assert report.threads == 6
    assert len(report.problems) == 1
    assert "2 earlier threads bear this name; not joined" in report.problems[0]


def test_a_group_that_shrank_is_no_pair(tmp_path: Path) -> None:
    earlier = _talk("trip_1", "Trip", (ANNA, OWNER), ("Cyd Vågen", "bye"), (ANNA, "pity"))
    later = _talk("", ANNA, (ANNA, OWNER), (ANNA, "and on"), at=90_000)
    report, _ = read(_both(tmp_path, (earlier,), (later,)), tmp_path / "out", owner=OWNER)
    assert report.threads == 5
    assert len(report.problems) == 1
    assert "1 thread of e2ee_cutover (Anna Ødeby / Cyd Vågen)" in report.problems[0]


def test_what_found_no_other_half_is_reported(tmp_path: Path) -> None:
    earlier = _talk("anna_1", ANNA_BEFORE, (ANNA_BEFORE, OWNER), (ANNA_BEFORE, "hi"))
    later = _talk("", ANNA, (ANNA, OWNER), (ANNA, "and on"), at=90_000)
    report, _ = read(_both(tmp_path, (earlier,), (later,)), tmp_path / "out", owner=OWNER)
    assert report.threads == 5
    assert len(report.problems) == 1
    assert ANNA_BEFORE in report.problems[0]


def _downloads(tmp_path: Path, *talks: tuple[Talk, ...], step: int = 30) -> list[str]:
    """Encrypted downloads of several days, whose numbers have nothing to do with each other."""
    return [
        str(write_zip(tmp_path / f"{index}.zip", encrypted_files(download, first=10 + step * index)))
        for index, download in enumerate(talks)
    ]


def test_encrypted_downloads_with_other_numbers_are_joined(tmp_path: Path) -> None:
    older = tuple(replace(talk, messages=talk.messages[:-1]) for talk in TALKS)
    paths = _downloads(tmp_path, older, TALKS)
    report, table = read(paths, tmp_path / "out")
    assert rows(table) == expected()
    assert report.threads == len(TALKS)
    assert report.dropped == {"double": sum(len(talk.messages) for talk in older)}
    assert report.problems == []
    more = [str(write_folder(tmp_path / "m", files_of("since 2024", (replace(TALKS[0], box="e2ee_cutover"),)))), *paths]
    report, table = read(more, tmp_path / "more")
    assert rows(table) == expected()
    assert report.boxes == {"e2ee_cutover": 1, "encrypted_download": 2}


def test_namesakes_of_two_encrypted_downloads_stay_apart(tmp_path: Path) -> None:
    twin = replace(TALKS[1], messages=((OWNER, START + 400_000, "you, twin"), (OWNER, START + 500_000, "you again")))
    report, table = read(_downloads(tmp_path, (TALKS[1], twin, TALKS[0]), (twin, TALKS[1])), tmp_path / "out")
    assert rows(table) == expected((TALKS[0], TALKS[1], twin))
    assert report.dropped == {"double": 5}
    assert report.problems == []


def test_encrypted_downloads_without_a_message_in_common_are_not_joined(tmp_path: Path) -> None:
    twin = replace(TALKS[1], messages=((OWNER, START + 400_000, "you, twin"),))
    report, _ = read(_downloads(tmp_path, TALKS, (twin,)), tmp_path / "out")
    assert report.threads == 4
    assert len(report.problems) == 1
    assert "Bo Łęck: 2 threads" in report.problems[0]


TWIN = replace(TALKS[1], messages=((OWNER, START + 400_000, "you, twin"), (OWNER, START + 500_000, "you again")))


def test_one_number_in_two_encrypted_downloads_means_two_people(tmp_path: Path) -> None:
    """`Bo Łęck_11` is one person in the first download and another in the second."""
    first, second = (TALKS[0], TALKS[1]), (TALKS[0], TWIN)
    report, table = read(_downloads(tmp_path, first, second, step=0), tmp_path / "out")
    assert rows(table) == expected((TALKS[0], TALKS[1], TWIN))
    assert report.threads == 3
    assert len(report.problems) == 1
    assert "Bo Łęck: 2 threads" in report.problems[0]


def test_numbers_that_two_people_of_one_name_have_swapped(tmp_path: Path) -> None:
    paths = _downloads(tmp_path, (TALKS[0], TALKS[1], TWIN), (TALKS[0], TWIN, TALKS[1]), step=0)
    report, table = read(paths, tmp_path / "out")
    assert rows(table) == expected((TALKS[0], TALKS[1], TWIN))
    assert report.dropped == {"double": 9}
    assert report.problems == []


def test_the_same_encrypted_download_twice(tmp_path: Path) -> None:
    report, table = read(_downloads(tmp_path, TALKS, TALKS, step=0), tmp_path / "out")
    assert rows(table) == expected()
    assert report.owner is not None
    assert report.threads == report.owner.threads == len(TALKS)
    assert report.problems == []
    once, alone = read(_downloads(tmp_path, TALKS), tmp_path / "once")
    assert once.threads == report.threads
    assert alone.equals(table), "the ids of threads must not depend on how often they are there"
    survey = survey_export(config(_downloads(tmp_path, TALKS[1:2], TALKS[1:2], step=0)), num_samples=0)
    assert survey.owner is None
    assert (survey.threads, survey.dropped) == (1, {"double": 3})


def _renamed(tmp_path: Path, *talks: Talk) -> list[str]:
    """Downloads of two years, in which the folder of one thread has another name."""
    eras = ("2022", "since 2024")
    return [
        str(write_zip(tmp_path / f"{era}.zip", files_of(era, (TALKS[0], TALKS[2], talk))))
        for era, talk in zip(eras, talks, strict=True)
    ]


def test_a_renamed_folder_is_the_same_thread(tmp_path: Path) -> None:
    report, table = read(_renamed(tmp_path, replace(TALKS[1], folder="boolder_1002"), TALKS[1]), tmp_path / "out")
    assert rows(table) == expected()
    assert report.threads == len(TALKS)
    assert report.problems == []


def test_a_renamed_folder_that_may_be_another_thread_is_reported(tmp_path: Path) -> None:
    report, _ = read(_renamed(tmp_path, replace(TWIN, folder="boolder_1002"), TALKS[1]), tmp_path / "out")
    assert report.threads == len(TALKS) + 1
    assert len(report.problems) == 1
    assert "other names in other downloads (bo_1002 and boolder_1002)" in report.problems[0]


def test_a_contact_and_a_folder_with_other_names_are_one_thread_by_its_messages(tmp_path: Path) -> None:
    messages = tuple(("Bo Older" if sender != OWNER else OWNER, ms, text) for sender, ms, text in TALKS[1].messages[:2])
    other = replace(TALKS[1], folder="boolder_1002", title="Bo Older", people=("Bo Older", OWNER), messages=messages)
    report, table = read(_renamed(tmp_path, other, TALKS[1]), tmp_path / "out")
    assert rows(table) == expected()
    assert report.threads == len(TALKS)
    assert report.problems == []


def test_folders_of_one_number_in_one_download_are_two_threads(tmp_path: Path) -> None:
    other = replace(TALKS[1], folder="boolder_1002")
    report, _ = read(write_zip(tmp_path / "e.zip", files_of("2022", (*TALKS, other))), tmp_path / "out")
    assert report.threads == len(TALKS) + 1
    assert report.problems == []


def test_a_second_of_2018_and_its_millisecond_are_one_message(tmp_path: Path) -> None:
    exact = replace(
        TALKS[0],
        messages=(
            ("Anaïs Sølvay", START + 123, "hi"),
            (OWNER, START + 5_001, "ha"),
            (OWNER, START + 5_700, "ha"),  # said twice in one second
            (OWNER, START + 5_999, "not there in 2018"),
            ("Anaïs Sølvay", START + 9_000, "on the full second"),
            ("Anaïs Sølvay", START + 9_999, "bye"),
        ),
    )
    rough = replace(
        exact,
        messages=(
            *((sender, ms // 1000 * 1000, text) for sender, ms, text in exact.messages if "2018" not in text),
            ("Anaïs Sølvay", START + 5_000, "ha"),  # the same word from somebody else
            (OWNER, START + 6_000, "ha"),  # and another second
        ),
    )
    rough = replace(rough, messages=tuple(sorted(rough.messages, key=lambda message: message[1])))
    paths = [
        str(write_folder(tmp_path / "2018", files_of("early 2018", (rough, *TALKS[1:])))),
        str(write_zip(tmp_path / "now.zip", files_of("since 2024", (exact, *TALKS[1:])))),
    ]
    for name, order in (("a", paths), ("b", paths[::-1])):
        report, table = read(order, tmp_path / name)
        kept = [("Anaïs Sølvay", START + 5_000, "ha"), *exact.messages, (OWNER, START + 6_000, "ha")]
        whole = replace(exact, messages=tuple(sorted(kept, key=lambda message: message[1])))
        assert rows(table) == expected((whole, *TALKS[1:]))
        assert report.dropped == {"double": 5 + sum(len(talk.messages) for talk in TALKS[1:])}


def test_a_word_said_twice_in_a_second_stays_twice(tmp_path: Path) -> None:
    talk = replace(TALKS[0], messages=((OWNER, START + 1, "ha"), (OWNER, START + 2, "ha"), (OWNER, START + 2, "ha")))
    report, table = read(write_folder(tmp_path / "e", files_of("2022", (talk,))), tmp_path / "out", owner=OWNER)
    assert len(table) == 2
    assert report.dropped == {"double": 1}
