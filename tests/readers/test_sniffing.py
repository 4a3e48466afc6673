"""No reader takes another's file: every fixture of every format, Messenger's and junk, before every reader's sniff."""

import importlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from helpers import reader_fixtures_discord as discord
from helpers import reader_fixtures_table as tables
from helpers import reader_fixtures_telegram as telegram
from helpers import reader_fixtures_whatsapp as whatsapp
from helpers.export_fixtures import ERAS, TALKS, encrypted_files, files_of
from helpers.paths import ROOT

from benchmarks.bench_readers import fixture_names
from jaegpt.exports.archives import list_entries
from jaegpt.exports.reader import HEAD_BYTES, ReadOptions, SourceThread
from jaegpt.exports.registry import all_readers, reader_named
from jaegpt.exports.sniffing import MAYBE, SQLITE, SURE, sniff
from jaegpt.exports.source_pass import source_file
from jaegpt.exports.text import BYTE_ORDER_MARK

METAS = {f"{era} {name}": raw for era in ERAS for name, raw in files_of(era).items()} | encrypted_files(TALKS)


def fixtures() -> Iterator[tuple[str, str, bytes]]:
    """(source, name, content) of files of which it is plain whose they are."""
    for name, locale in whatsapp.LOCALES.items():
        yield "whatsapp", f"{name}.txt", whatsapp.chat(locale).encode()
    for era in telegram.ERAS:
        chat = telegram.chat(telegram.conversation(era), era)
        yield "telegram", f"{era}.json", json.dumps(chat).encode()
        yield "telegram", f"account {era}.json", json.dumps(telegram.account(chat), ensure_ascii=False).encode()
    yield "discord", "channel.json", json.dumps(discord.export(discord.conversation())).encode()
    for form in (tables.as_csv, tables.as_json_lines, tables.as_parquet):
        yield "other", f"{form.__name__}.bin", form(tables.rows())


FIXTURES = {name: (source, content) for source, name, content in fixtures()}


@pytest.mark.parametrize("name", FIXTURES)
def test_the_right_reader_is_the_surest_by_far(name: str) -> None:
    source, content = FIXTURES[name]
    sure: dict[str, float] = {}
    for reader in all_readers():
        certainty = reader.sniff(f"chats/{name}", content[:HEAD_BYTES])
        sure[reader.source] = max(certainty, sure.get(reader.source, 0))
    assert sure[source] > SURE, sure
    assert all(certainty < MAYBE for other, certainty in sure.items() if other != source), sure


@pytest.mark.parametrize("name", fixture_names())
def test_large_files_are_taken_by_their_own_reader_alone(name: str, tmp_path: Path) -> None:
    made = importlib.import_module(f"helpers.reader_fixtures_{name}")
    made.write_large(tmp_path / name, 300_000)
    formats = {"table": ("other",), "small": ("snapchat", "matrix", "chatlab")}.get(name, (name.partition("_")[0],))
    taken = 0
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        sure = {reader: reader.sniff(str(path), head) for reader in all_readers()}
        surest = max(sure, key=lambda reader: sure[reader])
        if head.startswith(SQLITE):  # any may be of any messenger: the readers' `read` decides
            taken += 1
            continue
        taken += sure[surest] > SURE
        assert sure[surest] < MAYBE or surest.source.startswith(formats), (path, surest.name)
        others = [sure[reader] for reader in sure if reader.source != surest.source]
        assert max(others) < MAYBE, (path, others)
    assert taken, "no reader takes what its own fixture writes"


def _read_folder(folder: Path) -> list[Any]:
    """The reader of each file that has one, and all that it finds."""
    found: list[Any] = []
    for entry in list_entries(str(folder), lambda name: True).entries:
        if verdict := sniff(entry).sniffed:
            threads = reader_named(verdict.readers[0]).read(
                source_file(entry), ReadOptions(timezone=ZoneInfo("UTC")), found.append
            )
            found += [entry.name, verdict.readers, verdict.certainty, *threads]
    return found


@pytest.mark.parametrize("name", [name for name in fixture_names() if name not in ("imessage", "whatsapp_db")])
def test_a_byte_order_mark_changes_nothing(name: str, tmp_path: Path) -> None:
    importlib.import_module(f"helpers.reader_fixtures_{name}").write_large(tmp_path / name, 100_000)
    plain = _read_folder(tmp_path)
    marked = []
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        if not path.read_bytes().startswith(b"PAR1"):
            path.write_bytes(BYTE_ORDER_MARK + path.read_bytes())
            marked.append(path)
    assert marked
    assert sum(len(thread.texts) for thread in plain if isinstance(thread, SourceThread)) > 20
    assert _read_folder(tmp_path) == plain


@pytest.mark.parametrize("name", METAS)
def test_no_reader_takes_a_file_of_metas(name: str) -> None:
    for reader in all_readers():
        assert reader.sniff(name, METAS[name][:HEAD_BYTES]) < MAYBE, reader.name


def test_no_reader_takes_the_files_of_a_project_or_stumbles_over_random_bytes() -> None:
    rng = random.Random("sniffing")
    known = [content for _, content in FIXTURES.values()]
    paths = [path for pattern in ("*.md", "*.yaml", "jaegpt/**/*.py", "metrics/*.json") for path in ROOT.glob(pattern)]
    assert len(paths) > 50
    for reader in all_readers():
        for path in paths:
            with open(path, "rb") as file:
                assert reader.sniff(str(path), file.read(HEAD_BYTES)) < MAYBE, (reader.name, path)
        for case in range(300):
            head = bytearray(rng.choice(known)[: rng.randrange(1, HEAD_BYTES)] if case % 2 else b"")
            for _ in range(rng.randrange(60)):
                head[rng.randrange(len(head) + 1) :][:1] = bytes([rng.randrange(256)])
                head.insert(rng.randrange(len(head) + 1), rng.randrange(256))
            assert 0 <= reader.sniff("x", bytes(head)) <= 1, reader.name


def test_every_format_has_a_page_of_its_own_in_the_tests() -> None:
    folder = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.glob("test_*.py"))
    for reader in all_readers():
        module = reader.read.__module__.rpartition(".")[2]  # type: ignore[attr-defined]
        assert f"readers.{module}" in tests or f"import {module}" in tests, reader.name
