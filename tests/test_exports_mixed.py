"""Folders of several messengers, mutated: every one ends in messages that add up, or in one clear error."""

import json
import random
import traceback
from collections import Counter
from pathlib import Path

import pytest
from helpers import reader_fixtures_telegram as telegram
from helpers import reader_fixtures_whatsapp as whatsapp
from helpers.export_fixtures import OWNER, config, files_of, write_folder, write_zip
from helpers.source_fixtures import TALK

from jaegpt.errors import JaegptError
from jaegpt.exports.extract import read_export
from jaegpt.tables import read_table

NUM_CASES = 150
LOCALES = sorted(whatsapp.LOCALES)


def _files(rng: random.Random) -> dict[str, bytes]:
    """Some of Messenger's, Telegram's and WhatsApp's files and a table, each perhaps damaged."""
    made = files_of(rng.choice(("2022", "since 2024"))) if rng.random() < 0.7 else {}
    if rng.random() < 0.7:
        chat = telegram.chat(telegram.conversation())
        content = telegram.account(chat) if rng.random() < 0.5 else chat
        made[f"{rng.choice(('', 'ChatExport_1/'))}result.json"] = json.dumps(content, ensure_ascii=False).encode()
    for number in range(rng.randrange(3)):
        locale = whatsapp.LOCALES[rng.choice(LOCALES)]
        made[f"WhatsApp Chat with Anna Berg{number or ''}.txt"] = whatsapp.chat(locale).encode()
    if rng.random() < 0.5 or not made:
        made["viber/chat.csv"] = TALK
    return {name: _mutated(content, rng) if rng.random() < 0.3 else content for name, content in made.items()}


def _mutated(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        start = rng.randrange(max(1, len(changed)))
        if rng.random() < 0.6 and changed:
            changed[start] = rng.randrange(256)
        elif rng.random() < 0.8:
            del changed[start : start + rng.choice((1, 8, 200))]
        else:
            del changed[start + 1 :]
    return bytes(changed)


@pytest.mark.parametrize("group", range(3))
def test_a_folder_ends_in_messages_or_in_one_clear_error(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    ends: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for case in range(group, NUM_CASES, 3):
        rng = random.Random(f"mixed {case}")
        folder, files = tmp_path / str(case), _files(rng)
        (folder / "out").mkdir(parents=True)
        path = write_zip(folder / "chats.zip", files) if rng.random() < 0.3 else write_folder(folder / "chats", files)
        owner = rng.choice(("auto", "auto", OWNER, telegram.OWNER))
        chosen = config(path, owner=owner, on_error=rng.choice(("stop", "skip", "skip")))
        try:
            report = read_export(chosen, folder / "out")
        except JaegptError as error:
            message = str(error)
            assert message.startswith(("export.path: ", "export.owner: ")), f"case {case}: {message}"
            assert not any((folder / "out").iterdir()), f"case {case} left something behind"
            ends["error"] += 1
        except Exception:
            pytest.fail(f"case {case}:\n{traceback.format_exc()}")
        else:
            found = read_table(folder / "out", "messages")
            assert report.messages_kept == len(found) > 0, f"case {case}"
            for name, source in report.sources.items():
                assert source.messages_read == source.messages_kept + sum(source.dropped.values()), (
                    f"case {case} {name}"
                )
            counts = {name: source.messages_kept for name, source in report.sources.items() if source.messages_kept}
            assert counts == Counter(found["source"].to_pylist()), f"case {case}"
            assert report.messages_read == sum(source.messages_read for source in report.sources.values())
            ends["messages"] += 1
            sources.update(counts.keys())
    assert min(ends["messages"], ends["error"]) > 0.1 * ends.total(), ends
    assert len(sources) >= 4, sources
