"""People and threads under several names: one where messages show it, two where they do not, and then it is said."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.export_fixtures import START, Talk, config, encrypted_files, files_of, read, write_folder, write_zip

from jaegpt.exports.extract import survey_export

OWNER, BEFORE = "Zoë Tarvén", "Zoë Quist"
BEN, CYD, DAN, EVE = "Ben Ødeby", "Cyd Vågen", "Dan Quist", "Eve Lindt"
NEW, OLD = "since 2024", "2022"


def _talk(folder: str, people: Sequence[str], num: int, first: int = 0, title: str = "", at: int = 0) -> Talk:
    """A talk in turns, of messages `first` to `num` of one a minute."""
    said = [(people[turn % len(people)], START + at + 60_000 * turn, f"{at} line {turn}") for turn in range(num)]
    return Talk(folder, title or people[0], tuple(people), tuple(said[first:]))


def _paths(tmp_path: Path, *downloads: tuple[str, tuple[Talk, ...]]) -> list[str]:
    return [
        str(write_zip(tmp_path / f"{index}.zip", files_of(era, talks))) for index, (era, talks) in enumerate(downloads)
    ]


def _others(owner: str = OWNER) -> tuple[Talk, ...]:
    return tuple(_talk(f"x_{900 + at}", (name, owner), 4, at=at) for at, name in enumerate((DAN, EVE), start=5000))


def test_folders_with_letters_and_with_numbers_are_one_thread(tmp_path: Path) -> None:
    old = (_talk("BenOdeby_aB3dEf9Hij", (BEN, OWNER), 6), _talk("CydVagen_Zz1yX-2Wvu", (CYD, OWNER), 4, at=7))
    new = (_talk("benodeby_102", (BEN, OWNER), 8, 1), _talk("cydvagen_103", (CYD, OWNER), 4, at=7))
    report, table = read(_paths(tmp_path, (OLD, old), (NEW, new)), tmp_path / "out")
    assert (report.threads, report.groups, len(table), report.problems) == (2, 0, 12, [])
    alone, other = read(_paths(tmp_path / "new", (NEW, new)), tmp_path / "alone")
    assert alone.threads == 2
    assert set(other["thread_id"].to_pylist()) == set(table["thread_id"].to_pylist())


def test_three_downloads_of_three_namings(tmp_path: Path) -> None:
    downloads = [
        ("early 2018", (_talk("BenOdeby_aB", ("Ben Quist", OWNER), 6), *_others())),
        (OLD, (_talk("benodeby_aB3dEf9Hij", (BEN, OWNER), 8, 2), *_others())),
        (NEW, (_talk("facebookuser_102", ("Facebook user", OWNER), 12, 6), *_others())),
    ]
    downloads[0] = ("late 2018", downloads[0][1])
    for order in (downloads, downloads[::-1]):
        folder = tmp_path / order[0][0]
        report, table = read(_paths(folder, *order), folder / "out")
        assert (report.threads, report.groups, len(table), report.problems) == (3, 0, 20, [])
        assert set(table["sender"].to_pylist()) == {BEN, OWNER, DAN, EVE}


def test_two_people_of_one_name_stay_two(tmp_path: Path) -> None:
    old = (_talk("BenOdeby_aaaaaaaaaa", (BEN, OWNER), 6), _talk("BenOdeby_bbbbbbbbbb", (BEN, OWNER), 6, at=9))
    new = (_talk("benodeby_101", (BEN, OWNER), 9, 2), _talk("benodeby_102", (BEN, OWNER), 9, 2, at=9))
    report, table = read(_paths(tmp_path, (OLD, (*old, *_others())), (NEW, (*new, *_others()))), tmp_path / "out")
    assert (report.threads, report.groups, len(table), report.problems) == (4, 0, 26, [])


def test_one_name_without_a_message_in_common_is_said_and_not_guessed(tmp_path: Path) -> None:
    old, new = _talk("BenOdeby_aaaaaaaaaa", (BEN, OWNER), 6), _talk("benodeby_101", (BEN, OWNER), 9, 7)
    report, _ = read(_paths(tmp_path, (OLD, (old, *_others())), (NEW, (new, *_others()))), tmp_path / "out")
    assert report.threads == 4
    assert len(report.problems) == 1
    assert "(BenOdeby_aaaaaaaaaa and benodeby_101)" in report.problems[0]


def test_one_thread_like_two_of_another_download_is_said_and_not_guessed(tmp_path: Path) -> None:
    old = _talk("BenOdeby_aaaaaaaaaa", (BEN, OWNER), 6)
    new = (_talk("benodeby_101", (BEN, OWNER), 6), _talk("benodeby_102", (BEN, OWNER), 6))
    report, _ = read(_paths(tmp_path, (OLD, (old, *_others())), (NEW, (*new, *_others()))), tmp_path / "out")
    assert report.threads == 5
    assert any("one is like two of another download" in problem for problem in report.problems)


def test_one_message_to_two_people_in_one_second_is_no_proof(tmp_path: Path) -> None:
    wish = (OWNER, START + 99_000, "happy new year")
    old = replace(_talk("BenOdeby_aB", (BEN, OWNER), 2), messages=(wish,))
    new = replace(_talk("cydvagen_103", (CYD, OWNER), 2), messages=(wish,))
    paths = _paths(tmp_path, ("early 2018", (old, *_others())), (NEW, (new, *_others())))
    report, _ = read(paths, tmp_path / "out")
    assert report.threads == 4
    assert len(report.problems) == 1
    assert "and not the same people" in report.problems[0]


def test_what_was_forwarded_to_a_group_does_not_join_a_pair_to_it(tmp_path: Path) -> None:
    link = (OWNER, START + 99_000, "look at this")
    old = replace(_talk("BenOdeby_aB", (BEN, OWNER), 2), messages=(link, (OWNER, START + 200_000, "for you alone")))
    new = replace(
        _talk("trip_103", (BEN, CYD, OWNER), 2, title="Trip"), messages=(link, (CYD, START + 300_000, "nice"))
    )
    report, _ = read(_paths(tmp_path, ("early 2018", (old, *_others())), (NEW, (new, *_others()))), tmp_path / "out")
    assert report.threads == 4
    assert "and not the same people" in report.problems[0]


@pytest.mark.parametrize("how", ["most threads", "export.owner", "former in export.owner"])
def test_an_owner_with_another_name_since(tmp_path: Path, how: str) -> None:
    old = tuple(_talk(f"x_{index}", (name, BEFORE), 4, at=index) for index, name in enumerate((BEN, CYD, DAN)))
    new = tuple(_talk(f"x_{index}", (name, OWNER), 6, at=index) for index, name in enumerate((BEN, CYD, DAN, EVE)))
    owner = {"most threads": "auto", "export.owner": OWNER}.get(how, BEFORE)
    report, table = read(_paths(tmp_path, (NEW, old), (NEW, new)), tmp_path / "out", owner=owner)
    assert (len(table), report.groups, report.threads, report.problems) == (24, 0, 4, [])
    assert report.owner is not None
    assert set(report.owner.names) == {OWNER, BEFORE}
    assert report.owner_messages == 12


@pytest.mark.parametrize("gone", ["Facebook user", "", "Utilisateur Facebook"])
def test_an_account_deleted_since_keeps_its_name(tmp_path: Path, gone: str) -> None:
    trip, pair = (BEN, CYD, OWNER), (BEN, OWNER)
    old = (_talk("trip_1", trip, 6, title="Trip"), _talk("ben_2", pair, 4, at=3), *_others())
    new = (_talk("trip_1", (gone, CYD, OWNER), 6, title="Trip"), _talk("ben_2", (gone, OWNER), 6, at=3), *_others())
    report, table = read(_paths(tmp_path, (NEW, old), (NEW, new)), tmp_path / "out")
    assert (len(table), report.groups, report.threads, report.problems) == (6 + 6 + 8, 1, 4, [])
    assert "Facebook user" not in table["sender"].to_pylist()


def test_two_deleted_members_of_a_group_keep_their_names(tmp_path: Path) -> None:
    old = (_talk("trip_1", (BEN, CYD, OWNER), 9, title="Trip"), *_others())
    new = (_talk("trip_1", ("Facebook user", "Facebook user", OWNER), 9, title="Trip"), *_others())
    report, table = read(_paths(tmp_path, (NEW, old), (NEW, new)), tmp_path / "out")
    assert (len(table), report.groups) == (9 + 8, 1)
    assert {BEN, CYD} < set(table["sender"].to_pylist())


def test_a_group_whose_members_changed_is_one_group(tmp_path: Path) -> None:
    old = (_talk("Trip_aB3dEf9Hij", (BEN, CYD, OWNER), 9, title="Trip"), *_others())
    group = _talk("trip_1", (BEN, CYD, OWNER), 9, 3, title="Trip")
    joined = replace(group, people=(CYD, EVE, OWNER), messages=(*group.messages, (EVE, START + 10**9, "hi all")))
    report, table = read(_paths(tmp_path, (OLD, old), (NEW, (joined, *_others()))), tmp_path / "out")
    assert (len(table), report.groups, report.threads, report.problems) == (10 + 8, 1, 3, [])


def test_contacts_of_one_thread_with_nothing_in_common_but_its_number(tmp_path: Path) -> None:
    """A thread between two people is the same two people, also where one is called otherwise since."""
    old = (_talk("ben_7", ("Ben Quist", OWNER), 4), *_others())
    new = (_talk("ben_7", (BEN, OWNER), 9, 6), *_others())
    report, table = read(_paths(tmp_path, (NEW, old), (NEW, new)), tmp_path / "out")
    assert (len(table), report.groups, report.problems) == (7 + 8, 0, [])
    assert "Ben Quist" not in table["sender"].to_pylist()


def test_a_former_name_within_one_download_makes_no_group(tmp_path: Path) -> None:
    talk = _talk("ben_7", (BEN, OWNER), 8)
    messages = tuple(
        ("Ben Quist" if sender == BEN and ms < START + 200_000 else sender, ms, text)
        for sender, ms, text in talk.messages
    )
    report, _ = read(_paths(tmp_path, (NEW, (replace(talk, messages=messages), *_others()))), tmp_path / "out")
    assert report.groups == 0
    in_turns = replace(talk, messages=(*messages, ("Ben Quist", START + 10**9, "I am somebody else")))
    report, _ = read(_paths(tmp_path / "turns", (NEW, (in_turns, *_others()))), tmp_path / "out turns")
    assert report.groups == 1


def test_an_excluded_contact_is_excluded_by_every_name(tmp_path: Path) -> None:
    old = (_talk("trip_1", ("Ben Quist", CYD, OWNER), 6, title="Trip"), *_others())
    new = (_talk("trip_1", (BEN, CYD, OWNER), 9, title="Trip"), *_others())
    for name in (BEN, "Ben Quist"):
        report, table = read(_paths(tmp_path / name, (NEW, old), (NEW, new)), tmp_path / f"out {name}", exclude=[name])
        assert not {BEN, "Ben Quist"} & set(table["sender"].to_pylist())
        assert report.dropped["excluded"] == 5
    new = (_talk("trip_1", ("Facebook user", CYD, OWNER), 6, title="Trip"), *_others())
    _, table = read(_paths(tmp_path / "x", (NEW, old), (NEW, new)), tmp_path / "deleted", exclude=["Ben Quist"])
    assert len(table) == 4 + 8
    assert set(table["sender"].to_pylist()) == {CYD, OWNER, DAN, EVE}


def test_a_renamed_contact_of_two_encrypted_downloads(tmp_path: Path) -> None:
    paths = []
    for first, name, num in ((10, "Ben Quist", 5), (40, BEN, 8)):
        talks = (_talk("", (name, OWNER), num), *_others())
        paths.append(str(write_zip(tmp_path / f"{first}.zip", encrypted_files(talks, first))))
    report, table = read(paths, tmp_path / "out")
    assert (len(table), report.threads, report.groups, report.problems) == (8 + 8, 3, 0, [])


def test_an_owner_whom_instagram_knows_by_another_name_is_asked_for(tmp_path: Path) -> None:
    messenger = tuple(_talk(f"x_{index}", (name, OWNER), 4) for index, name in enumerate((BEN, CYD, DAN, EVE)))
    instagram = tuple(_talk(f"x_1{index}", (name, "zoe.tvn"), 4) for index, name in enumerate(("b.o", "c.v", "d.q")))
    files = files_of(NEW, messenger) | files_of("instagram", instagram)
    path = write_folder(tmp_path / "e", files)
    report = survey_export(config(path), num_samples=0)
    assert (report.threads, report.groups, report.owner_messages) == (7, 0, 8)
    assert len(report.problems) == 1
    assert "3 of the 7 threads are without Zoë Tarvén; the name in most of them (3) is zoe.tvn" in report.problems[0]
    report, _ = read(path, tmp_path / "out", owner=[OWNER, "zoe.tvn"])
    assert (report.owner_messages, report.groups, report.problems) == (14, 0, [])
