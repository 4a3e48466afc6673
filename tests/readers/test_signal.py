"""Signal's exported chat history: people, chats, kinds of messages, and damaged lines."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import (
    FRIEND,
    OWNER,
    check_mutations,
    dropped,
    expected,
    messages,
    mutated_bytes,
    mutated_tree,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_json import FOREIGN
from helpers.reader_fixtures_signal import ANNA_ACI, FRAMES, conversation, item, lines, said, write_large

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.readers.signal import READER

NOON = 1_709_640_000_000


def read(frames: list[Any], folder: Path) -> Any:
    return read_bytes(READER, lines(frames), folder, name="main.jsonl")


@pytest.mark.parametrize("as_numbers", [False, True])
def test_the_conversation(tmp_path: Path, as_numbers: bool) -> None:
    content = lines(conversation())
    if as_numbers:  # hand-made files have them
        content = re.sub(rb': "(\d+)"', rb": \1", content)
    assert READER.sniff("main.jsonl", content[:8192]) > 0.9
    (thread,), notes = read_bytes(READER, content, tmp_path)
    assert messages([thread]) == expected()
    assert (dropped([thread]), notes) == ({"media": 1, "deleted": 1}, [])
    assert (thread.key, thread.title, thread.is_group) == (ANNA_ACI, FRIEND, False)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == ((OWNER,), True, {OWNER, FRIEND})


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    kinds = {
        "stickerMessage": "sticker", "contactMessage": "contact", "remoteDeletedMessage": "deleted",
        "adminDeletedMessage": "deleted", "updateMessage": "system", "paymentNotification": "service",
        "giftBadge": "service", "viewOnceMessage": "view_once", "directStoryReplyMessage": "story", "poll": "poll",
    }  # fmt: skip
    frames = [*FRAMES, *(item("3", NOON, **{kind: {}}) for kind in kinds)]
    frames += [item("3", NOON, updateMessage={"individualCall": {"type": "AUDIO_CALL"}}), item("3", NOON)]
    frames += [item("3", NOON, standardMessage=message) for message in ({}, {"text": {}}, {"text": {"body": " "}})]
    old = said("1", NOON, "helo")["chatItem"]
    edited = said("1", NOON, "hello", quote={"text": {"body": "hi?"}})
    edited["chatItem"]["revisions"] = [old]
    threads, _ = read([*frames, edited], tmp_path)
    assert messages(threads) == [(OWNER, NOON, "hello")]
    counts = {"call": 1, "empty": 3, "edited_away": 1, "system": 2, "deleted": 2, "service": 2}
    assert dropped(threads) == dict.fromkeys(kinds.values(), 1) | counts


def test_notes_to_oneself_and_channels_are_no_talk(tmp_path: Path) -> None:
    chats = [{"chat": {"id": "8", "recipientId": "1"}}, {"chat": {"id": "9", "recipientId": "2"}}]
    threads, _ = read([*FRAMES, *chats, said("1", NOON, "milk", "8"), said("2", NOON, "news", "9")], tmp_path)
    assert dropped(threads) == {"notes": 1, "channel": 1}
    assert not messages(threads)


@pytest.mark.parametrize(("archived", "box"), [(True, "archived"), (False, "inbox"), ("x", "inbox")])
def test_archived_chats_are_in_their_box(tmp_path: Path, archived: object, box: str) -> None:
    chat = {"chat": {"id": "7", "recipientId": "3", "archived": archived}}
    (thread,), _ = read([*(frame for frame in FRAMES if "chat" not in frame), chat, said("3", NOON, "hi")], tmp_path)
    assert (thread.box, messages([thread])) == (box, [(FRIEND, NOON, "hi")])


def test_groups_mentions_and_people_of_one_name(tmp_path: Path) -> None:
    other = {"aci": "b3RoZXI=", "nickname": {"given": "Anna", "family": "Berg"}}
    snapshot = {"title": {"title": "Ski"}, "members": [{"userId": ANNA_ACI}, {"userId": "b3RoZXI="}, {"userId": "x"}]}
    frames = [
        *FRAMES,
        {"recipient": {"id": "4", "contact": other}},
        {"recipient": {"id": "5", "contact": {"pni": "p", "e164": "4917"}}},
        {"recipient": {"id": "6", "group": {"masterKey": "a2V5", "snapshot": snapshot}}},
        {"chat": {"id": "8", "recipientId": "6"}},
        said("4", NOON, "\ufffc and \ufffc?", "8"),
        said("5", NOON + 1, "who is \ufffc", "8"),
    ]
    text = frames[-2]["chatItem"]["standardMessage"]["text"]
    text["bodyRanges"] = [
        {"start": 6, "length": 1, "mentionAci": "b3RoZXI="},
        {"start": 0, "length": 1, "mentionAci": ANNA_ACI},
        {"length": 2, "style": "BOLD"},
    ]
    (thread,), _ = read(frames, tmp_path)
    second = f"{FRIEND} (b3RoZXI=)"
    assert messages([thread]) == [(second, NOON, f"@{FRIEND} and @{second}?"), ("4917", NOON + 1, "who is @")]
    assert (thread.key, thread.title, thread.is_group) == ("a2V5", "Ski", True)
    assert thread.people == (FRIEND, second, OWNER)


def test_an_owner_without_a_name_and_a_file_without_an_owner(tmp_path: Path) -> None:
    frames = [*FRAMES[2:], said("1", NOON, "hi")]
    threads, _ = read(frames, tmp_path)
    assert (messages(threads), threads[0].owner) == ([("Me", NOON, "hi")], ("Me",))
    threads, notes = read([*frames[1:-1], said("3", NOON, "hi")], tmp_path)
    assert (messages(threads), threads[0].owner, len(notes)) == ([(FRIEND, NOON, "hi")], (), 1)


def test_damaged_frames_are_counted_and_damaged_lines_refused(tmp_path: Path) -> None:
    good = said("3", NOON, "a lone \ud83d half")
    bad = [said("99", NOON, "x"), said("3", NOON, "x", "99"), said("3", 0, "x"), said("3", 2**63, "x"), [1]]
    bad += [{"chatItem": "x"}, item("3", NOON, standardMessage=[]), item("3", NOON, standardMessage={"text": "x"})]
    bad += [item("3", NOON, standardMessage={"text": {"body": 5}})]
    threads, _ = read([*FRAMES, good, *bad], tmp_path)
    assert [text for *_, text in messages(threads)] == ["a lone \ufffd half"]
    assert dropped(threads) == {"malformed": len(bad)}
    first = next(thread.fault for thread in threads if thread.key == ANNA_ACI)
    assert first == f"line {len(FRAMES) + 2}: `authorId` 99 is of no recipient before it"
    with pytest.raises(BadFileError, match=r"line 13: .*cut off"):
        read_bytes(READER, lines(conversation())[:-300], tmp_path)


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_not_taken(kind: str) -> None:
    assert READER.sniff("main.jsonl", FOREIGN[kind][:8192]) == 0


def test_mutated_files(tmp_path: Path) -> None:
    content = lines(conversation())
    trees = [json.loads(line) for line in content.splitlines()]
    forms = {
        "bytes": lambda rng: mutated_bytes(content, rng),
        "trees": lambda rng: lines(mutated_tree(trees, rng)),
    }
    check_mutations(READER, tmp_path, forms)


def test_a_large_file_comes_in_pieces(tmp_path: Path) -> None:
    write_large(tmp_path / "main.jsonl", 20 * 2**20)
    threads, _ = read_path(READER, tmp_path / "main.jsonl")
    assert len({thread.key for thread in threads}) == 300 < len(threads)
    assert len(messages(threads)) % 10_000 == 0
