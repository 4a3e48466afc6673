"""Several messengers at once: whose they are, what is there twice, what is left out, and what stands in Git."""

import json
from pathlib import Path

import pytest
from helpers.export_fixtures import OWNER, START, config, expected, files_of, read, rows, write_folder
from helpers.reader_fixtures_table import as_csv
from helpers.source_fixtures import EVEN, MINUTE, TALK, TALK_ROWS, both, table

from jaegpt.errors import JaegptError
from jaegpt.tables import read_table


def test_newest_months_count_back_from_the_newest_message_of_all(tmp_path: Path) -> None:
    day = 24 * 3600 * 1000
    said = [("Dag Moe", 0, "a"), (OWNER, 10 * day, "b"), (OWNER, 20 * day, "c"), ("Dag Moe", 45 * day, "d")]
    files = {"a.csv": table(*said, source="viber"), "b.csv": table(*said[:3], thread="Eva Lund", source="skype")}
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", newest_months=1, owner=OWNER)
    # 8 March 2018 + 45 days = 22 April; a month before is 22 March: "a" and "b" are older.
    assert sorted(found["text"].to_pylist()) == ["c", "c", "d"]
    assert report.dropped == {"too_old": 4}
    assert report.sources["skype"].dropped == {"too_old": 2}


SAME = [("Dag Moe", 0, "ok"), ("Dag Moe", 0, "ok"), (OWNER, 0, "ok"), ("Dag Moe", 0, "well"), (OWNER, MINUTE, "bye")]


@pytest.mark.parametrize("step", [1, 1000, MINUTE])
def test_doubles_of_two_files_and_words_said_twice_in_one(tmp_path: Path, step: int) -> None:
    def said(*which: int) -> bytes:
        shifted = EVEN - START if step == MINUTE else (-(START % step) if step > 1 else 7)
        listed = [(SAME[index][0], SAME[index][1] + shifted, SAME[index][2]) for index in which]
        filler = [("Dag Moe", shifted - MINUTE * number, f"before {number}") for number in range(30, 0, -1)]
        return table(*filler, *listed, source="viber")

    files = {"a.csv": said(0, 1, 2, 3), "b.csv": said(0, 2, 3, 4), "c.csv": said(0)}
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    texts = [(sender, text) for sender, _, text, _ in rows(found) if not text.startswith("before")]
    assert texts == [(sender, text) for sender, _, text in SAME], "the order of the file, and as many as there were"
    assert report.dropped == {"double": 2 * 30 + 3 + 1}


def test_a_coarse_copy_adds_nothing_to_an_exact_one(tmp_path: Path) -> None:
    exact = [("Dag Moe", number * 20_123, f"word {number % 3}") for number in range(60)]
    floors = [(sender, (START + ms) // MINUTE * MINUTE - START, text) for sender, ms, text in exact]
    seconds = [(sender, (START + ms) // 1000 * 1000 - START, text) for sender, ms, text in exact]
    files = {
        "exact.csv": table(*exact, (OWNER, 5, "mine"), source="viber"),
        "minutes.csv": table(*floors, source="viber"),
        "seconds.csv": table(*seconds, source="viber"),
    }
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    assert len(found) == 61
    assert report.dropped == {"double": 120}
    assert {row[1] for row in rows(found)} == {START + 5, *(START + ms for _, ms, _ in exact)}


def test_marked_owners_of_several_sources_need_no_setting(tmp_path: Path) -> None:
    files = {
        "a.csv": as_csv(
            [
                {
                    "thread": "Eva",
                    "sender": sender,
                    "sent_at": START,
                    "text": "x",
                    "is_owner": sender == "Me",
                    "source": "sms",
                }
                for sender in ("Eva", "Me")
            ]
        ),
        "b.csv": TALK,
    }
    report, found = read(write_folder(tmp_path / "e", files_of("2022") | files), tmp_path / "out")
    assert report.owner is not None
    assert report.owner.names == (OWNER, "Me")
    assert {name: source.owner_messages for name, source in report.sources.items()} == {
        "messenger": 5,
        "sms": 1,
        "viber": 1,
    }
    assert {row[0] for row in rows(found) if row[3]} == {OWNER}, "the first name stands for all"
    assert not [line for line in report.problems if "export.owner" in line]
    report, found = read(tmp_path / "e", tmp_path / "listed", owner=["Me"])
    assert {name: source.owner_messages for name, source in report.sources.items()} == {
        "messenger": 0,
        "sms": 1,
        "viber": 0,
    }
    assert [line for line in report.problems if "set export.owner to" in line], report.problems


def test_another_name_in_another_messenger_is_proposed_and_a_namesake_is_not_taken(tmp_path: Path) -> None:
    threads = [("Ola", "Zoë"), ("Pia", "Zoë"), (OWNER, "Zoë")]  # somebody who bears the owner's name elsewhere
    files = {
        f"{other}.csv": table((other, 0, "a"), (mine, 5, "b"), thread=f"with {other}", source="viber")
        for other, mine in threads
    }
    report, _ = read(write_folder(tmp_path / "e", files_of("2022") | files), tmp_path / "out")
    assert report.sources["viber"].owner_messages == 0
    (proposal,) = [line for line in report.problems if line.startswith("in viber")]
    assert "you seem to be 'Zoë' (in 3 of the 3 threads there, by most threads)" in proposal
    assert f"set export.owner to ['{OWNER}', 'Zoë']" in proposal


def whatsapp(contact: str, mine: str, which: range) -> bytes:
    said = [
        ((contact, mine)[number % 2], EVEN - START + number // 3 * MINUTE, f"message number {number // 2}")
        for number in which
    ]
    return table(*said, thread=contact, source="whatsapp")


def test_a_renamed_contact_is_one_thread_and_one_person(tmp_path: Path) -> None:
    new_year = [("Eva Lund", 0, "happy new year to all of you"), (OWNER, 60_000, "and to you, and to you")]
    files = {
        "1.csv": whatsapp("Dag", OWNER, range(60)),
        "2.csv": whatsapp("Dag Moe (work)", OWNER, range(20, 80)),
        "3.csv": table(*new_year, thread="Eva Lund", source="whatsapp"),
        "4.csv": table(("Ola", 0, "happy new year to all of you"), thread="Ola", source="whatsapp"),
    }
    report, found = read(write_folder(tmp_path / "e", files), tmp_path / "out", owner=OWNER)
    assert (report.threads, report.messages_kept, report.dropped) == (3, 80 + 3, {"double": 40})
    talk = [row for row in rows(found) if row[2].startswith("message")]
    assert [text for _, _, text, _ in talk] == [f"message number {number // 2}" for number in range(80)]
    assert {sender for sender, *_ in talk} == {"Dag Moe (work)", OWNER}


def test_exclude_knows_the_titles_of_all_messengers(tmp_path: Path) -> None:
    report, found = read(both(tmp_path / "e"), tmp_path / "out", exclude=["Dag Moe"])
    assert rows(found) == expected()
    assert report.sources["viber"].dropped == {"excluded": 2}


def test_own_patterns_and_redaction_hold_for_all(tmp_path: Path) -> None:
    said = table(("Dag Moe", 0, "AUTO: away"), (OWNER, 1, "write to a@b.example"), (OWNER, 2, "You left the group."))
    path = write_folder(tmp_path / "e", files_of("2022") | {"a.csv": said})
    report, found = read(path, tmp_path / "out", system_patterns=["AUTO: .*"], redact=True)
    texts = [text for _, _, text, _ in rows(found)]
    assert "write to <email>" in texts
    assert "You left the group." in texts, "Messenger's rules are Messenger's"
    assert report.sources["other"].dropped == {"system_pattern": 1}


def test_bad_files_stop_or_are_left_out_whole(tmp_path: Path) -> None:
    path = both(tmp_path / "e", **{"bad.csv": TALK.replace(b"viber", b"skype") + b'a,b,"'})
    with pytest.raises(JaegptError, match=r"1 file cannot be read:\n.*bad\.csv: line 4: no CSV"):
        read(path, tmp_path / "stop")
    report, found = read(path, tmp_path / "skip", on_error="skip")
    assert rows(found) == expected() + TALK_ROWS
    assert report.skipped == {"not_csv": 1}


def test_malformed_messages_stop_too(tmp_path: Path) -> None:
    path = both(tmp_path / "e", **{"bad.csv": TALK.replace(b"yes", b"no").replace(b",Dag Moe,", b",,")})
    with pytest.raises(JaegptError, match=r"bad\.csv: 1 messages malformed, the first: line 2: `sender` is missing"):
        read(path, tmp_path / "stop")
    report, _ = read(path, tmp_path / "skip", on_error="skip")
    assert report.dropped["malformed"] == 1


def test_metrics_name_no_source_that_a_file_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.paths import ROOT

    import stages.extract

    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    both(tmp_path / "data/sample_export", **{"x.csv": TALK.replace(b"viber", b"telegram")})
    stages.extract.main()
    metrics = json.loads((tmp_path / "metrics/extract.json").read_text())
    kept = {name: source["kept"] for name, source in metrics["sources"].items()}
    assert kept == {"messenger": 10, "other": 2, "telegram": 2}
    assert set(read_table("data/messages", "messages")["source"].to_pylist()) == {"messenger", "viber", "telegram"}


def test_unknown_zones_and_empty_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no time zone 'Europe/Berln'.*Did you mean 'Europe/Berlin'"):
        config("x", timezone="Europe/Berln")
    with pytest.raises(ValueError, match="boxes: found none"):
        config("x", boxes=[])
    for name in ("../../etc/passwd", "Europe", "a\0b", ""):
        with pytest.raises(ValueError, match="no time zone"):
            config("x", timezone=name)
    assert config("x", timezone="local").timezone == "local"


def test_a_database_that_marks_and_text_that_does_not_are_of_one_messenger(tmp_path: Path) -> None:
    marked = [
        {"thread": "+49", "sender": name, "sent_at": START, "text": "x", "is_owner": name == "Me", "source": "whatsapp"}
        for name in ("Eva", "Me")
    ]
    texts = {
        f"{name}.csv": table((name, 0, "a"), ("Ben", 5, "b"), thread=name, source="whatsapp") for name in ("Ola", "Pia")
    }
    path = write_folder(tmp_path / "e", {"db.csv": as_csv(marked)} | texts)
    report, _ = read(path, tmp_path / "auto")
    (proposal,) = [line for line in report.problems if line.startswith("in whatsapp")]
    assert "you seem to be 'Ben' (in 2 of the 2 threads there, by most threads)" in proposal
    assert "set export.owner to ['Me', 'Ben']" in proposal
    report, found = read(path, tmp_path / "listed", owner=["Ben", "Me"])
    assert report.sources["whatsapp"].owner_messages == 3
    assert sorted(report.sources["whatsapp"].owner_names) == ["Ben", "Me"]
    assert {row[0] for row in rows(found) if row[3]} == {"Ben"}
