"""Telegram Desktop's JSON: every year's layout, what is left out, owners, damage."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import messages, read_path
from helpers.reader_fixtures_json import EXPECTED, FOREIGN, FRIEND, OWNER, as_json, check_mutations, ms, read_content
from helpers.reader_fixtures_telegram import (
    ERAS,
    FRIEND_NUMBER,
    OWNER_NUMBER,
    account,
    chat,
    conversation,
    message,
    write_large,
)

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, SourceThread
from jaegpt.exports.readers import telegram
from jaegpt.exports.readers.telegram import READER

TIME = "2024-03-05T14:03:21"


def read_messages(folder: Path, *rows: Any, kind: str = "personal_chat", **head: Any) -> SourceThread:
    (thread,) = read_content(READER, folder, chat(list(rows), kind=kind, **head))
    return thread


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("is_account", [True, False])
def test_the_conversation(tmp_path: Path, era: str, is_account: bool) -> None:
    zone = "Asia/Kathmandu"
    single = chat(conversation(era, zone), era)
    content = as_json(account(single) if is_account else single)
    assert READER.sniff("x", content[:HEAD_BYTES]) > 0.5
    (thread,) = read_content(READER, tmp_path, content, zone)
    assert messages([thread]) == EXPECTED
    assert (thread.title, thread.is_group, thread.resolution_ms) == (FRIEND, False, 1000)
    assert thread.key == ("personal_chat Anna Berg" if era == "2018" else f"user{FRIEND_NUMBER}")
    assert (set(thread.people), thread.owner) == ({FRIEND, OWNER}, (OWNER,))
    assert thread.owner_is_marked == is_account
    assert (dict(thread.dropped), thread.num_read) == ({"media": 1}, 6)


def test_what_nobody_in_the_chat_wrote_is_counted(tmp_path: Path) -> None:
    thread = read_messages(
        tmp_path,
        message(1, FRIEND, TIME, "forwarded", forwarded_from="Zoë Quist"),
        message(2, FRIEND, TIME, "of a deleted account", forwarded_from=None),
        message(3, FRIEND, TIME, "newer", forwarded_from_id="channel5"),
        message(4, FRIEND, TIME, "from a bot", via_bot="@gif", forwarded_from="x"),
        message(5, FRIEND, TIME, "from a bot", via_bot="@gif"),
        message(6, "News", TIME, "a post", from_id="channel77"),
        {"id": 7, "type": "service", "date": TIME, "actor": FRIEND, "action": "pin_message", "text": ""},
        {"id": 8, "type": "service", "date": TIME, "actor": FRIEND, "action": "phone_call", "text": ""},
        {"id": 9, "type": "service", "date": TIME, "information_text": "x", "text": ""},
        {"id": 10, "type": "unsupported"},
        message(11, FRIEND, TIME, [{"type": "bot_command", "text": "/start"}, " now"]),
        message(12, FRIEND, TIME, [{"type": "blockquote", "text": "what she said"}]),
        message(13, FRIEND, TIME, "", media_type="sticker", file="x.webp", sticker_emoji="🎉"),
        message(14, FRIEND, TIME, "", media_type="voice_message", file="x.ogg"),
        message(15, FRIEND, TIME, "", poll={"question": "when?"}),
        message(16, FRIEND, TIME, "", location_information={"latitude": 1}),
        message(17, FRIEND, TIME, "", contact_information={"first_name": "x"}),
        message(18, FRIEND, TIME, "", self_destruct_period_seconds=5, photo="(File not included.)"),
        message(19, FRIEND, TIME, " \n"),
        message(20, FRIEND, TIME, "kept"),
    )
    assert thread.texts == ["kept"]
    assert thread.dropped == {
        "forwarded": 4, "bot": 1, "channel": 1, "service": 3, "call": 1, "command": 1, "quoted": 1, "sticker": 1,
        "media": 1, "poll": 1, "location": 1, "contact": 1, "view_once": 1, "empty": 1,
    }  # fmt: skip
    assert thread.num_read == 20


def test_texts_of_all_kinds_of_parts(tmp_path: Path) -> None:
    parts = [
        "see ",
        {"type": "mention", "text": "@ben"},
        {"type": "text_link", "text": ", here", "href": "https://x.example"},
        {"type": "custom_emoji", "text": "🎂", "document_id": "x"},
        {"type": "blockquote", "text": "\nquoted\n"},
        {"type": "pre", "text": "code", "language": "c"},
    ]
    assert read_messages(tmp_path, message(1, FRIEND, TIME, parts)).texts == ["see @ben, here🎂\ncode"]
    entities = message(1, FRIEND, TIME, "x")
    del entities["text"]
    assert read_messages(tmp_path, entities).texts == ["x"]


def test_control_codes_are_mended_only_where_the_backslash_is_an_escape(tmp_path: Path) -> None:
    rows = [message(1, FRIEND, TIME, text) for text in ("a\x1bb", "c\\x41", '\\"\x02\\', "\x7f")]
    content = as_json(chat(rows)).replace(rb"\u001b", rb"\x1B").replace(rb"\u0002", rb"\x02")
    assert rb"\x1B" in content
    (thread,) = read_content(READER, tmp_path, content)
    assert thread.texts == ["a\x1bb", "c\\x41", '\\"\x02\\', "\x7f"]


@pytest.mark.parametrize("kind", ["private_group", "private_supergroup", "public_supergroup", "public_group"])
def test_groups(tmp_path: Path, kind: str) -> None:
    group = chat(conversation(), kind=kind, name="Cake", id=77)
    (single,) = read_content(READER, tmp_path, group)
    assert (single.title, single.is_group, single.owner, single.people) == ("Cake", True, (), ())
    (of_account,) = read_content(READER, tmp_path, account(group))
    assert (of_account.owner, of_account.owner_is_marked) == ((OWNER,), True)
    assert messages([single]) == messages([of_account]) == EXPECTED
    assert single.key == of_account.key == ("chat77" if kind == "private_group" else "channel77")


def test_numbers_of_groups_before_2021_are_those_of_today(tmp_path: Path) -> None:
    old = read_messages(tmp_path, *conversation("2020"), kind="private_supergroup", id=2 * 2**32 + 77)
    new = read_messages(tmp_path, *conversation(), kind="private_supergroup", id=77)
    assert old.key == new.key == "channel77"
    posts = [message(1, "News", TIME, "a post", from_id=2 * 2**32 + 9), message(2, "G", TIME, "x", from_id=2**32 + 9)]
    assert read_messages(tmp_path, *posts, kind="private_supergroup").dropped == {"channel": 2}


def test_chats_without_talk_are_counted_whole(tmp_path: Path) -> None:
    rows = conversation()
    kinds = {"bot_chat": "bot", "saved_messages": "notes", "replies": "service", "public_channel": "channel"}
    chats = [chat(rows, kind=kind, id=number) for number, kind in enumerate(kinds)]
    chats += [chat(rows, id=777_000, name="Telegram")]
    for nameless in chats[1:3]:
        del nameless["name"]
    threads = read_content(READER, tmp_path, account(*chats, left=(chat(rows, kind="private_channel"),)))
    assert messages(threads) == []
    reasons = [*kinds.values(), "service", "channel"]
    assert [dict(thread.dropped) for thread in threads] == [{reason: len(rows)} for reason in reasons]


def test_left_groups_are_read_and_the_owner_may_be_missing(tmp_path: Path) -> None:
    group = chat(conversation(), kind="private_supergroup", id=5)
    personal, left = read_content(READER, tmp_path, account(chat(conversation()), has_owner=False, left=(group,)))
    assert messages([personal]) == messages([left]) == EXPECTED
    assert (personal.owner, personal.owner_is_marked, left.owner) == ((OWNER,), False, ())


def test_people_of_one_name_stay_two_and_deleted_accounts_have_a_name(tmp_path: Path) -> None:
    twins = [message(1, OWNER, TIME, "a"), message(2, OWNER, TIME, "b", from_id="user9")]
    ghosts = [message(3, None, TIME, "c", from_id="user10"), message(4, None, TIME, "d", from_id="user11")]
    thread = read_messages(tmp_path, *twins, *ghosts, kind="private_group")
    assert thread.senders == [OWNER, f"{OWNER} (user9)", "Deleted Account", "Deleted Account (user11)"]
    # The partner has the owner's name, and wrote second.
    namesake = [message(1, OWNER, TIME, "a"), message(2, OWNER, TIME, "b", from_id=f"user{FRIEND_NUMBER}")]
    thread = read_messages(tmp_path, *namesake, name=OWNER)
    assert thread.owner == (thread.senders[0],)
    assert thread.senders[0] != thread.senders[1]
    thread = read_messages(tmp_path, message(1, None, TIME, "c", from_id=f"user{FRIEND_NUMBER}"), name=None)
    assert (thread.senders, thread.people) == (["Deleted Account"], ("Deleted Account",))


def test_the_doubled_hour_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    clock = ["01:59:00", "02:30:00", "02:10:00", "02:40:00", "03:00:00"]
    rows = [message(1, FRIEND, TIME, "x", era="2020", date=f"2023-10-29T{time}") for time in clock]
    (thread,) = read_content(READER, tmp_path, chat(rows, "2020"), "Europe/Berlin")
    assert thread.sent_at == [ms(f"2023-10-{day}") for day in
        ("28T23:59:00", "29T00:30:00", "29T01:10:00", "29T01:40:00", "29T02:00:00")]  # fmt: skip


def test_keys_may_be_sorted(tmp_path: Path) -> None:
    content = json.dumps(account(chat(conversation()), chat(conversation(), name="B", id=6)), sort_keys=True).encode()
    threads = read_content(READER, tmp_path, content)
    assert [(thread.title, messages([thread])) for thread in threads] == [(FRIEND, EXPECTED), ("B", EXPECTED)]
    content = json.dumps(chat(conversation()), sort_keys=True).encode()
    assert READER.sniff("x", content[:HEAD_BYTES]) > 0.5
    (thread,) = read_content(READER, tmp_path, content)
    assert (messages([thread]), thread.title, thread.owner) == (EXPECTED, FRIEND, (OWNER,))


def test_malformed_messages_are_counted_and_the_first_is_described(tmp_path: Path) -> None:
    good = message(1, FRIEND, TIME, "kept")
    bad = [
        {**good, "date_unixtime": "soon"}, {**good, "date_unixtime": "9" * 30}, {**good, "date_unixtime": True}, 7,
        {**good, "text": 5}, {**good, "text": [5]}, {**good, "text": [{"text": None}]}, {**good, "from": 5}, None,
        {**good, "from_id": []}, {**good, "type": 5}, {"type": "message", "date": TIME, "text": "x"},
        {**good, "date_unixtime": None, "date": "2024-02-30T10:00:00"}, {**good, "date_unixtime": None, "date": 5},
        {**good, "date_unixtime": None, "date": "0001-01-01T00:00:00"},
    ]  # fmt: skip
    thread = read_messages(tmp_path, *bad, good)
    assert (thread.texts, thread.dropped) == (["kept"], {"malformed": len(bad)})
    assert thread.fault == f"chat user{FRIEND_NUMBER}, messages[0]: `date_unixtime` is no number of seconds"


def test_long_chats_come_in_pieces_and_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "PIECE_MESSAGES", 1000)
    monkeypatch.setattr("jaegpt.exports.readers.json_stream.WINDOW_BYTES", 5000)
    write_large(tmp_path / "large.json", 2_000_000)
    threads, _ = read_path(READER, tmp_path / "large.json")
    content = json.loads((tmp_path / "large.json").read_bytes())
    expected = [row for one in content["chats"]["list"] for row in one["messages"]]
    assert [row[0] for row in messages(threads)] == [row["from"] for row in expected]
    pieces = [thread for thread in threads if thread.key == "user1"]
    assert len(pieces) > 2
    assert all(piece.owner == (OWNER,) and len(piece.texts) < 1100 for piece in pieces)


def test_an_account_without_chats_says_so(tmp_path: Path) -> None:
    content = account()
    del content["chats"]
    (tmp_path / "x.json").write_bytes(as_json(content))
    assert READER.sniff("x", as_json(content)) > 0.5
    threads, said = read_path(READER, tmp_path / "x.json")
    assert (threads, len(said)) == ([], 1)
    assert "holds no chats" in said[0]


def test_a_cut_file_is_refused_with_its_place(tmp_path: Path) -> None:
    content = as_json(account(chat(conversation())))
    with pytest.raises(BadFileError, match="cut off: the file ends in the middle of a value at byte") as error:
        read_content(READER, tmp_path, content[:-40])
    assert error.value.offset == len(content) - 40


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_not_telegrams(name: str) -> None:
    assert READER.sniff("result.json", FOREIGN[name][:HEAD_BYTES]) <= 0.1


def test_mutated_exports(tmp_path: Path) -> None:
    def form(content: dict[str, Any]) -> Any:
        def write(folder: Path) -> Path:
            (folder / "result.json").write_bytes(as_json(content))
            return folder / "result.json"

        return write

    groups = (chat(conversation(), kind="private_group", id=5), chat(conversation("2021"), kind="bot_chat", id=6))
    wholes = [account(chat(conversation(era), era), *groups) for era in ERAS]
    check_mutations(READER, "telegram", tmp_path, [form(content) for content in (*wholes, chat(conversation()))])


def test_the_owner_of_an_account_is_known_where_they_wrote_nothing(tmp_path: Path) -> None:
    (thread,) = read_content(READER, tmp_path, account(chat([message(1, FRIEND, TIME, "hey")])))
    assert (thread.owner, thread.owner_is_marked, thread.people) == ((OWNER,), True, (FRIEND, OWNER))


def test_numbers_of_people_have_64_bits(tmp_path: Path) -> None:
    assert OWNER_NUMBER > 2**31
    rows = [message(1, FRIEND, TIME, "a", from_id=f"user{2**53 + 1}"), message(2, OWNER, TIME, "b")]
    thread = read_messages(tmp_path, *rows, id=2**53 + 1)
    assert (thread.key, thread.owner) == (f"user{2**53 + 1}", (OWNER,))
