"""Snapchat, Matrix and ChatLab: eras, what is left out and why, owners, damage."""

import json
from collections.abc import Callable
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
    ms,
    mutated_bytes,
    mutated_tree,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_json import FOREIGN, as_json
from helpers.reader_fixtures_small import (
    CHATLAB,
    MATRIX,
    SNAP,
    as_chatlab_lines,
    chatlab,
    chatlab_conversation,
    chatlab_message,
    event,
    matrix,
    matrix_conversation,
    old_snapchat,
    said,
    snap,
    snapchat,
    write_large_chatlab,
    write_large_chatlab_lines,
    write_large_matrix,
    write_large_snapchat,
)

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import Reader
from jaegpt.exports.readers import chatlab as chatlab_reader
from jaegpt.exports.readers import matrix as matrix_reader
from jaegpt.exports.readers import snapchat as snapchat_reader

SNAPCHAT, ROOM = snapchat_reader.READER, matrix_reader.READER
LAB, LAB_LINES = chatlab_reader.READERS
NOON = "2024-03-05T12:00:00Z"
Write = Callable[[Path, int], None]


def read(reader: Reader, content: Any, folder: Path) -> Any:
    return read_bytes(reader, content if isinstance(content, bytes) else as_json(content), folder)[0]


def moved_to_the_end(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: content[key] for key in (*(key for key in content if key not in keys), *keys)}


# --- Snapchat


def test_snapchats_conversation_since_2023(tmp_path: Path) -> None:
    content = as_json(snapchat())
    assert SNAPCHAT.sniff("json/chat_history.json", content[:8192]) > 0.9
    (thread,), said = read_bytes(SNAPCHAT, content, tmp_path)
    assert messages([thread]) == [(who, time + 250, text) for who, time, text in expected(*SNAP.values())]
    assert dropped([thread]) == {"media": 1, "deleted": 1}
    assert (thread.key, thread.title, thread.is_group, thread.resolution_ms) == ("anna_b", "anna_b", None, 1)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == (("ben.o",), True, {"anna_b", "ben.o"})
    assert len(said) == 1


@pytest.mark.parametrize("name", ["ben.o", "Me"])
def test_snapchats_conversation_before_2023(tmp_path: Path, name: str) -> None:
    if name != "Me":
        (tmp_path / "account.json").write_bytes(as_json({"Basic Information": {"Username": name, "Name": OWNER}}))
    content = as_json(old_snapchat())
    assert SNAPCHAT.sniff("chat_history.json", content[:8192]) > 0.9
    (thread,) = read(SNAPCHAT, content, tmp_path)
    texts = [row for row in expected("anna_b", name) if row[2] != "look: the cake"]
    assert messages([thread]) == texts
    assert (dropped([thread]), thread.owner, thread.resolution_ms) == ({"media": 2}, (name,), 1000)
    by_friend = {key: {"anna_b": rows} for key, rows in old_snapchat().items()}
    assert messages(read(SNAPCHAT, by_friend, tmp_path)) == texts


def test_what_snapchat_leaves_out(tmp_path: Path) -> None:
    kinds = {
        "MEDIA": "media", "IMAGE": "media", "NOTE": "media", "SHARE": "media", "SHARESAVEDSTORY": "media",
        "STICKER": "sticker", "LOCATION": "location", "MAPREACTION": "reaction", "STATUSERASEDSNAPMESSAGE": "deleted",
        "NONPARTICIPANTBOTRESPONSE": "bot", "STATUSCALLMISSEDAUDIO": "call", "STATUSSAVETOCAMERAROLL": "system",
        "STATUS": "system", "TEXT": "empty",
    }  # fmt: skip
    rows = [snap("anna_b", NOON, "", kind) for kind in kinds]
    rows += [snap("anna_b", NOON, "it&#39;s &amp; &lt;3"), snap("anna_b", NOON, "a caption", "MEDIA")]
    threads = read(SNAPCHAT, {"anna_b": rows[::-1]}, tmp_path)
    assert {text for *_, text in messages(threads)} == {"it's & <3", "a caption"}
    once = ("sticker", "location", "reaction", "deleted", "bot", "call", "empty")
    assert dropped(threads) == {"media": 5, "system": 2} | dict.fromkeys(once, 1)


def test_snapchats_groups_and_an_owner_known_late(tmp_path: Path) -> None:
    group = [snap(who, NOON, "hi", **{"Conversation Title": "Ski"}) for who in ("mia", "ben.o", "bo")]
    threads = read(SNAPCHAT, {"anna_b": [snap("anna_b", NOON, "hi")], "0-1-2": group}, tmp_path)
    assert [(thread.key, thread.title, thread.is_group) for thread in threads] == [
        ("anna_b", "anna_b", None),
        ("0-1-2", "Ski", True),
    ]
    assert {thread.owner for thread in threads} == {("ben.o",)}


def test_snapchats_damaged_messages(tmp_path: Path) -> None:
    bad = [5, snap("", NOON, "x"), snap("a", NOON, "x") | {"Content": 5}, snap("a", NOON, "x") | {"From": None}]
    broken = {"Created(microseconds)": None, "Created": "yesterday"}
    bad += [snap("a", NOON, "x") | broken, snap("a", NOON, "x") | {"Created(microseconds)": 2**60}]
    in_micros = snap("a", NOON, "x") | {"Created(microseconds)": ms(NOON) * 1000}
    threads = read(SNAPCHAT, {"a": [*bad, in_micros]}, tmp_path)
    assert messages(threads) == [("a", ms(NOON), "x")]
    assert dropped(threads) == {"malformed": len(bad)}
    assert threads[0].fault == "a[0]: int instead of an object"


# --- Matrix


@pytest.mark.parametrize("keys", [(), ("room_name", "exported_by")])
def test_matrix_conversation(tmp_path: Path, keys: tuple[str, ...]) -> None:
    content = as_json(moved_to_the_end(matrix_conversation(), *keys))
    assert ROOM.sniff("matrix - Anna.json", content[:8192]) > 0.7
    (thread,) = read(ROOM, content, tmp_path)
    assert messages([thread]) == expected(*MATRIX.values())
    assert dropped([thread]) == {"system": 2, "media": 1, "deleted": 1}
    assert (thread.key, thread.title, thread.is_group) == ("!room:example.org", FRIEND, None)
    assert (thread.owner, thread.owner_is_marked) == ((MATRIX[OWNER],), False)


def test_matrix_exported_by_an_account_or_by_nobody_known(tmp_path: Path) -> None:
    events = matrix_conversation()["messages"][2:]
    (thread,) = read(ROOM, matrix(*events, by="@ben:example.org"), tmp_path)
    assert (thread.owner, thread.owner_is_marked) == (("@ben:example.org",), True)
    (thread,) = read(ROOM, matrix(*events), tmp_path)
    assert thread.owner == ()


def test_what_matrix_leaves_out(tmp_path: Path) -> None:
    who = MATRIX[FRIEND]
    kinds = {
        "m.room.encrypted": "undecryptable", "m.sticker": "sticker", "m.reaction": "reaction", "m.poll.start": "poll",
        "org.matrix.msc3381.poll.start": "poll", "m.call.invite": "call", "m.beacon_info": "location",
        "m.room.topic": "system", "m.room.redaction": "system",
    }  # fmt: skip
    types = {"m.notice": "bot", "m.location": "location", "m.bad.encrypted": "undecryptable", "m.file": "media"}
    types |= {"m.image": "media", "m.video": "media", "m.audio": "media", "m.key.verification.request": "system"}
    events = [event(who, NOON, {"body": "x"}, kind) for kind in kinds]
    events += [event(who, NOON, {"msgtype": kind, "body": "x"}) for kind in types] + [said(who, NOON, " ")]
    events.append(event(who, NOON, {"msgtype": "m.emote", "body": "waves"}))
    threads = read(ROOM, matrix(*events), tmp_path)
    assert [text for *_, text in messages(threads)] == ["waves"]
    counts: dict[str, int] = {"empty": 1}
    for reason in (*kinds.values(), *types.values()):
        counts[reason] = counts.get(reason, 0) + 1
    assert dropped(threads) == counts


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("> <@anna:example.org> are you\n> there?\n\nyes\n\n> no", "yes\n\n> no"),
        ("> <@anna:example.org> are you\nyes", "yes"),
        ("> <@anna:example.org> are you", ""),
        ("no quotation", "no quotation"),
    ],
)
def test_matrix_replies_lose_their_quotation(tmp_path: Path, body: str, text: str) -> None:
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}}
    threads = read(ROOM, matrix(said("@b:x", NOON, body, **reply), said("@b:x", NOON, "> typed")), tmp_path)
    assert [found for *_, found in messages(threads)] == [*([text] if text else []), "> typed"]


def test_matrix_texts_lose_what_they_quote(tmp_path: Path) -> None:
    quoting = {"formatted_body": "<blockquote>\n<p>are you</p>\n</blockquote>\n<p>yes</p>\n"}
    bodies = ("> are you\n\nyes", "> are you")
    threads = read(ROOM, matrix(*(said("@b:x", NOON, body, **quoting) for body in bodies)), tmp_path)
    assert ([text for *_, text in messages(threads)], dropped(threads)) == (["yes"], {"quoted": 1})


def test_matrix_edits_change_what_their_own_sender_wrote(tmp_path: Path) -> None:
    anna, ben = MATRIX.values()
    original = said(anna, NOON, "helo")

    def edit(sender: str, body: str) -> dict[str, Any]:
        relation = {"rel_type": "m.replace", "event_id": original["event_id"]}
        new = {"msgtype": "m.text", "body": body}
        return said(sender, "2024-03-05T12:01:00Z", f"* {body}", **{"m.relates_to": relation, "m.new_content": new})

    threads = read(ROOM, matrix(original, edit(anna, "hello"), edit(ben, "goodbye"), edit(anna, " ")), tmp_path)
    assert messages(threads) == [(anna, ms(NOON), "hello")]
    assert dropped(threads) == {"edited_away": 3}


def test_matrix_damaged_events(tmp_path: Path) -> None:
    bad: list[Any] = [5, said("", NOON, "x"), event("@a:b", NOON, {"msgtype": "m.text", "body": 5})]
    bad += [said("@a:b", NOON, "x") | {"type": 5}]
    bad += [said("@a:b", NOON, "x") | {"origin_server_ts": time} for time in ("1", None, 0, 2**70, True)]
    bad += [said("@a:b", NOON, "x") | {"content": []}]
    threads = read(ROOM, matrix(*bad, said("@a:b", NOON, "x")), tmp_path)
    assert messages(threads) == [("@a:b", ms(NOON), "x")]
    assert dropped(threads) == {"malformed": len(bad)}


# --- ChatLab


@pytest.mark.parametrize("form", ["json", "lines", "messages first"])
def test_chatlabs_conversation(tmp_path: Path, form: str) -> None:
    content = chatlab_conversation()
    raw = as_chatlab_lines(content) if form == "lines" else as_json(content)
    if form == "messages first":
        raw = as_json(moved_to_the_end(content, "members", "meta"))
    reader, other = (LAB_LINES, LAB) if form == "lines" else (LAB, LAB_LINES)
    assert (reader.sniff("x", raw[:8192]) > 0.9, other.sniff("x", raw[:8192])) == (True, 0)
    (thread,) = read(reader, raw, tmp_path)
    assert messages([thread]) == expected()
    assert dropped([thread]) == {"media": 1, "unsent": 1}
    assert (thread.key, thread.title, thread.is_group) == (f"qq {CHATLAB[FRIEND]}", FRIEND, False)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == ((OWNER,), True, {FRIEND, OWNER})


def test_what_chatlab_leaves_out(tmp_path: Path) -> None:
    kinds = {1: "media", 2: "media", 3: "media", 4: "media", 5: "sticker", 7: "media", 8: "location", 20: "service"}
    kinds |= {21: "service", 22: "reaction", 23: "call", 24: "media", 26: "forwarded", 27: "contact", 80: "system"}
    kinds |= {81: "unsent", 99: "system", 1234: "system"}
    rows = [chatlab_message("1", NOON, kind, "x") for kind in kinds]
    rows += [chatlab_message("1", NOON, 0, text) for text in (None, "", " ")]
    rows += [chatlab_message("1", NOON, 25, "a reply", replyToMessageId="1")]
    threads = read(LAB, chatlab(*rows), tmp_path)
    assert [text for *_, text in messages(threads)] == ["a reply"]
    counts: dict[str, int] = {"empty": 3}
    for reason in kinds.values():
        counts[reason] = counts.get(reason, 0) + 1
    assert dropped(threads) == counts


def test_chatlabs_groups_and_what_0_0_1_lacks(tmp_path: Path) -> None:
    content = chatlab(chatlab_message("7", NOON, 0, "hi", accountName=FRIEND), type="group", groupId="38988428513")
    del content["meta"]["ownerId"], content["members"][1]
    content["messages"].append(chatlab_message("8", NOON, 0, "hi", accountName="", groupNickname="김민지"))
    content["messages"].append(chatlab_message(9, NOON, 0, "hi", accountName=None))  # type: ignore[arg-type]
    (thread,) = read(LAB, content, tmp_path)
    assert (thread.key, thread.is_group, thread.owner) == ("qq 38988428513", True, ())
    assert thread.senders == [f"{FRIEND} (7)", "김민지", "9"]


def test_chatlabs_damaged_messages(tmp_path: Path) -> None:
    good = chatlab_message("1", NOON, 0, "x")
    bad = [5, good | {"type": "0"}, good | {"type": True}, good | {"content": 5}, good | {"sender": None}]
    bad += [good | {"timestamp": time} for time in ("1", None, 1.5, 0, 2**70)]
    in_ms = good | {"timestamp": ms(NOON)}
    for reader, form in ((LAB, as_json), (LAB_LINES, None)):
        rows: Any = [*(row for row in bad if form or isinstance(row, dict)), in_ms]
        content = chatlab(*rows)
        threads = read(reader, form(content) if form else as_chatlab_lines(content), tmp_path)
        assert [time for _, time, _ in messages(threads)] == [ms(NOON)]
        assert dropped(threads) == {"malformed": len(rows) - 1}
    with pytest.raises(BadFileError, match=r"line 10: .*cut off"):
        read(LAB_LINES, as_chatlab_lines(chatlab_conversation())[:-150], tmp_path)


# --- all of them

FORMS: dict[str, tuple[Reader, Callable[[], Any]]] = {
    "snapchat": (SNAPCHAT, snapchat),
    "old snapchat": (SNAPCHAT, old_snapchat),
    "matrix": (ROOM, matrix_conversation),
    "chatlab": (LAB, chatlab_conversation),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["cut off", "no JSON", "not UTF-8"])
def test_damaged_files_are_refused_with_the_place(tmp_path: Path, form: str, damage: str) -> None:
    reader, make = FORMS[form]
    raw = as_json(make())
    raw = {"cut off": raw[:-40], "no JSON": raw.replace(b": ", b" ", 5), "not UTF-8": raw.replace(b"late", b"l\xffte")}[
        damage
    ]
    with pytest.raises(BadFileError) as error:
        read(reader, raw, tmp_path)
    assert error.value.offset is not None


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_not_taken(kind: str) -> None:
    takers = {SNAPCHAT: "snapchat", ROOM: "matrix", LAB: "chatlab", LAB_LINES: ""}
    for reader, own in takers.items():
        assert kind == own or reader.sniff("chat_history.json", FOREIGN[kind][:8192]) == 0


@pytest.mark.parametrize("form", [*FORMS, "chatlab lines"])
def test_mutated_files(tmp_path: Path, form: str) -> None:
    reader, make = FORMS.get(form, (LAB_LINES, chatlab_conversation))
    tree = make()
    write = as_chatlab_lines if form == "chatlab lines" else as_json

    def of_tree(rng: Any) -> bytes:
        try:
            return write(mutated_tree(tree, rng))
        except (KeyError, TypeError, ValueError):  # no longer what the lines are made from
            return mutated_bytes(write(tree), rng)

    check_mutations(reader, tmp_path, {"bytes": lambda rng: mutated_bytes(write(tree), rng), "trees": of_tree})


@pytest.mark.parametrize(
    ("reader", "write"),
    [
        (SNAPCHAT, write_large_snapchat),
        (ROOM, write_large_matrix),
        (LAB, write_large_chatlab),
        (LAB_LINES, write_large_chatlab_lines),
    ],
)
def test_a_large_file_comes_in_pieces(tmp_path: Path, reader: Reader, write: Write) -> None:
    write(tmp_path / "large.json", 30 * 2**20)
    threads, _ = read_path(reader, tmp_path / "large.json")
    assert len({thread.key for thread in threads}) == 1 < len(threads)
    assert len(messages(threads)) > 65_536
    for thread in threads:
        assert thread.sent_at == sorted(thread.sent_at)


def test_lone_surrogates_and_deep_nesting(tmp_path: Path) -> None:
    content = as_json(snapchat()).replace(b"and late", b"and").replace(b"around nine", b"a \\ud83d b \\u0000")
    assert "a \ufffd b \0 🎉" in [text for *_, text in messages(read(SNAPCHAT, content, tmp_path))]
    for reader, make in FORMS.values():
        deep = json.dumps(make())[:-1].encode() + b', "x": {"y": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}"
        assert messages(read(reader, deep, tmp_path))
