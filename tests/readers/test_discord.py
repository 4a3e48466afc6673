"""DiscordChatExporter's JSON: kinds, bots, forwards, markup, parts, owners, damage; Discord's own package refused."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import messages, read_path
from helpers.reader_fixtures_discord import (
    CHANNEL,
    IDS,
    conversation,
    export,
    message,
    person,
    write_large,
    write_package,
)
from helpers.reader_fixtures_json import EXPECTED, FOREIGN, FRIEND, OWNER, as_json, check_mutations, ms, read_content

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import HEAD_BYTES, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers import discord
from jaegpt.exports.readers.discord import READERS

READER, PACKAGE = READERS
TIME = "2024-03-05T14:03:21"


def read_messages(folder: Path, *rows: Any, kind: str = "GuildTextChat") -> SourceThread:
    (thread,) = read_content(READER, folder, export(list(rows), kind))
    return thread


def test_the_conversation(tmp_path: Path) -> None:
    content = as_json(export(conversation()))
    assert READER.sniff("x", content[:HEAD_BYTES]) > 0.5 > PACKAGE.sniff("x", content[:HEAD_BYTES])
    (thread,) = read_content(READER, tmp_path, content)
    assert messages([thread]) == EXPECTED
    assert (thread.key, thread.title, thread.is_group, thread.resolution_ms) == (CHANNEL, FRIEND, False, 1)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == ((OWNER,), False, {OWNER, FRIEND})
    assert (dict(thread.dropped), thread.num_read) == ({"media": 1}, 6)


def test_the_owner_of_a_direct_chat_is_who_it_is_not_called_after(tmp_path: Path) -> None:
    rows = [message(1, FRIEND, TIME, "a", author=person("anna_b", id=IDS[FRIEND], nickname=FRIEND))]
    (thread,) = read_content(READER, tmp_path, export(rows))
    assert thread.owner == ()
    rows += [message(2, OWNER, TIME, "b", author=person("ben_o", id=IDS[OWNER], nickname="Ben"))]
    (thread,) = read_content(READER, tmp_path, export(rows))
    assert (thread.owner, thread.people) == (("ben_o",), ("anna_b", "ben_o"))
    for unclear in (export(rows, name="Anna and Zoë"), export(rows, "DirectGroupTextChat"), export(rows, name=None)):
        (thread,) = read_content(READER, tmp_path, unclear)
        assert thread.owner == ()


def test_channels_of_servers_are_groups(tmp_path: Path) -> None:
    for kind in ("GuildTextChat", "GuildPublicThread", "GuildForum", "GuildVoiceChat"):
        (thread,) = read_content(READER, tmp_path, export(conversation(), kind, name="cakes"))
        assert (thread.title, thread.is_group, thread.owner) == ("Bakers: cakes", True, ())
        assert messages([thread]) == EXPECTED


def test_what_is_no_human_text_is_counted(tmp_path: Path) -> None:
    thread = read_messages(
        tmp_path,
        message(1, "Helper", TIME, "beep", author=person("Helper", isBot=True)),
        message(2, FRIEND, TIME, "ran it", interaction={"id": "1", "name": "roll", "user": person(FRIEND)}),
        message(3, FRIEND, TIME, "", forwardedMessage={"timestamp": TIME, "content": "of another"}),
        message(4, FRIEND, TIME, "", reference={"type": "Forward", "messageId": "1"}),
        *(message(5, FRIEND, TIME, "made up", kind) for kind in ("RecipientAdd", "ChannelPinnedMessage", "7", "21")),
        *(message(6, FRIEND, TIME, "made up", kind) for kind in ("Call", "46", "20")),
        message(7, FRIEND, TIME, "", stickers=[{"id": "1", "name": "cake"}]),
        message(8, FRIEND, TIME, "", attachments=[{"id": "1"}]),
        message(9, FRIEND, TIME, " "),
        message(10, FRIEND, TIME, "kept", "Reply", reference={"type": "Default", "messageId": "1"}),
        message(11, FRIEND, TIME, "kept", author=person("Old", discriminator="0000")),
    )
    assert thread.texts == ["kept", "kept"]
    assert thread.dropped == {
        "bot": 1, "command": 2, "forwarded": 2, "system": 4, "call": 1, "poll": 1, "sticker": 1, "media": 1, "empty": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("> are you coming?\nyes", "yes"),
        ("> are you\n> coming?\n@Anna yes\n> and when\nlate", "@Anna yes\nlate"),
        ("look:\n>>> hers\n\nhers too", "look:"),
        ("> hers alone", None),
        (">>> hers alone\nall of it", None),
        (">be me", ">be me"),
        (">:( a > b", ">:( a > b"),
    ],
)
def test_quotes_are_cut(tmp_path: Path, text: str, kept: str | None) -> None:
    thread = read_messages(tmp_path, message(1, OWNER, TIME, text))
    assert thread.texts == ([kept] if kept else [])
    assert thread.dropped == ({} if kept else {"quoted": 1})


def test_markup_becomes_what_people_see(tmp_path: Path) -> None:
    mentions = [person("anna_b", id=IDS[FRIEND], nickname="Anna")]
    raw = f"<@{IDS[FRIEND]}> <@!{IDS[OWNER]}> <@123> <#{CHANNEL}> <#5> <@&7> <a:party:99> <:cake:98> <t:1618953630:R> "
    raw += "</roll:5> <https://x.example> <3 **b** <t:999999999999>"
    thread = read_messages(tmp_path, message(1, OWNER, TIME, raw, mentions=mentions))
    assert thread.texts == [
        f"@Anna @{OWNER} @someone #Anna Berg #channel @role :party: :cake: 2021-04-20 21:20 /roll "
        "<https://x.example> <3 **b** <t:999999999999>"
    ]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2024-03-05T14:03:21+00:00", 0),
        ("2024-03-05T14:03:21.5+00:00", 500),
        ("2024-03-05T16:03:21.12+02:00", 120),
        ("2024-03-05T14:03:21.1234567+00:00", 123),
        ("2024-03-05T14:03:21Z", 0),
    ],
)
def test_fractions_of_seconds_have_any_length(tmp_path: Path, timestamp: str, expected: int) -> None:
    thread = read_messages(tmp_path, message(1, OWNER, TIME, "x", timestamp=timestamp))
    assert thread.sent_at == [ms(TIME) + expected]


def test_parts_have_one_key_and_long_files_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = conversation()
    keys = {thread.key for part in (rows[:3], rows[3:]) for thread in read_content(READER, tmp_path, export(part))}
    assert keys == {CHANNEL}
    monkeypatch.setattr(discord, "PIECE_MESSAGES", 100)
    write_large(tmp_path / "large.json", 1_000_000)
    threads, _ = read_path(READER, tmp_path / "large.json")
    assert len(threads) > 2
    assert {(thread.key, thread.owner, thread.num_read > 0) for thread in threads} == {(CHANNEL, (OWNER,), True)}


def test_people_of_one_name_stay_two(tmp_path: Path) -> None:
    rows = [message(1, OWNER, TIME, "a"), message(2, OWNER, TIME, "b", author=person(OWNER, id="77"))]
    assert read_messages(tmp_path, *rows).senders == [OWNER, f"{OWNER} (77)"]


def test_malformed_messages_are_counted_and_the_first_is_described(tmp_path: Path) -> None:
    good = message(1, FRIEND, TIME, "kept")
    bad = [
        {**good, "timestamp": "soon"}, {**good, "timestamp": 5}, {**good, "timestamp": "0001-01-01T00:00:00+00:00"},
        {**good, "author": None}, {**good, "author": {"id": "1"}}, {**good, "content": None}, {**good, "type": 0}, 5,
    ]  # fmt: skip
    thread = read_messages(tmp_path, *bad, good)
    assert (thread.texts, thread.dropped) == (["kept"], {"malformed": len(bad)})
    assert thread.fault == "messages[0]: `timestamp` 'soon' is no time of the years 1990 to 2099"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (as_json(export(conversation()))[:-60], "cut off"),
        (as_json({"guild": {"id": "0"}, "channel": {"id": "1"}}), "no list `messages`"),
        (as_json({"guild": {"id": "0"}, "messages": []}), "no `channel` with an `id`"),
        (as_json({"mod": {"normal": True}, **export([])}), "export without it"),
    ],
)
def test_files_without_what_is_needed_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read_content(READER, tmp_path, content)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_not_discords(name: str) -> None:
    assert max(reader.sniff("index.json", FOREIGN[name][:HEAD_BYTES]) for reader in READERS) <= 0.1


@pytest.mark.parametrize("is_csv", [True, False])
@pytest.mark.parametrize(("root", "prefix"), [("messages", "c"), ("messages", ""), ("Nachrichten", "c")])
@pytest.mark.parametrize("is_zip", [True, False])
def test_the_data_package_is_explained_once(tmp_path: Path, is_csv: bool, root: str, prefix: str, is_zip: bool) -> None:
    paths = write_package(tmp_path, root, prefix, is_csv)
    files = [SourceFile(str(path)) for path in paths]
    if is_zip:
        with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.relative_to(tmp_path))
        files = [SourceFile(str(tmp_path / "package.zip"), str(path.relative_to(tmp_path))) for path in paths]
    for file, path in zip(files, paths, strict=True):
        assert PACKAGE.sniff(file.name, path.read_bytes()) > 0.5 > READER.sniff(file.name, path.read_bytes())
    options = ReadOptions(timezone=discord.ZoneInfo("UTC"))
    of_channel, index = files
    assert list(PACKAGE.read(of_channel, options, print)) == []
    with pytest.raises(BadFileError, match="holds what you wrote and nothing that you answered to"):
        list(PACKAGE.read(index, options, print))


def test_messages_of_a_package_without_its_index_are_refused_themselves(tmp_path: Path) -> None:
    path, index = write_package(tmp_path)
    index.unlink()
    with pytest.raises(BadFileError, match="DiscordChatExporter, format JSON"):
        read_path(PACKAGE, path)


def test_mutated_exports(tmp_path: Path) -> None:
    def write(folder: Path) -> Path:
        (folder / "x.json").write_bytes(as_json(export(conversation())))
        return folder / "x.json"

    check_mutations(READER, "discord", tmp_path, [write])
