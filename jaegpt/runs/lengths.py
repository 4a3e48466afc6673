"""How long the replies are that fidelity was measured on, as shares: no text leaves this module."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaegpt.tables import read_table

BOUNDS = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # words: where a class of lengths ends
_WRITERS = {"replies_tuned": "fine-tuned model", "replies_base": "base model"}


def reply_lengths(root: Path) -> list[dict[str, Any]]:
    """Rows of who, words (a class of lengths) and share; none where the replies have not been made in this clone."""
    folders = {name: root / "data" / name for name in ("examples", *_WRITERS)}
    if not all(folder.is_dir() for folder in folders.values()):
        return []
    replies = {who: read_table(folders[name], "replies") for name, who in _WRITERS.items()}
    answered = set(replies["fine-tuned model"]["example_id"].to_pylist())
    examples = read_table(folders["examples"], "examples").select(["example_id", "reply"]).to_pylist()
    texts = {
        "the owner, really": [row["reply"] for row in examples if row["example_id"] in answered],
        **{who: table["reply"].to_pylist() for who, table in replies.items()},
    }
    return [row for who, written in texts.items() for row in _shares(who, written)]


def _shares(who: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    counts = Counter(next((bound for bound in BOUNDS if len(text.split()) <= bound), None) for text in texts)
    total = max(len(texts), 1)
    lowest = (0, *BOUNDS[:-1])
    names = [str(high) if high - low < 2 else f"{low + 1}-{high}" for low, high in zip(lowest, BOUNDS, strict=True)]
    names.append(f"{BOUNDS[-1] + 1}+")
    return [
        {"who": who, "words": name, "share": counts[bound] / total}
        for name, bound in zip(names, (*BOUNDS, None), strict=True)
    ]
