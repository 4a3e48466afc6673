"""Hangouts from Takeout in its two layouts: order, people without names, what is left out, damage."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import messages, read_path
from helpers.reader_fixtures_hangouts import NUMBERS, TALK, event, events, hangouts, identity, write_large
from helpers.reader_fixtures_json import EXPECTED, FOREIGN, FRIEND, OWNER, as_json, check_mutations, read_content

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, SourceThread
from jaegpt.exports.readers.hangouts import READER

TIME = "2016-03-05T14:03:21"
ERAS = ("before 2018", "since 2018")


def read_events(folder: Path, *rows: Any, **about: Any) -> SourceThread:
    (thread,) = read_content(READER, folder, hangouts(list(rows), **about))
    return thread


@pytest.mark.parametrize("era", ERAS)
def test_the_conversation(tmp_path: Path, era: str) -> None:
    content = as_json(hangouts(events(), era))
    assert READER.sniff("x", content[:HEAD_BYTES]) > 0.5
    (thread,) = read_content(READER, tmp_path, content)
    assert messages([thread]) == EXPECTED
    assert (thread.key, thread.title, thread.is_group, thread.resolution_ms) == (TALK, FRIEND, False, 1)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == ((OWNER,), True, {OWNER, FRIEND})
    assert (dict(thread.dropped), thread.num_read) == ({"media": 1}, 6)


@pytest.mark.parametrize("era", ERAS)
def test_keys_may_be_sorted(tmp_path: Path, era: str) -> None:
    (thread,) = read_content(READER, tmp_path, json.dumps(hangouts(events(), era), sort_keys=True).encode())
    assert (messages([thread]), thread.owner) == (EXPECTED, (OWNER,))


def test_what_is_no_text_is_counted(tmp_path: Path) -> None:
    kinds = ("HANGOUT_EVENT", "ADD_USER", "REMOVE_USER", "RENAME_CONVERSATION", "OTR_MODIFICATION", "SOMETHING_NEW")
    rows = [event(number, FRIEND, TIME, "x", kind) for number, kind in enumerate(kinds)]
    rows += [event(7, FRIEND, TIME, ""), event(8, FRIEND, TIME, "kept", "SMS")]
    thread = read_events(tmp_path, *rows)
    assert (thread.texts, thread.dropped) == (["kept"], {"call": 1, "system": 5, "empty": 1})


def test_segments_are_joined_as_they_are_seen(tmp_path: Path) -> None:
    segments = [
        {"type": "TEXT", "text": "see "},
        {"type": "LINK", "text": "x.example", "link_data": {"link_target": "https://x.example"}},
        {"type": "LINE_BREAK"},
        {"type": "TEXT"},
        {"type": "TEXT", "text": "bye"},
    ]
    assert read_events(tmp_path, event(1, FRIEND, TIME, "", segment=segments)).texts == ["see x.example\nbye"]


def test_groups_and_people_without_names(tmp_path: Path) -> None:
    people = [{"id": identity(OWNER), "fallback_name": OWNER}, {"id": identity(FRIEND)}]
    thread = read_events(tmp_path, *events(), type="GROUP", participant_data=people, name="Cakes")
    assert (thread.title, thread.is_group, thread.owner) == ("Cakes", True, (OWNER,))
    assert set(thread.senders) == {OWNER, NUMBERS[FRIEND]}
    thread = read_events(tmp_path, *events(), participant_data=None, self_conversation_state=None)
    assert (thread.owner, thread.owner_is_marked, set(thread.senders)) == ((), False, set(NUMBERS.values()))
    twins = [{"id": identity(name), "fallback_name": FRIEND} for name in (FRIEND, OWNER)]
    thread = read_events(tmp_path, *events(), participant_data=twins)
    assert thread.owner == (f"{FRIEND} ({NUMBERS[OWNER]})",)


def test_malformed_events_are_counted_and_the_first_is_described(tmp_path: Path) -> None:
    good = event(1, FRIEND, TIME, "kept")
    bad = [
        {**good, "timestamp": "soon"}, {**good, "timestamp": "9" * 30}, {**good, "timestamp": 1.5}, 5, None,
        {**good, "sender_id": {}}, {**good, "chat_message": None}, {**good, "event_type": 5},
        event(2, FRIEND, TIME, "", segment=[5]), event(2, FRIEND, TIME, "", segment={"a": 1}),
        event(2, FRIEND, TIME, "", segment=[{"type": "TEXT", "text": 5}]), event(2, FRIEND, "1970-01-01T00:00:00", "x"),
    ]  # fmt: skip
    thread = read_events(tmp_path, *bad, good)
    assert (thread.texts, thread.dropped) == (["kept"], {"malformed": len(bad)})
    assert thread.fault == f"event 0 of conversation: `timestamp` is no number of microseconds ({TALK})"


def test_layers_without_end_are_refused_or_skipped(tmp_path: Path) -> None:
    nested = b'{"conversation_state": ' * 3000 + b"{}" + b"}" * 3000
    assert read_content(READER, tmp_path, b'{"conversation_state": [' + nested + b"]}") == []
    with pytest.raises(BadFileError):
        read_content(READER, tmp_path, b'{"conversations": [{"conversation": ' + nested + b"}]}")


def test_many_conversations(tmp_path: Path) -> None:
    write_large(tmp_path / "large.json", 3_000_000)
    threads, _ = read_path(READER, tmp_path / "large.json")
    assert len(threads) > 1
    assert all(len(thread.texts) == 2000 and thread.sent_at == sorted(thread.sent_at) for thread in threads)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_not_hangouts(name: str) -> None:
    assert READER.sniff("Hangouts.json", FOREIGN[name][:HEAD_BYTES]) <= 0.1


def test_mutated_downloads(tmp_path: Path) -> None:
    def form(era: str) -> Any:
        def write(folder: Path) -> Path:
            (folder / "Hangouts.json").write_bytes(as_json(hangouts(events(), era)))
            return folder / "Hangouts.json"

        return write

    check_mutations(READER, "hangouts", tmp_path, [form(era) for era in ERAS])
