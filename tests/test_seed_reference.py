"""The yardstick in plain Python tokenizes as often as it says."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import seed_reference


@pytest.mark.parametrize(("flags", "of_an_example"), [([], 4 + 1), (["--row-by-row"], 4 + 4 * 1)])
def test_each_text_of_an_example_is_tokenized_once_unless_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str],
    of_an_example: int,
) -> None:  # fmt: skip
    # Bo, then at once Ann, and later Bo alone: of the gaps two thirds are long, so each pair is a session.
    messages = [
        {"sender_name": sender, "timestamp_ms": 10_000_000 * number + after, "content": f"w{number} {after}"}
        for number in range(12)
        for sender, after in (("bo", 0), ("ann", 1), ("bo", 5_000_001))
    ]
    (tmp_path / "message_1.json").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    asked: list[str] = []

    class Tokenizer:
        eos_token_id = 0

        def __call__(self, text: str) -> dict[str, list[int]]:
            asked.append(text)
            return {"input_ids": [1]}

    loader = SimpleNamespace(from_pretrained=lambda *_, **__: Tokenizer())
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=loader))
    monkeypatch.setattr(sys, "argv", ["seed_reference", str(tmp_path), "ann", "folder", *flags])
    seed_reference.main()
    printed = capsys.readouterr().out
    assert printed.startswith("plain Python, the seed's steps: 12 examples\n")
    assert len(asked) == 12 * of_an_example
