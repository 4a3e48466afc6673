"""Slack's exports and slackdump's: lists of people, threads, markup, what no human wrote, owners, damage."""

import zipfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from helpers.reader_checks import dropped, messages, read_path
from helpers.reader_fixtures_json import EXPECTED, FOREIGN, FRIEND, OWNER, as_json, check_mutations, ms
from helpers.reader_fixtures_slack import (
    DIRECT,
    LISTS,
    USERS,
    at,
    conversation,
    message,
    write_dump,
    write_export,
    write_large,
)

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers import slack
from jaegpt.exports.readers.slack import READER

TIME = "2024-03-05T14:03:21"


def read_messages(folder: Path, *rows: Any, where: str = "cakes") -> SourceThread:
    ((thread,), _) = read_path(READER, write_export(folder, rows, where))
    return thread


@pytest.mark.parametrize("only_blocks", [True, False])
@pytest.mark.parametrize("write", [write_export, write_dump])
def test_the_conversation(tmp_path: Path, write: Any, only_blocks: bool) -> None:
    path = write(tmp_path, conversation(only_blocks))
    assert READER.sniff(str(path), path.read_bytes()[:HEAD_BYTES]) > 0.5
    (thread,), said = read_path(READER, path)
    assert messages([thread]) == EXPECTED
    assert (thread.key, thread.resolution_ms, said) == (DIRECT, 1000, [])
    assert (dict(thread.dropped), thread.num_read) == ({"media": 1, "deleted": 1}, 7)
    if write is write_export:
        assert (thread.title, thread.is_group) == (f"{FRIEND}, {OWNER}", False)
        assert (set(thread.people), thread.owner, thread.owner_is_marked) == ({OWNER, FRIEND}, (OWNER,), False)


def test_lists_are_found_in_a_zip_too(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    path = write_export(tmp_path / "x", conversation())
    for root in ("", "workspace/"):
        with zipfile.ZipFile(tmp_path / "slack.zip", "w") as archive:
            for file in sorted((tmp_path / "x").rglob("*.json")):
                archive.write(file, root + str(file.relative_to(tmp_path / "x")))
        file = SourceFile(str(tmp_path / "slack.zip"), root + str(path.relative_to(tmp_path / "x")))
        (thread,) = READER.read(file, ReadOptions(timezone=ZoneInfo("UTC")), print)
        assert (messages([thread]), thread.owner) == (EXPECTED, (OWNER,))


def test_the_owner_is_in_every_direct_chat_or_is_not_known(tmp_path: Path) -> None:
    by_lists = [
        ([LISTS["dms"][0]], ()),
        ([*LISTS["dms"], {"id": "D03", "members": ["U02ANNA", "U03ZOE"]}], ()),
        ([*LISTS["dms"], {"id": "D04", "members": ["U01BEN"]}], (OWNER,)),
        (None, ()),
    ]
    for number, (dms, owner) in enumerate(by_lists):
        (tmp_path / str(number)).mkdir()
        (thread,), _ = read_path(READER, write_export(tmp_path / str(number), conversation(), dms=dms))
        assert thread.owner == owner
        assert thread.key == DIRECT


def test_conversations_are_known_by_their_ids_whatever_their_folders_are_called(tmp_path: Path) -> None:
    folders = {
        "cakes": ("C01CAKES", "cakes", True),
        "secret": ("G01SECRET", "secret", True),
        "mpdm-ben--anna--zoe-1": ("G02THREE", f"{FRIEND}, {OWNER}, Zoë Quist", True),
        DIRECT: (DIRECT, f"{FRIEND}, {OWNER}", False),
        "elsewhere": ("elsewhere", "elsewhere", None),
    }
    for folder, expected in folders.items():
        thread = read_messages(tmp_path, message(OWNER, TIME, "x"), where=folder)
        assert (thread.key, thread.title, thread.is_group) == expected


def test_threads_are_conversations_of_their_own(tmp_path: Path) -> None:
    root = at("2024-03-05T10:00:00")
    rows = [
        message(OWNER, "2024-03-05T10:00:00", "which cake?", thread_ts=root, reply_count=2),
        message(FRIEND, "2024-03-05T10:01:00", "it rains", 5),
        message(FRIEND, "2024-03-05T10:02:00", "the big one", thread_ts=root, parent_user_id="U01BEN"),
        message(OWNER, "2024-03-05T10:03:00", "here too", 7),
        message(OWNER, "2024-03-05T10:04:00", "fine", thread_ts=root, subtype="thread_broadcast"),
        message(OWNER, "2024-03-05T10:04:00", "fine", thread_ts=root, subtype="thread_broadcast"),
    ]
    threads, _ = read_path(READER, write_export(tmp_path, rows, "cakes"))
    assert {thread.key: thread.texts for thread in threads} == {
        f"C01CAKES/{root}": ["which cake?", "the big one", "fine"],
        "C01CAKES": ["it rains", "here too"],
    }
    assert dropped(threads) == {"repeated": 1}
    nested = [{**rows[0], "slackdump_thread_replies": [rows[2], rows[4]]}, rows[1], rows[3], rows[4]]
    (tmp_path / "dump").mkdir()
    threads, _ = read_path(READER, write_dump(tmp_path / "dump", nested, "C01CAKES"))
    assert {thread.key: thread.texts for thread in threads}[f"C01CAKES/{root}"] == [
        "which cake?",
        "the big one",
        "fine",
    ]
    assert dropped(threads) == {"repeated": 1}


def test_what_no_human_wrote_is_counted(tmp_path: Path) -> None:
    subtypes = ("channel_join", "channel_topic", "pinned_item", "reminder_add", "file_comment", "something_new")
    rows = [message(FRIEND, TIME, "made up", number, subtype=subtype) for number, subtype in enumerate(subtypes)]
    rows += [
        message(FRIEND, TIME, "beep", 11, subtype="bot_message", bot_id="B1"),
        message(FRIEND, TIME, "beep", 12, bot_id="B1"),
        message("U04BOT", TIME, "beep", 13),
        message("USLACKBOT", TIME, "beep", 14),
        message(FRIEND, TIME, "", 15, subtype="huddle_thread"),
        message(FRIEND, TIME, "", 16, attachments=[{"is_share": True, "text": "of another"}]),
        message(FRIEND, TIME, " ", 17),
        message(FRIEND, TIME, "kept", 18, subtype="me_message"),
        message(FRIEND, TIME, "kept", 19, subtype="file_share", files=[{"id": "F1"}]),
        message(FRIEND, TIME, "x", 20, type="other"),
    ]
    thread = read_messages(tmp_path, *rows)
    assert thread.texts == ["kept", "kept"]
    assert thread.dropped == {"system": len(subtypes) + 1, "bot": 4, "call": 1, "forwarded": 1, "empty": 1}


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<@U02ANNA> and <@U02ANNA|anna> and <@U99>", "@Anna Berg and @Anna Berg and @someone"),
        ("<#C01CAKES> <#C01CAKES|> <#C9|new> <#C9>", "#cakes #cakes #new #channel"),
        (
            "<!here> <!channel> <!everyone> <!subteam^S1|@bakers> <!subteam^S1>",
            "@here @channel @everyone @bakers @group",
        ),
        ("<!date^1457486921^{date}|9 March>", "9 March"),
        ("<https://x.example/?a=1&amp;b=2> <https://x.example|x.example>", "https://x.example/?a=1&b=2 x.example"),
        ("<mailto:a@x.example|a@x.example> <mailto:b@x.example>", "a@x.example b@x.example"),
        ("1 &lt; 2 &gt; 0 &amp; &amp;lt; &nbsp;", "1 < 2 > 0 & &lt; &nbsp;"),
        (":+1::skin-tone-2: *b* 9:00", ":+1::skin-tone-2: *b* 9:00"),
        ("&gt; her words\nmine", "mine"),
        ("mine\n&gt;&gt;&gt; her words\nand more", "mine"),
        ("&gt;:(", ">:("),
    ],
)
def test_markup_becomes_what_people_see(tmp_path: Path, markup: str, expected: str) -> None:
    assert read_messages(tmp_path, message(FRIEND, TIME, markup)).texts == [expected]


def test_blocks_are_read_where_the_text_is_empty_and_quotes_are_cut(tmp_path: Path) -> None:
    def section(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {"type": kind, "elements": list(parts)}

    text = {"type": "text", "text": "1 < 2 & "}
    rich = [
        section("rich_text_quote", {"type": "text", "text": "her words"}),
        section(
            "rich_text_section",
            text,
            {"type": "user", "user_id": "U02ANNA"},
            {"type": "emoji", "name": "+1", "unicode": "1f44d-1f3fc"},
            {"type": "link", "url": "https://x.example"},
            {"type": "broadcast", "range": "here"},
        ),
        section("rich_text_list", section("rich_text_section", {"type": "text", "text": "a"}),
                section("rich_text_section", {"type": "text", "text": "b"})),
    ]  # fmt: skip
    rows = [
        message(FRIEND, TIME, "", 1, blocks=[section("rich_text", *rich)]),
        message(FRIEND, TIME, "", 2, blocks=[section("rich_text", rich[0])]),
        message(FRIEND, TIME, "&gt; her words", 3),
    ]
    thread = read_messages(tmp_path, *rows)
    assert thread.texts == ["1 < 2 & @Anna Berg👍🏼https://x.example@here\na\nb"]
    assert thread.dropped == {"quoted": 2}


def test_times_have_microseconds_that_are_never_a_float(tmp_path: Path) -> None:
    rows = [message(FRIEND, TIME, "a", 999_999), message(FRIEND, TIME, "b", 1)]
    thread = read_messages(tmp_path, *rows)
    assert (thread.sent_at, thread.resolution_ms) == ([ms(TIME) + 999, ms(TIME)], 1)


def test_people_without_a_list_and_people_of_one_name(tmp_path: Path) -> None:
    rows = [
        message("U05ANNA", TIME, "a", 1),
        message(FRIEND, TIME, "b", 2),
        message("U77", TIME, "c", 3, user_profile={"display_name": FRIEND}),
        message("U78", TIME, "d", 4),
        message("U78", TIME, "e", 5, user_profile={"display_name": "Late"}),
    ]
    expected = [f"{FRIEND} (U05ANNA)", FRIEND, f"{FRIEND} (U77)", "U78", "U78"]
    assert read_messages(tmp_path, *rows).senders == expected
    (tmp_path / "dump").mkdir()
    (thread,), said = read_path(READER, write_dump(tmp_path / "dump", rows, has_users=False))
    assert thread.senders[:2] == ["U05ANNA", "U02ANNA"]
    assert said == ["there is no users.json beside it, so that people go by their ids; export it with slackdump too"]


def test_malformed_messages_are_counted_and_the_first_is_described(tmp_path: Path) -> None:
    good = message(FRIEND, TIME, "kept")
    deep: Any = []
    for _ in range(30):
        deep = [{"elements": deep}]
    bad = [
        {**good, "ts": 1457486921.000003}, {**good, "ts": "1457486921"}, {**good, "ts": "99999999999.000000"},
        {**good, "ts": at(TIME, 1), "user": None}, {**good, "ts": at(TIME, 2), "user": {}}, 5, None,
        {**good, "ts": at(TIME, 3), "text": 5}, {**good, "ts": at(TIME, 4), "text": "", "blocks": deep},
    ]  # fmt: skip
    thread = read_messages(tmp_path, *bad, good)
    assert (thread.texts, thread.dropped) == (["kept"], {"malformed": len(bad)})
    assert thread.fault == "message 0: `ts` is no text like 1709647401.000100"


def test_damaged_lists_are_named(tmp_path: Path) -> None:
    path = write_export(tmp_path, conversation(), users={"ok": False})
    with pytest.raises(BadFileError, match=r"users\.json: found dict where a list was expected"):
        read_path(READER, path)
    (tmp_path / "users.json").write_bytes(as_json(USERS)[:-5])
    with pytest.raises(BadFileError, match=r"users\.json: not JSON"):
        read_path(READER, path)


@pytest.mark.parametrize(
    "content", [{"channel_id": "C1"}, {"messages": []}, {"messages": [], "channel_id": 5}], ids=str
)
def test_dumps_without_what_is_needed_are_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "x.json").write_bytes(as_json(content))
    with pytest.raises(BadFileError, match="no list `messages` with a `channel_id`"):
        read_path(READER, tmp_path / "x.json")


def test_large_days_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "PIECE_MESSAGES", 500)
    path = write_export(tmp_path, [], "cakes")
    write_large(path, 2_000_000)
    threads, _ = read_path(READER, path)
    pieces = [thread for thread in threads if thread.key == "C01CAKES"]
    assert len(pieces) > 2
    assert sum(thread.num_read for thread in threads) % 1000 == 0


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_not_slacks(name: str) -> None:
    assert READER.sniff("general/2024-03-05.json", FOREIGN[name][:HEAD_BYTES]) <= 0.1


def test_a_first_message_with_files_hides_the_time(tmp_path: Path) -> None:
    content = as_json([{"text": "", "files": [{"id": "F01AB", "title": "x" * 9000}], "ts": at(TIME)}])
    assert READER.sniff("general/2024-03-05.json", content[:HEAD_BYTES]) > 0.5
    assert READER.sniff("general/other.json", content[:HEAD_BYTES]) == 0
    assert max(READER.sniff("2024-03-05.json", as_json(LISTS[name])) for name in LISTS) == 0


def test_mutated_exports(tmp_path: Path) -> None:
    root = at("2024-03-05T10:00:00")
    rows = [*conversation(), message(FRIEND, TIME, "<@U01BEN> &gt; x", 9, thread_ts=root), *conversation(True)]
    nested = [{**rows[0], "slackdump_thread_replies": rows[1:3]}, *rows[3:]]
    forms = [lambda folder: write_export(folder, rows), lambda folder: write_dump(folder, nested)]
    check_mutations(READER, "slack", tmp_path, forms)
