"""One odd value in one message costs that message at most: all others are read, and the odd one is read or counted.

`JAEGPT_LOSSES=2000 pytest tests/readers/test_no_message_is_lost.py` changes that many messages per form, not 40.
"""

import copy
import json
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import reader_fixtures_discord as discord
from helpers import reader_fixtures_google_chat as google_chat
from helpers import reader_fixtures_hangouts as hangouts
from helpers import reader_fixtures_imessage as imessage
from helpers import reader_fixtures_imessage_text as imessage_text
from helpers import reader_fixtures_kakaotalk as kakaotalk
from helpers import reader_fixtures_line as line
from helpers import reader_fixtures_signal as signal
from helpers import reader_fixtures_slack as slack
from helpers import reader_fixtures_small as small
from helpers import reader_fixtures_sms as sms
from helpers import reader_fixtures_table as table
from helpers import reader_fixtures_telegram as telegram
from helpers import reader_fixtures_whatsapp as whatsapp
from helpers import reader_fixtures_whatsapp_db as whatsapp_db
from helpers.reader_checks import FRIEND, places, read_path
from helpers.reader_fixtures_json import HOSTILE as ANY_HOSTILE
from helpers.reader_fixtures_json import as_json

from jaegpt.exports.reader import HEAD_BYTES, Reader, SourceThread
from jaegpt.exports.readers import line_text
from jaegpt.exports.registry import all_readers

NUM_CASES = int(os.environ.get("JAEGPT_LOSSES", "40"))
MOST_SECONDS = 5  # of the processor, for a file of seven messages
# Half a surrogate pair is no UTF-8, which makes the whole file unreadable.
HOSTILE = [value for value in ANY_HOSTILE if value not in ("\ud83d", "\ude00x")]
# What a value of a text format or of a database may be instead.
HOSTILE_TEXTS = ("", " ", "null", "0", "-1", "9" * 40, "x" * 5000, "\u202e", "🙂", "é", "a: b", "1e999", "2024-02-30")
HOSTILE_VALUES = (None, 0, -1, 2**63 - 1, 1.5, "", "x", "\0", b"", b"\xff" * 9, "9" * 99)

Write = Callable[[Path, list[Any]], Path]


@dataclass(frozen=True)
class Form:
    """Messages, and what writes a file of them under a folder."""

    messages: list[Any]
    write: Write


def _file(make: Callable[[list[Any]], Any], folder: Path, messages: list[Any]) -> Path:
    content = make(messages)
    path = folder / "export"
    path.write_bytes(content if isinstance(content, bytes) else as_json(content))
    return path


def _form(messages: list[Any], make: Callable[[list[Any]], Any]) -> Form:
    return Form(messages, partial(_file, make))


def _lab(messages: list[Any]) -> dict[str, Any]:
    return small.chatlab() | {"messages": messages}


def _lab_lines(messages: list[Any]) -> bytes:
    head = small.as_chatlab_lines(small.chatlab())
    return head + small.json_lines(messages)


_LAB = small.chatlab_conversation()["messages"]
_OLD_SNAP = small.old_snapchat()
_FRAMES = signal.conversation()
_ROWS = table.rows(is_owner="false", source="viber")
FORMS = {
    "telegram": _form(telegram.conversation(), telegram.chat),
    "telegram of 2018": _form(telegram.conversation("2018"), partial(telegram.chat, era="2018")),
    "telegram account": _form(telegram.conversation(), lambda rows: telegram.account(telegram.chat(rows))),
    "discord": _form(discord.conversation(), discord.export),
    "slack": Form(slack.conversation(), slack.write_export),
    "slackdump": Form(slack.conversation(), slack.write_dump),
    "google chat": Form(google_chat.conversation(), google_chat.write_chat),
    "hangouts": _form(hangouts.events(), hangouts.hangouts),
    "hangouts before 2018": _form(hangouts.events(), partial(hangouts.hangouts, era="before 2018")),
    "snapchat": _form(small.snapchat()[small.SNAP[FRIEND]], lambda rows: {small.SNAP[FRIEND]: rows}),
    "snapchat before 2023": _form(
        _OLD_SNAP["Sent Saved Chat History"], lambda rows: {**_OLD_SNAP, "Sent Saved Chat History": rows}
    ),
    "matrix": _form(small.matrix_conversation()["messages"], lambda rows: small.matrix(*rows)),
    "chatlab": _form(_LAB, _lab),
    "chatlab lines": _form([{"_type": "message"} | row for row in _LAB], _lab_lines),
    "signal": _form(
        [row["chatItem"] for row in _FRAMES if "chatItem" in row],
        lambda rows: signal.lines([*signal.FRAMES, *({"chatItem": row} for row in rows)]),
    ),
    "signal-export": _form([json.loads(line) for line in signal.data_json().splitlines()], signal.lines),
    "table of json lines": _form(_ROWS, lambda rows: small.json_lines(rows)),
}


def _read(path: Path, reader: Reader | None = None) -> list[SourceThread]:
    """What the given or the surest reader finds, in bounded time."""
    head = path.read_bytes()[:HEAD_BYTES]
    reader = reader or max(all_readers(), key=lambda reader: reader.sniff(str(path), head))
    began = time.process_time()
    threads, _ = read_path(reader, path)
    assert time.process_time() - began < MOST_SECONDS
    return threads


def _kept(threads: list[SourceThread]) -> Counter[tuple[int, str]]:
    return Counter(row for thread in threads for row in zip(thread.sent_at, thread.texts, strict=True))


def _num_read(threads: list[SourceThread]) -> int:
    return sum(thread.num_read for thread in threads)


def _check(good: list[SourceThread], found: list[SourceThread], what: str) -> None:
    assert _num_read(found) == _num_read(good), what
    assert (_kept(good) - _kept(found)).total() <= 1, what


@pytest.mark.parametrize("name", FORMS)
def test_an_odd_value_costs_one_message(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    (tmp_path / "good").mkdir()
    good = _read(form.write(tmp_path / "good", form.messages))
    assert _num_read(good) >= len(form.messages) > 2
    assert _kept(good).total() > 0
    rng = random.Random(name)
    left_out = 0
    for case in range(NUM_CASES):
        rows = copy.deepcopy(form.messages)
        # Not the first: by that the format is known.
        row = rng.randrange(1, len(rows))
        parent, key = rng.choice([(rows, row), *places(rows[row])])
        parent[key] = copy.deepcopy(rng.choice(HOSTILE))
        folder = tmp_path / str(case)
        folder.mkdir()
        found = _read(form.write(folder, rows))
        _check(good, found, f"case {case}: {rows[row]!r:.2000}")
        left_out += _kept(found).total() < _kept(good).total()
    assert left_out > 0 or NUM_CASES < 20


@pytest.mark.parametrize("is_mms", [False, True])
def test_an_odd_attribute_of_a_backup_costs_one_message(tmp_path: Path, is_mms: bool) -> None:
    content = sms.conversation().decode()
    path = tmp_path / "sms.xml"
    path.write_text(content)
    good = _read(path)
    kind = "mms" if is_mms else "sms"
    starts = [index for index in range(len(content)) if content.startswith(f"<{kind} ", index)]
    rng = random.Random(f"attributes {kind}")
    for case in range(NUM_CASES):
        start = rng.choice(starts)
        end = content.index("</mms>" if is_mms else "/>", start)
        changed = content[start:end].split('"')
        changed[rng.randrange(1, len(changed) - 1, 2)] = rng.choice(HOSTILE_TEXTS)
        path.write_text(content[:start] + '"'.join(changed) + content[end:])
        _check(good, _read(path), f"case {case}: {changed}")


TEXTS: dict[str, bytes] = {
    **{f"WhatsApp Chat with {name}.txt": whatsapp.chat(locale).encode() for name, locale in whatsapp.LOCALES.items()},
    **{f"LINE {name}.txt": line.chat(shape).encode() for name, shape in line.SHAPES.items()},
    **{f"KakaoTalk {name}.txt": kakaotalk.chat(shape).encode() for name, shape in kakaotalk.SHAPES.items()},
    "KakaoTalk.csv": kakaotalk.chat_csv(),
    "imessage.txt": imessage_text.conversation().encode(),
    "chat.md": signal.chat_md(),
    "table.csv": table.as_csv(table.rows()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_odd_text_costs_one_message(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, TEXTS[name].decode()
    path.write_text(content, encoding="utf-8", newline="")
    reader = line_text.READER if name == "LINE desktop.txt" else None  # which has no head to be known by
    good = _read(path, reader)
    for said in ("around nine 🎉", "see you (: at 9:00 - ok?"):
        assert content.count(said) == 1
        for text in HOSTILE_TEXTS:
            path.write_text(content.replace(said, text), encoding="utf-8", newline="")
            _check(good, _read(path, reader), f"{text:.50} for {said}")


# Table of messages, and the column that is -1 in a row of Android's which is no message.
DATABASES: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    **{f"chat.db of {era}": (partial(imessage.conversation, era=era), "message", "") for era in imessage.ERAS},
    "msgstore.db": (whatsapp_db.android, "message", "chat_row_id"),
    "msgstore-2019.db": (whatsapp_db.old_android, "messages", "key_remote_jid"),
    "ChatStorage.sqlite": (whatsapp_db.ios, "ZWAMESSAGE", ""),
}


@pytest.mark.parametrize("name", DATABASES)
def test_an_odd_value_in_a_database_costs_one_message(tmp_path: Path, name: str) -> None:
    make, of_messages, chat = DATABASES[name]
    path = make(tmp_path / name.partition(" ")[0])
    good, content = _read(path), path.read_bytes()
    rng = random.Random(name)
    num_changed = 0
    for case in range(NUM_CASES):
        path.write_bytes(content)
        base = sqlite3.connect(path)
        columns = [row[1] for row in base.execute(f"PRAGMA table_info({of_messages})") if row[1].lower() not in _KEYS]
        where = f"WHERE {chat} NOT IN (-1, '-1')" if chat else ""
        (number,) = rng.choice(base.execute(f"SELECT ROWID FROM {of_messages} {where}").fetchall())
        column, value = rng.choice(columns), rng.choice(HOSTILE_VALUES)
        value = 0 if column == chat and value == -1 else value
        try:
            base.execute(f"UPDATE {of_messages} SET {column} = ? WHERE ROWID = ?", (value, number))
        except sqlite3.Error:  # the column takes no such value
            base.close()
            continue
        base.commit()
        base.close()
        num_changed += 1
        _check(good, _read(path), f"case {case}: message {number}, {column} = {value!r}")
    assert num_changed > NUM_CASES / 3


# The row's own number; a changed one may be that of another row.
_KEYS = ("_id", "z_pk", "rowid")
