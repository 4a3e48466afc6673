"""`export.reactions` where reactions are lines of text: SMS, imessage-exporter's and signal-export's files."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import reader_fixtures_signal as signal_files
from helpers.reaction_checks import AFTER, AT, LATER, TIME, check, read
from helpers.reader_checks import FRIEND, dropped, messages
from helpers.reader_fixtures_imessage import NUMBER, ChatDb
from helpers.reader_fixtures_imessage_text import block
from helpers.reader_fixtures_sms import backup, mms, part, sms

from jaegpt.exports.readers import imessage, imessage_text
from jaegpt.exports.readers.signal_export import READERS as SIGNAL
from jaegpt.exports.readers.sms import READER as SMS
from jaegpt.exports.readers.tapbacks import is_tapback, tapback_emoji

# Lines that give an emoji, and those that give none.
GIVEN = {
    "Loved “see you at nine”": "❤️",
    "Liked “she said “no”\nand left”": "👍",
    "Disliked “x”": "👎",
    "Laughed at “x”": "😂",
    "Emphasised “x”": "‼️",
    "Emphasized “x”": "‼️",
    "Questioned “x”": "❓",
    "Reacted ❤️‍🔥 to “x”": "❤️‍🔥",
    "\u200a👍🏽\u200b to “\u200asee you at nine\u200a”": "👍🏽",
}
NOT_GIVEN = (
    "Loved an image",
    "Reacted 🎉 to a photo",
    "Removed a heart from “x”",
    "Removed 🎉 from “x”",
    "Liked “\ufffc”",
)


def test_what_such_lines_give() -> None:
    assert {line: tapback_emoji(line) for line in GIVEN} == GIVEN
    assert {tapback_emoji(line) for line in NOT_GIVEN} == {None}
    assert all(is_tapback(line) for line in (*GIVEN, *NOT_GIVEN))


def test_sms(tmp_path: Path) -> None:
    lines = [sms(f"{LATER}Z", line, own=place % 2 > 0) for place, line in enumerate((*GIVEN, *NOT_GIVEN))]
    lines.append(mms(f"{LATER}Z", part("text/plain", "Liked “hi”"), sender=NUMBER))
    (tmp_path / "x").write_bytes(backup(sms(f"{TIME}Z", "hi"), sms(f"{TIME}Z", "yes", own=True), *lines))
    off = [(FRIEND, AT, "hi"), ("Me", AT, "yes")]
    on = [((FRIEND, "Me")[place % 2], AFTER, emoji) for place, emoji in enumerate(GIVEN.values())]
    check(SMS, tmp_path / "x", off, [*off, *on, (FRIEND, AFTER, "👍")], len(NOT_GIVEN), len(lines))
    (tmp_path / "x").write_bytes(backup(sms(f"{TIME}Z", "Loved “x”", address="24273"), sms(f"{TIME}Z", "ok", own=True)))
    assert dropped(read(SMS, tmp_path / "x", True)) == {"short_code": 1}


def test_imessages_partners_by_sms(tmp_path: Path) -> None:
    """Their tapbacks are messages like any other, apart from those that chat.db marks as tapbacks."""
    base = ChatDb(tmp_path / "chat.db", "2026")
    handle = base.insert("handle", id=NUMBER, service="SMS")
    chat = base.chat(NUMBER, [handle])
    for time, text in ((TIME, "hi"), *((LATER, line) for line in (*GIVEN, *NOT_GIVEN))):
        base.message(chat, f"{time}Z", text, handle_id=handle)
    base.message(chat, f"{LATER}Z", "Loved “hi”", handle_id=handle, associated_message_type=3000)
    base.base.commit()
    base.base.close()
    hi, on = (NUMBER, AT, "hi"), [(NUMBER, AFTER, emoji) for emoji in GIVEN.values()]
    check(imessage.READER, tmp_path / "chat.db", [hi], [hi, *on], len(NOT_GIVEN) + 1, len(GIVEN) + len(NOT_GIVEN) + 1)


@pytest.mark.parametrize("indent", ["    ", ""])
def test_imessage_exporter(tmp_path: Path, indent: str) -> None:
    """In either form that the program has had; the older one has an empty line behind the tapbacks."""
    shown = ["Loved by Me", f"Laughed by {FRIEND}", "Emphasized by Stand by Me", f"☕️ by {FRIEND}", "1️⃣ by Me"]
    lost = [f"Sticker from {FRIEND}: /Users/ben/Library/Messages/StickerCache/x.heic"]
    lost += ["Unknown emoji! by Me", "Sticker from Me not found!"]
    listed = [f"{indent}{line}" for line in (*shown, *lost)]
    head, end = ("Tapbacks:", []) if indent else ("Reactions:", [""])
    reply = [
        f"    {line}" for line in ("May 17, 2022  5:29:42 PM", "Me", "Stand by me", "Tapbacks:", "    Liked by Me")
    ]
    content = block(f"{TIME}Z", FRIEND, "hi", head, *listed, *end, *reply, "one by one", head, f"{indent}Liked by Me")
    content += block(f"{LATER}Z", "Me", "attachments/1/2.jpeg", head, *listed, *end)
    content += block(f"{LATER}Z", FRIEND, "Loved “hi”") + block(f"{LATER}Z", FRIEND, "Loved an image")
    (tmp_path / "x.txt").write_text(content, encoding="utf-8")
    hi = (FRIEND, AT, "hi\none by one" if indent else "hi\n\none by one")
    given = [("Me", AT, "❤️"), (FRIEND, AT, "😂"), ("Stand by Me", AT, "‼️")]
    given += [(FRIEND, AT, "☕️"), ("Me", AT, "1️⃣")]
    on = [hi, *given, ("Me", AT, "👍"), (FRIEND, AFTER, "❤️")]
    # The stickers' and the unknown one, all to the photo, and the one to an image.
    check(imessage_text.READER, tmp_path / "x.txt", [hi], on, 2 * len(lost) + len(shown) + 1, 2)
    (thread,) = read(imessage_text.READER, tmp_path / "x.txt", True)
    assert (thread.owner, set(thread.people), thread.is_group) == (("Me",), {FRIEND, "Me", "Stand by Me"}, True)


def signal_row(sender: str, time: str, body: str, *given: Any, **more: Any) -> dict[str, Any]:
    row = {"date": time, "sender": sender, "body": f"{body}  ", "quote": "", "sticker": None}
    return row | {"reactions": list(given), "attachments": []} | more


def in_markdown(row: dict[str, Any]) -> str:
    """A row of data.json as signal-export writes it into chat.md."""
    body = row["body"]
    if row["reactions"]:
        body += f"\n(- {', '.join(f'{name}: {emoji}' for name, emoji in row['reactions'])} -)"
    if row["sticker"]:
        body += f"\n(( {row['sticker']['emoji']} ))"
    body += "".join(f"![{file['name']}](./{file['path']})  " for file in row["attachments"])
    return f"[{row['date'].replace('T', ' ')}] {row['sender']}: {body}\n\n"


@pytest.mark.parametrize("form", ["data.json", "chat.md"])
def test_signal_export(tmp_path: Path, form: str) -> None:
    photo = {"attachments": [{"name": "p.jpg", "path": "media/p.jpg"}]}
    stickers = [{"id": "1", "packId": "a", "packKey": "b", "emoji": emoji} for emoji in ("🎉", "sticker")]
    given = [["Anna", "👍"], ["Me", "❤️"]]
    rows = [
        signal_row("Anna", TIME, "hi", *given, ["Anna", "lol"]),
        signal_row("Me", TIME, "look", *given, **photo),
        signal_row("Me", TIME, "", *given, **photo),
        *(signal_row("Anna", LATER, "", sticker=sticker) for sticker in stickers),
        signal_row("Anna", LATER, "", ["Me", "😂"], sticker=stickers[0]),
    ]
    texts = {"data.json": signal_files.lines(rows).decode(), "chat.md": "".join(map(in_markdown, rows))}
    folder = tmp_path / "Anna"
    folder.mkdir()
    (folder / form).write_text(texts[form], encoding="utf-8")
    off = [("Anna", AT, "hi"), ("Me", AT, "look")]
    marks = [("Anna", AT, "👍"), ("Me", AT, "❤️")]
    sticker = ("Anna", AFTER, "🎉")
    reader = SIGNAL[form == "chat.md"]
    on = [off[0], *marks, off[1], *marks, sticker, sticker, ("Me", AFTER, "😂")]
    check(reader, folder / form, off, on, 1 + 2, 0)
    counts = [dropped(read(reader, folder / form, flag))["sticker"] for flag in (False, True)]
    assert counts == [3, 1]


@pytest.mark.parametrize(
    ("folder", "senders", "name", "expected"),
    [
        ("Anna", ["Anna"], "Anna", "Anna"),
        ("Anna", ["Anna"], "BenOdeby", "Me"),  # a talk of two: who is not Anna is the owner
        ("Anna", ["Anna"], "None", "Me"),
        ("Anna", ["Me"], "Anna", "Anna"),
        ("Climbing", ["Anna", "Me"], "NotetoSelf", "Me"),
        ("Climbing", ["Anna", "Me"], "Note to Self", "Me"),
        ("Climbing", ["Anna", "Zoe"], "Zoe", "Zoe"),
        ("Climbing", ["Anna", "Zoe"], "BenOdeby", "BenOdeby"),
        ("Climbing", ["Anna"], "None", None),
        ("Climbing", ["Anna"], None, None),
    ],
)
def test_whose_signal_exports_reactions_are(
    tmp_path: Path, folder: str, senders: list[str], name: str | None, expected: str | None
) -> None:
    """In older versions, the owner's have the name of a contact."""
    (tmp_path / folder).mkdir()
    rows = [signal_row(sender, TIME, "hi") for sender in senders] + [signal_row("Me", LATER, "so", [name, "👍"])]
    rows.append(signal_row("Me", LATER, "there", "odd", ["Anna"], [["Anna"], "🎉"]))
    path = tmp_path / folder / "data.json"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    threads = read(SIGNAL[0], path, True)
    assert [who for who, _, text in messages(threads) if text == "👍"] == [expected] * (expected is not None)
    assert dropped(threads)["reaction"] == 3 + (expected is None)


def test_a_signal_reaction_before_the_other_one_writes_makes_no_third_person(tmp_path: Path) -> None:
    (tmp_path / "Anna").mkdir()
    rows = [signal_row("Me", TIME, "hello", ["Max", "👍"]), signal_row("Anna", LATER, "hi", ["Max", "😂"])]
    path = tmp_path / "Anna" / "data.json"
    path.write_bytes(signal_files.lines(rows))
    threads = read(SIGNAL[0], path, True)
    assert [(who, text) for who, _, text in messages(threads)] == [("Me", "hello"), ("Anna", "hi"), ("Me", "😂")]
    assert dropped(threads)["reaction"] == 1, "whose it is could not be known yet"
    assert {thread.is_group for thread in threads} == {None}


def test_notes_are_left_out_with_their_reactions(tmp_path: Path) -> None:
    (tmp_path / "NotetoSelf").mkdir()
    path = tmp_path / "NotetoSelf" / "data.json"
    path.write_bytes(signal_files.lines([signal_row("Me", TIME, "milk", ["Me", "👍"])]))
    assert dropped(read(SIGNAL[0], path, True)) == {"notes": 1}
