"""`export.reactions` in Slack and Google Chat, whose messages list who reacted by ids and addresses."""

from pathlib import Path
from typing import Any

import pytest
from helpers import reader_fixtures_google_chat as google_files
from helpers import reader_fixtures_slack as slack_files
from helpers.reaction_checks import AFTER, AT, LATER, TIME, check, read
from helpers.reader_checks import FRIEND, OWNER, dropped, messages

from jaegpt.exports.reactions import is_emoji
from jaegpt.exports.readers import google_chat, slack
from jaegpt.exports.readers.slack_emoji import emoji_named


@pytest.mark.parametrize("write", [slack_files.write_export, slack_files.write_dump])
def test_slack(tmp_path: Path, write: Any) -> None:
    def given_(name: Any, *users: Any) -> dict[str, Any]:
        return {"name": name, "users": list(users), "count": len(users)}

    ben, anna = slack_files.IDS[OWNER], slack_files.IDS[FRIEND]
    listed = [given_("+1::skin-tone-3", ben, anna), given_("party-parrot", ben), given_("heart", "U99"), given_("x"), 5]
    listed += [given_("tada", "U04BOT", "USLACKBOT", 7), given_(None, ben)]
    root = slack_files.at(TIME)
    rows = [
        slack_files.message(FRIEND, TIME, "hi", reactions=listed),
        slack_files.message(OWNER, LATER, "", files=[{"id": "F1"}], reactions=listed),
        slack_files.message(OWNER, LATER, "", reactions=listed) | {"ts": "soon"},
        slack_files.message(OWNER, LATER, "yes", 7, thread_ts=root, reactions=[given_("eyes", anna)]),
        slack_files.message(OWNER, LATER, "yes", 7, thread_ts=root, reactions=[given_("eyes", anna)]),
        slack_files.message(FRIEND, LATER, "bye", 9, reactions="none"),
    ]
    off = [(FRIEND, AT, "hi"), (FRIEND, AFTER, "bye"), (OWNER, AFTER, "yes")]
    on = [off[0], (OWNER, AT, "👍🏼"), (FRIEND, AT, "👍🏼"), ("U99", AT, "❤️"), *off[1:], (FRIEND, AFTER, "👀")]
    path = write(tmp_path, rows)
    # A picture, whose it is unknown, no reaction, two bots, no id, no name; and ten to the photo.
    check(slack.READER, path, off, on, 7 + 10)
    counts = [dropped(read(slack.READER, path, flag)) for flag in (False, True)]
    assert [(count["repeated"], count["malformed"]) for count in counts] == [(1, 1), (1 + 1, 1)]


def test_a_reaction_does_not_name_a_person_whom_a_later_message_names(tmp_path: Path) -> None:
    listed = [{"name": "heart", "users": ["U77"], "count": 1}]
    rows = [
        slack_files.message(FRIEND, TIME, "hi", reactions=listed),
        slack_files.message("U77", TIME, "hullo", 1, user_profile={"display_name": "Late"}, reactions=listed),
    ]
    threads = read(slack.READER, slack_files.write_export(tmp_path, rows), True)
    assert messages(threads) == [(FRIEND, AT, "hi"), ("U77", AT, "❤️"), ("Late", AT, "hullo"), ("Late", AT, "❤️")]


def test_slacks_names_of_emoji() -> None:
    """As in Slack's list, emoji-data: of each way in which a name is understood, some."""
    signs = {
        "+1": "👍", "thumbsup": "👍", "joy": "😂", "heart": "❤️", "tada": "🎉", "hot_pepper": "🌶️", "egg": "🥚",
        "upside_down_face": "🙃", "pink_heart": "🩷", "melting_face": "🫠", "heart_hands": "🫶", "flag-no": "🇳🇴",
        "us": "🇺🇸", "woman-shrugging": "🤷‍♀️", "male-technologist": "👨‍💻", "female-doctor": None,
        "+1::skin-tone-2": "👍🏻", "+1::skin-tone-6": "👍🏿", "point_up::skin-tone-3": "☝🏼", "+1::skin-tone-9": None,
        "man-shrugging::skin-tone-4": "🤷🏽‍♂️", "party-parrot": None, "": None, "heart-text": None,
    }  # fmt: skip
    assert {name: emoji_named(name) for name in signs} == signs
    assert all(is_emoji(sign) for sign in signs.values() if sign)
    assert emoji_named(None) is emoji_named(["heart"]) is None


def test_google_chat(tmp_path: Path) -> None:
    def given_(emoji: Any, *emails: Any) -> dict[str, Any]:
        return {"emoji": emoji, "reactor_emails": list(emails)}

    ben, anna = google_files.EMAILS[OWNER], google_files.EMAILS[FRIEND]
    listed = [
        given_({"unicode": "👍"}, ben, anna),
        given_({"custom_emoji": {"id": "x"}}, ben),
        given_({"unicode": "❤"}),
    ]
    listed += [given_({"unicode": "🎉"}, "zoe@x.example", 7), given_("👍", ben), None]  # type: ignore[list-item]
    rows = [
        google_files.message(1, FRIEND, TIME, "hi", "t1", reactions=listed),
        google_files.message(2, OWNER, LATER, "", attached_files=[{"export_name": "x"}], reactions=listed),
        google_files.message(3, OWNER, LATER, "yes", "t1", reactions=[given_({"unicode": "👀"}, anna)]),
        google_files.message(4, OWNER, LATER, 5, reactions=listed),
        google_files.message(5, OWNER, LATER, "bye", reactions="none"),
    ]
    hi, yes, bye = (FRIEND, AT, "hi"), (OWNER, AFTER, "yes"), (OWNER, AFTER, "bye")
    given_to_hi = [(OWNER, AT, "👍"), (FRIEND, AT, "👍"), ("zoe@x.example", AT, "🎉")]
    path = google_files.write_chat(tmp_path, rows)
    # A picture, whose it is unknown, no address, no emoji, no reaction; and eight to the photo.
    check(google_chat.READER, path, [hi, yes, bye], [hi, *given_to_hi, yes, (FRIEND, AFTER, "👀"), bye], 5 + 8)
    assert dropped(read(google_chat.READER, path, True))["malformed"] == 1
