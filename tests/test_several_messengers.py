"""WhatsApp, Telegram and Messenger of one person in one folder, from the exports to training examples."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers import reader_fixtures_telegram as telegram
from helpers.paths import ROOT
from helpers.three_messengers import NUM_MESSAGES, OWNER, write_three

from jaegpt.cli import main
from jaegpt.tables import read_table
from stages import build_dataset, extract, filter_language, merge_turns, sessionize


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's parameters, and the exports as they came under chats/."""
    write_three(tmp_path / "chats")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    text = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("path: data/sample_export", "path: chats"),
        ("percentile: 50", "percentile: 90"),
        ("timezone: null", "timezone: UTC"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    return tmp_path


def test_three_messengers_become_examples(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in (extract, filter_language, merge_turns, sessionize, build_dataset):
        stage.main()
    shown = capsys.readouterr().out
    assert "times without a zone were read in UTC (export.timezone)" in shown
    assert f"owner: {OWNER}" in shown
    figures = json.loads(Path("metrics/extract.json").read_text(encoding="utf-8"))
    kept = {"messenger": NUM_MESSAGES, "telegram": NUM_MESSAGES - 1, "whatsapp": NUM_MESSAGES}
    sources = figures["sources"]
    assert {name: source["kept"] for name, source in sources.items()} == kept
    assert all(one["read"] == one["kept"] + sum(one["dropped"].values()) for one in sources.values())
    assert sum(one["read"] for one in sources.values()) == figures["messages_read"]
    assert sources["telegram"]["dropped"] == {"forwarded": 1}
    assert figures["dropped"]["forwarded"] == 1
    assert figures["messages_read"] == figures["messages_kept"] + sum(figures["dropped"].values())
    messages = read_table("data/messages", "messages")
    assert Counter(messages["source"].to_pylist()) == kept
    assert set(messages["sender"].to_pylist()) == {OWNER, "Dag Moe", "Eva Lund", telegram.FRIEND}
    source = dict(zip(messages["thread_id"].to_pylist(), messages["source"].to_pylist(), strict=True))
    sessions = read_table("data/sessions", "sessions")
    found = Counter(source[thread] for thread in set(sessions["thread_id"].to_pylist()))
    assert set(found) == set(kept)
    last: Counter[str] = Counter()
    for thread, index in zip(sessions["thread_id"].to_pylist(), sessions["session_index"].to_pylist(), strict=True):
        last[source[thread]] = max(last[source[thread]], index + 1)
    # Minutes too: a session is six messages, and none is cut at a mere change of minute.
    assert last == dict.fromkeys(kept, NUM_MESSAGES // 6)
    examples = read_table("data/examples", "examples")
    assert set(kept) == {source[thread] for thread in examples["thread_id"].to_pylist()}


def test_inspect_shows_the_three(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["jaegpt", "inspect", "chats", "--json"])
    main()
    report = json.loads(capsys.readouterr().out)
    assert (report["owner"], report["threads"], report["owner_messages"]) == (OWNER, 3, 3 * 80)
    for name, source in report["sources"].items():
        assert source["owner_names"] == [OWNER], name
        assert source["how"], name
        assert source["certainty"] > 0.5, name
    monkeypatch.setattr("sys.argv", ["jaegpt", "inspect", "chats"])
    main()
    shown = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 100 for line in shown), [line for line in shown if len(line) > 100]
