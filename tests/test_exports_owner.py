"""Whose export it is, who is left out, and what the table says about people."""

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
    expected,
    files_of,
    read,
    rows,
    write_folder,
)

from jaegpt.errors import JaegptError
from jaegpt.exports.extract import survey_export
from jaegpt.sample import double_encode

PROFILE = "personal_information/profile_information/profile_information.json"


def _export(tmp_path: Path, talks: tuple[Talk, ...] = TALKS, **more: bytes) -> Path:
    return write_folder(tmp_path / "export", files_of("since 2024", talks) | more)


def test_the_name_in_most_threads_is_the_owner(tmp_path: Path) -> None:
    report, table = read(_export(tmp_path), tmp_path / "out")
    assert report.owner is not None
    assert (report.owner.names, report.owner.how, report.owner.threads) == ((OWNER,), "most threads", 3)
    assert report.owner.runner_up == ("Anaïs Sølvay", 2)
    assert rows(table) == expected()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (PROFILE, {"profile_v2": {"name": {"full_name": double_encode("Bo Łęck")}}}),
        (
            "profile_information/profile_information.json",
            {"profile": {"name": {"full_name": double_encode("Bo Łęck")}}},
        ),
        (
            "your_facebook_activity/messages/autofill_information.json",
            {"autofill_information_v2": {"FULL_NAME": [double_encode("Bo Łęck")]}},
        ),
        (
            "personal_information/personal_information/personal_information.json",
            {"profile_user": [{"string_map_data": {"Name": {"value": double_encode("Bo Łęck")}}}]},
        ),
    ],
)
def test_the_profile_goes_before_counting(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    report, _ = read(_export(tmp_path, **{name: as_json(content)}), tmp_path / "out")
    assert report.owner is not None
    assert (report.owner.names, report.owner.how) == (("Bo Łęck",), "profile")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"profile_v2": 5}', b'{"profile_v2": {"name": {"full_name": null}}}']
)
def test_a_profile_that_says_nothing_changes_nothing(tmp_path: Path, raw: bytes) -> None:
    report, _ = read(_export(tmp_path, **{PROFILE: raw}), tmp_path / "out")
    assert report.owner is not None
    assert report.owner.names == (OWNER,)


def test_all_names_of_the_owner_are_one_sender(tmp_path: Path) -> None:
    older = replace(
        TALKS[1],
        people=("Bo Łęck", "Zoë Ødeby"),
        messages=tuple(
            ("Zoë Ødeby" if sender == OWNER else sender, ms, text) for sender, ms, text in TALKS[1].messages
        ),
    )
    talks = (TALKS[0], older, TALKS[2])
    profile = {
        "profile_v2": {
            "name": {"full_name": double_encode(OWNER)},
            "previous_names": [{"name": double_encode("Zoë Ødeby")}],
        }
    }
    report, table = read(_export(tmp_path, talks), tmp_path / "out", owner=[OWNER, "Zoë Ødeby"])
    assert rows(table) == expected()
    assert report.groups == 1
    write_folder(tmp_path / "export", {PROFILE: as_json(profile)})
    _, automatic = read(tmp_path / "export", tmp_path / "automatic")
    assert automatic.equals(table)


def test_a_name_typed_into_a_form_is_not_the_owners_when_it_is_a_contacts(tmp_path: Path) -> None:
    """The form comes first in the order of paths, with a friend's name and a former one of the owner's in it."""
    autofill = {"autofill_information_v2": {"FULL_NAME": [double_encode(name) for name in ("Bo Łęck", "Zoë Ødeby")]}}
    profile = {"profile_v2": {"name": {"full_name": double_encode(OWNER)}}}
    older = replace(TALKS[0], messages=(*TALKS[0].messages, ("Zoë Ødeby", START + 99_000, "me, then")))
    files = {"messages/autofill_information.json": as_json(autofill), PROFILE: as_json(profile)}
    report, table = read(_export(tmp_path, (older, *TALKS[1:]), **files), tmp_path / "out")
    assert report.owner is not None
    assert report.owner.names == (OWNER, "Zoë Ødeby")
    assert report.owner.runner_up == ("Anaïs Sølvay", 2)
    assert {text for _, _, text, is_owner in rows(table) if is_owner} == {
        *(text for sender, _, text, _ in expected() if sender == OWNER),
        "me, then",
    }
    assert len(report.problems) == 1
    assert f"the profile also names Bo Łęck, who takes part in a thread beside {OWNER}" in report.problems[0]


def test_of_names_typed_into_forms_the_most_present_is_the_owners(tmp_path: Path) -> None:
    content = {"autofill_information_v2": {"FULL_NAME": [double_encode(name) for name in ("Bo Łęck", OWNER)]}}
    files = {"your_facebook_activity/messages/autofill_information.json": as_json(content)}
    report, table = read(_export(tmp_path, **files), tmp_path / "out")
    assert report.owner is not None
    assert (report.owner.names, report.owner.others) == ((OWNER,), ("Bo Łęck",))
    assert rows(table) == expected()


def test_a_group_without_a_title_is_not_excluded_with_the_nameless(tmp_path: Path) -> None:
    untitled = replace(TALKS[2], title="")
    deleted = Talk("facebookuser_6", "", ("", OWNER), (("", START, "hi"), (OWNER, START + 1, "who is this")))
    report, table = read(_export(tmp_path, (untitled, deleted)), tmp_path / "out", exclude=["Facebook user"])
    assert rows(table) == expected((untitled,))
    assert report.dropped == {"excluded": 2}


def test_names_are_shown_without_control_characters(tmp_path: Path) -> None:
    evil = "Bo\x1b[31m\nŁęck"
    talk = replace(TALKS[1], people=(evil, OWNER), messages=((evil, START, "hi"), (OWNER, START + 1, "ho")))
    with pytest.raises(JaegptError, match=r"Threads by name") as error:
        read(_export(tmp_path, (talk,)), tmp_path / "out")
    assert str(error.value).isprintable()
    assert "\\x1b" in str(error.value)
    report, _ = read(tmp_path / "export", tmp_path / "named", owner=evil)
    assert str(report.owner).isprintable()


def test_a_tie_asks_and_lists_candidates_with_counts(tmp_path: Path) -> None:
    path = _export(tmp_path, (TALKS[1],))
    with pytest.raises(JaegptError, match=r"export\.owner: .*equally many.*Threads by name: Bo Łęck 1, Zoë Tarvén 1"):
        read(path, tmp_path / "out")
    report = survey_export(config(path), num_samples=0)
    assert report.owner is None
    assert report.groups == 0
    assert "equally many" in report.problems[0]


def test_an_owner_who_is_not_there_or_wrote_nothing(tmp_path: Path) -> None:
    path = _export(tmp_path)
    with pytest.raises(JaegptError, match=r"nobody is called 'Zoe Tarven' here\. Did you mean 'Zoë Tarvén'"):
        read(path, tmp_path / "a", owner="Zoe Tarven")
    silent = replace(TALKS[1], people=("Bo Łęck", OWNER, "Eda Quist"))
    with pytest.raises(JaegptError, match=r"Eda Quist wrote none of the 3 messages"):
        read(_export(tmp_path / "b", (silent,)), tmp_path / "b/out", owner="Eda Quist")


def test_excluded_contacts_and_threads(tmp_path: Path) -> None:
    path = _export(tmp_path)
    report, table = read(path, tmp_path / "a", exclude=["Bo Łęck"])
    assert rows(table) == [row for row in expected((TALKS[0], TALKS[2])) if row[0] != "Bo Łęck"]
    assert report.dropped == {"excluded": len(TALKS[1].messages) + 1}
    for index, entry in enumerate(("Ski trip", "skitrip_1003")):
        report, table = read(path, tmp_path / f"b{index}", exclude=[entry])
        assert rows(table) == expected(TALKS[:2])
        assert report.dropped == {"excluded": 3}


@pytest.mark.parametrize(("entry", "message"), [("Bo Leck", "Did you mean 'Bo Łęck'"), (OWNER, "is the owner")])
def test_an_exclusion_that_cannot_work_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(JaegptError, match=rf"export\.exclude: .*{message}"):
        read(_export(tmp_path), tmp_path / "out", exclude=[entry])


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = _export(tmp_path, (replace(TALKS[1], messages=()),))
    with pytest.raises(JaegptError, match=r"of 0 messages none is left"):
        read(path, tmp_path / "a", owner=OWNER)
    with pytest.raises(JaegptError, match=r"excluded 3"):
        read(_export(tmp_path / "b", (TALKS[1],)), tmp_path / "b/out", owner=OWNER, exclude=["Bo Łęck"])


def test_senders_who_left_make_a_group(tmp_path: Path) -> None:
    left = Talk("pair_5", "pair", ("Bo Łęck", OWNER), (("Cyd Vågen", START, "bye"), (OWNER, START + 1, "bye Cyd")))
    report, table = read(_export(tmp_path, (left, TALKS[0])), tmp_path / "out")
    assert report.groups == 1
    assert set(table.filter(table["is_group"])["sender"].to_pylist()) == {"Cyd Vågen", OWNER}


def test_the_nameless_get_a_name(tmp_path: Path) -> None:
    deleted = Talk("facebookuser_6", "", ("", OWNER), (("", START, "hi"), (OWNER, START + 1, "who is this")))
    _, table = read(_export(tmp_path, (deleted,)), tmp_path / "out")
    assert table["sender"].to_pylist() == ["Facebook user", OWNER]
