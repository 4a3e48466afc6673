"""System lines: the list in system_lines_en.tsv, and what 258,145 messages of people must not be taken for."""

import re
from dataclasses import replace
from pathlib import Path

import chitchat_dataset
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers.export_fixtures import OWNER, START, TALKS, as_json, files_of, read, since_2024, write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaegpt.errors import JaegptError
from jaegpt.exports import system_lines
from jaegpt.exports.system_lines import find_system_lines, kind_of

LINES = [line.split("\t") for line in (Path(__file__).parent / "system_lines_en.tsv").read_text("utf-8").splitlines()]
NAMES = ["Ben Ødeby", "Zoë Tarvén"]


def test_the_list_is_whole() -> None:
    assert len(LINES) == 79
    assert sum(kind == "KEEP" for kind, _ in LINES) == 8


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_each_line_is_judged_right(kind: str, line: str) -> None:
    """By RE2, which finds candidates in bulk, and by the rules, which decide."""
    found = find_system_lines(pa.array(["before", line, "after"]), lambda row: NAMES, [])
    assert found == ({} if kind == "KEEP" else {1: kind})
    assert kind_of(line, NAMES) == (None if kind == "KEEP" else kind)


def test_the_whole_list_in_an_export(tmp_path: Path) -> None:
    sender = "Ben Ødeby"
    lines = tuple((sender, START + index, line) for index, (_, line) in enumerate(LINES))
    talk = replace(TALKS[0], title=sender, people=(sender, OWNER), messages=((OWNER, START - 1, "hi"), *lines))
    report, table = read(
        write_folder(tmp_path / "export", files_of("since 2024", (talk,))), tmp_path / "out", owner=OWNER
    )
    assert table["text"].to_pylist() == ["hi", *(line for kind, line in LINES if kind == "KEEP")]
    assert sum(report.dropped.values()) == 71
    assert report.dropped == {
        kind: sum(other == kind for other, _ in LINES) for kind in sorted({kind for kind, _ in LINES} - {"KEEP"})
    }


def test_people_are_not_taken_for_messenger() -> None:
    content = orjson.loads(Path(chitchat_dataset.__file__).with_name("dataset.json").read_bytes())
    texts = [message["text"] for talk in content.values() for turn in talk["messages"] for message in turn]
    assert len(texts) == 258_145
    found = find_system_lines(pa.array(texts), lambda row: ["Taylor Ødeby", "Eve Tarvén"], [])
    wrong = {texts[row]: kind for row, kind in found.items() if kind != "empty"}
    assert len(wrong) <= 3, wrong
    assert all(not texts[row].strip() for row, kind in found.items() if kind == "empty")


def test_blank_lines_of_all_kinds_are_empty() -> None:
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    assert len(spaces) > 20
    lines = ["", " \t\n", "\u200b", "\ufe0f \u200b", "".join(spaces), *spaces, "a", "👍"]
    found = find_system_lines(pa.array(lines), lambda row: NAMES, [])
    assert found == dict.fromkeys(range(len(lines) - 2), "empty")


def test_white_space_around_a_line_does_not_hide_it() -> None:
    lines = [f"Ben sent a photo.{end}" for end in ("\u00a0", "\u202f \n", "\u2003", " ")]
    lines += [line.replace("Ben", "\u00a0Ben") for line in lines]
    assert find_system_lines(pa.array(lines), lambda row: NAMES, []) == dict.fromkeys(range(8), "placeholder")


@pytest.mark.parametrize(
    "line", ["Mum called you.", "Dad sent a photo.", "I sent a photo.", "Someone I met called you."]
)
def test_who_acts_decides(line: str) -> None:
    assert kind_of(line, NAMES) is None
    assert kind_of(line.replace(line.split(" called")[0].split(" sent")[0], "Ben"), NAMES) in ("call", "placeholder")


@pytest.mark.parametrize(
    "line",
    ["You called me.", "You called it.", "You left the chat.", "You responded", "Eve responded", "You sent me $20."],
)
def test_lines_that_people_write_too(line: str) -> None:
    assert kind_of(line, NAMES) is None


GROUP = ("Anna Sølvay", "Bo Łęck", OWNER)


@pytest.mark.parametrize(
    ("line", "by_anna", "by_bo"),
    [
        ("Anna called you.", "call", None),
        ("Anna Sølvay called Zoë.", "call", None),
        ("Anna sent a photo.", "placeholder", None),
        ("Anna reacted ❤ to your message", "reaction", None),
        ("Anna unsent a message.", "unsent", None),
        ("Anna joined the call.", "call", None),
        ("You missed a call from Anna.", "call", None),
        ("Anna missed your call.", "call", None),
        ("Anna named the group Ski trip.", "group", None),
        ("Anna left the group.", "group", None),
        ("Anna voted for Rome in the poll: Where?", "poll", None),
        ("Anna responded", "plan", None),
        ("Anna scored 12 points playing Basketball.", "game", None),
        # Of somebody else's doing, or of a name that nobody here bears any more.
        ("Anna is now an admin.", "group", "group"),
        ("Cyd named the group Ski trip.", "group", "group"),
        ("Bo added Anna to the group.", None, "group"),
        ("Bo set the nickname for Anna to Boss.", None, "thread"),
        ("You called Anna.", "call", "call"),
        ("Cyd called you.", None, None),
    ],
)
def test_in_a_group_the_name_has_to_be_the_senders(
    tmp_path: Path, line: str, by_anna: str | None, by_bo: str | None
) -> None:
    for sender, kind in (("Anna Sølvay", by_anna), ("Bo Łęck", by_bo)):
        assert kind_of(line, GROUP, sender) == kind
        messages = ((OWNER, START, "hi"), (sender, START + 1, line))
        talk = replace(TALKS[2], people=GROUP, messages=messages)
        path = write_folder(tmp_path / sender, files_of("since 2024", (talk,)))
        report, table = read(path, tmp_path / f"out {sender}", owner=OWNER)
        assert report.dropped == ({kind: 1} if kind else {})
        assert table["text"].to_pylist()[1:] == ([] if kind else [line])


def test_of_two_people_either_may_be_meant() -> None:
    pair = ("Ben Ødeby", OWNER)
    for sender in pair:
        assert kind_of("Ben missed your call.", pair, sender) == "call"
        assert kind_of("You missed a call from Ben.", pair, sender) == "call"
    assert kind_of("Ben called you.", pair, OWNER) is None
    # A deleted account has lost the name that its lines still bear.
    assert kind_of("Ben called you.", (*pair, "Facebook user"), "Facebook user") == "call"


@pytest.mark.parametrize("rule", [pattern for _, pattern in system_lines._compiled_rules()])
def test_looking_for_hints_first_misses_no_line_of_a_rule(rule: re.Pattern[str]) -> None:
    @given(st.from_regex(rule, fullmatch=True))
    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(line: str) -> None:
        assert re.search(system_lines.HINTS, line)
        loose = system_lines._loose_rules()
        assert any(pc.match_substring_regex(pa.array([line]), rules)[0].as_py() for rules in loose)

    check()


FLAGGED = [
    ({"is_taken_down": True, "content": "x"}, "taken_down"),
    ({"is_unsent": True, "content": "still here"}, "unsent"),
    ({"call_duration": 0, "content": "The video chat ended."}, "call"),
    ({"call_duration": 12}, "call"),
    ({"type": "Call", "content": "x"}, "call"),
    ({"type": "Subscribe", "content": "x", "users": [{"name": "Bo"}]}, "subscription"),
    ({"type": "Unsubscribe", "content": "x", "users": []}, "subscription"),
    ({"photos": [{"uri": "a.jpg", "creation_timestamp": 1}]}, "empty"),
    ({"content": " \n "}, "empty"),
    ({"content": None, "sticker": {"uri": "s.png"}}, "empty"),
    ({"share": {"share_text": "Last update: 3 minutes ago"}}, "app_share"),
    ({"share": {"link": "https://example.org", "share_text": "Play 8 Ball Pool with me"}}, "app_share"),
    ({"type": "Payment", "content": "You sent $20 to Ben."}, "payment"),
    ({"type": "Payment", "content": "for the pizza"}, "payment"),
    ({"type": "Payment", "share": {"link": "https://example.org"}}, "payment"),
    ({"content": "Chess: it is your move", "share": {"link": "https://example.org"}}, "app_share"),
    ({"content": "I got a free share on Robinhood", "share": {"link": "https://example.org"}}, "app_share"),
]
# The link, else the shared text, stands for the content, unless that holds words of the writer's own.
SHARED = [
    ({"share": {"link": "https://example.org/a"}}, "https://example.org/a"),
    ({"content": "Bo sent an attachment.", "share": {"link": "https://example.org/a"}}, "https://example.org/a"),
    ({"share": {"share_text": "worth reading"}}, "worth reading"),
    ({"content": "look at this", "share": {"link": "https://example.org/a"}}, "look at this"),
    (
        {"content": "https://l.example.org/?u=a", "share": {"link": "https://example.org/a", "share_text": "news"}},
        "https://example.org/a",
    ),
    ({"content": "https://l.example.org/?u=a", "share": {"share_text": "news"}}, "news"),
    ({"content": "Bo shared a reel.", "share": {"link": "https://example.org/a"}}, "https://example.org/a"),
    ({"content": "see https://example.org/a", "share": {"link": "https://example.org/a"}}, "see https://example.org/a"),
    ({"type": "Share", "content": "look", "share": {"link": "https://example.org/a"}}, "look"),
    ({"type": "Something new", "content": "kept"}, "kept"),
    ({"is_unsent": False, "call_duration": None, "content": "kept"}, "kept"),
    ({"content": "I like Chess"}, "I like Chess"),
    ({"content": "Chess: who is in?"}, "Chess: who is in?"),
    (
        {"content": "Chess tonight at my place?", "share": {"link": "https://example.org/a"}},
        "Chess tonight at my place?",
    ),
    ({"content": "see you", "share": {"link": "https://example.org/a", "share_text": "Chess: the movie"}}, "see you"),
    ({"content": "Bo sent a location.", "share": {"share_text": "Main Square 5"}}, "Main Square 5"),
    ({"content": "Bo sent a live location.", "share": {"share_text": "Main Square 5"}}, "Main Square 5"),
    ({"content": "You sent a reel", "share": {"link": "https://example.org/a"}}, "https://example.org/a"),
    ({"content": "he shared a post", "share": {"link": "https://example.org/a"}}, "he shared a post"),
    ({"content": "caption", "photos": [{"uri": "a.jpg"}], "reactions": [{"reaction": "x", "actor": "y"}]}, "caption"),
]


def _one_message(folder: Path, message: dict[str, object]) -> Path:
    content = since_2024(TALKS[1])
    content["messages"].insert(0, {"sender_name": "Bo", "timestamp_ms": START + 10**9, **message})
    return write_folder(folder, {"messages/inbox/bo_1002/message_1.json": as_json(content)})


@pytest.mark.parametrize(("message", "reason"), FLAGGED)
def test_flags_decide_before_words(tmp_path: Path, message: dict[str, object], reason: str) -> None:
    report, _ = read(_one_message(tmp_path / "export", message), tmp_path / "out", owner=OWNER)
    assert report.dropped == {reason: 1}


@pytest.mark.parametrize(("message", "text"), SHARED)
def test_what_stands_for_a_share(tmp_path: Path, message: dict[str, object], text: str) -> None:
    report, table = read(_one_message(tmp_path / "export", message), tmp_path / "out", owner=OWNER)
    assert report.dropped == {}
    assert table["text"].to_pylist()[-1] == text


def test_encrypted_placeholders(tmp_path: Path) -> None:
    messages = [
        {"senderName": "Bo", "timestamp": START, "text": "hi", "type": "Generic"},
        {"senderName": OWNER, "timestamp": START + 1, "text": "hello", "type": "text", "isUnsent": False},
        {"senderName": "Bo", "timestamp": START + 2, "text": "User unsent a message", "type": "placeholder"},
        {"senderName": "Bo", "timestamp": START + 3, "text": "gone", "type": "text", "isUnsent": True},
        {"senderName": "Bo", "timestamp": START + 4, "type": "media", "media": [{"uri": "media/1.jpg"}]},
        {"senderName": "Bo", "timestamp": START + 5, "text": "https://example.org", "type": "link"},
    ]
    files = {"Bo_4.json": as_json({"participants": ["Bo", OWNER], "threadName": "Bo_4", "messages": messages})}
    report, table = read(write_folder(tmp_path / "export", files), tmp_path / "out", owner=OWNER)
    assert table["text"].to_pylist() == ["hi", "hello", "https://example.org"]
    assert report.dropped == {"unsent": 2, "empty": 1}


def test_patterns_of_the_user(tmp_path: Path) -> None:
    lines = tuple(("Bo Łęck", START + index, f"Bo a envoyé {index} photos.") for index in range(3))
    talk = replace(
        TALKS[1], messages=(*lines, ("Bo Łęck", START + 9, "il a envoyé 3 photos. lol"), (OWNER, START + 10, "ok"))
    )
    path = write_folder(tmp_path / "export", files_of("since 2024", (talk,)))
    report, table = read(path, tmp_path / "out", owner=OWNER, system_patterns=[r"\S+ a envoyé \d+ photos\."])
    assert report.dropped == {"system_pattern": 3}
    assert len(table) == 2
    for pattern in ("(", ".*", r"(?=x)"):
        with pytest.raises(JaegptError, match=r"export\.system_patterns"):
            read(path, tmp_path / f"out{len(pattern)}", system_patterns=[pattern])
