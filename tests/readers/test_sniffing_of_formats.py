"""Each file of these formats is one reader's: no other one is as sure, and none of theirs is taken for another's."""

import importlib
import pkgutil
from pathlib import Path

import pytest
from helpers.reader_checks import head_of
from helpers.reader_fixtures_imessage import conversation as chat_db
from helpers.reader_fixtures_imessage_text import conversation as imessage_text
from helpers.reader_fixtures_json import as_json
from helpers.reader_fixtures_signal import chat_md, data_json, lines
from helpers.reader_fixtures_signal import conversation as signal
from helpers.reader_fixtures_small import (
    as_chatlab_lines,
    chatlab_conversation,
    matrix_conversation,
    old_snapchat,
    snapchat,
)
from helpers.reader_fixtures_sms import conversation as sms

from jaegpt.exports import readers
from jaegpt.exports.reader import HEAD_BYTES, Reader

FILES = {
    "imessage_text/chat.txt": imessage_text().encode(),
    "signal/main.jsonl": lines(signal()),
    "signal_export/data.json": data_json(),
    "signal_export/chat.md": chat_md(),
    "signal_export/index.md": chat_md(minutes=True),
    "sms/sms-20240305.xml": sms(),
    "snapchat/chat_history.json": as_json(snapchat()),
    "snapchat/old.json": as_json(old_snapchat()),
    "matrix/export.json": as_json(matrix_conversation()),
    "chatlab/chat.json": as_json(chatlab_conversation()),
    "chatlab/chat.jsonl": as_chatlab_lines(chatlab_conversation()),
}


def readers_by_module() -> list[tuple[str, Reader]]:
    found = []
    for info in pkgutil.iter_modules(readers.__path__):
        module = importlib.import_module(f"{readers.__name__}.{info.name}")
        of_module = getattr(module, "READERS", [module.READER] if hasattr(module, "READER") else [])
        found += [(info.name, reader) for reader in of_module]
    return found


@pytest.mark.parametrize("name", [*FILES, "imessage/chat.db"])
def test_one_reader_is_sure(tmp_path: Path, name: str) -> None:
    head = FILES[name][:HEAD_BYTES] if name in FILES else head_of(chat_db(tmp_path / "chat.db", "2026"))
    certainties = [(reader.sniff(name, head), module) for module, reader in readers_by_module()]
    assert len(certainties) >= 9
    assert [module for certainty, module in certainties if certainty > 0.5] == [name.partition("/")[0]]
