"""The steps of the seed in plain Python: a yardstick for `benchmarks/bench_data.py`, not a copy of the seed.

One pass over the thread files with `json`, everything else with loops over messages, one process: language by the share
of printable ASCII characters, lines with the words of automated messages dropped, a random state for distractors and
split, examples written as JSON lines, then four padded rows of ids, types and labels an example, and the block-size
yield. No repair of double encoding, no count of what was dropped, no table written between the steps.

The steps are the seed's, their details are not: a thread folder is one thread here (the seed took every
`message_N.json` for one), and a gap is measured from the message before it (the seed: inside a turn from its first
message). On the sample 3,711 examples come out, where the seed's own program gives 2,829.

Each text of an example is tokenized once, as the seed did. `--row-by-row` tokenizes the history again for each of the
four candidates that follow it, which nobody is known to have done; a ratio to that is the more flattering one.

Run: python -m benchmarks.seed_reference EXPORT OWNER [TOKENIZER_FOLDER [--row-by-row]]
"""

import itertools
import json
import random
import string
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRINTABLE = set(string.printable)
AUTOMATED = (
    "8 Ball Pool",
    "Chess",
    "Words With Friends",
    "Robinhood",
    "waved at",
    "called you",
    "missed your call",
    "missed a call",
    "sent you a payment",
    "sent a payment",
    "subscribe",
)
PERCENTILE, NUM_HISTORY, NUM_DISTRACTORS, VALID_FRACTION = 50, 4, 3, 0.1436
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024)
BLOCK_SIZE, IGNORED = 128, -100

Turn = dict[str, Any]


def threads(export: Path) -> Iterator[list[dict[str, Any]]]:
    """The messages of each thread folder, oldest first."""
    folders = sorted({path.parent for path in export.rglob("message_*.json")})
    for folder in folders:
        messages = []
        for path in folder.glob("message_*.json"):
            with open(path, encoding="utf-8") as file:
                messages += json.load(file)["messages"]
        yield sorted(messages, key=lambda message: message["timestamp_ms"])


def kept_messages(messages: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """(sender, time, text) of the messages people wrote, or nothing when the thread is not mostly ASCII."""
    rows = []
    for message in messages:
        text = message.get("share", {}).get("link") or message.get("content")
        if text and not any(part in text for part in AUTOMATED):
            rows.append((message["sender_name"], message["timestamp_ms"], text))
    characters = sum(len(text) for _, _, text in rows)
    printable = sum(character in PRINTABLE for _, _, text in rows for character in text)
    if not characters or printable / characters <= 0.5:
        return []
    return [(sender, time, "".join(c for c in text if c in PRINTABLE)) for sender, time, text in rows]


def sessions_of(messages: list[tuple[str, int, str]]) -> list[list[Turn]]:
    """Turns, in sessions cut at the median gap of the thread."""
    times = [time for _, time, _ in messages]
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    if not gaps:
        return []
    place = PERCENTILE / 100 * (len(gaps) - 1)
    low = gaps[int(place)]
    threshold = low + (gaps[min(int(place) + 1, len(gaps) - 1)] - low) * (place - int(place))
    sessions: list[list[Turn]] = []
    last = None
    for sender, time, text in messages:
        if last is None or time - last >= threshold:
            sessions.append([])
        if sessions[-1] and sessions[-1][-1]["sender"] == sender:
            sessions[-1][-1]["text"] += " " + text
        else:
            sessions[-1].append({"sender": sender, "time": time, "text": text})
        last = time
    return sessions


def examples_of(sessions: list[list[Turn]], owner: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """History, reply and distractors for each turn of the owner that has a turn before it."""
    own = sorted({turn["text"] for session in sessions for turn in session if turn["sender"] == owner})
    if len(own) <= NUM_DISTRACTORS + 1:
        return
    for session in sessions:
        for index, turn in enumerate(session):
            if index and turn["sender"] == owner:
                others = [text for text in rng.sample(own, NUM_DISTRACTORS + 1) if text != turn["text"]]
                yield {
                    "history": [
                        {"is_owner": before["sender"] == owner, "text": before["text"]}
                        for before in session[max(0, index - NUM_HISTORY) : index]
                    ],
                    "reply": turn["text"],
                    "distractors": others[:NUM_DISTRACTORS],
                }


def rows_of(example: dict[str, Any], tokenizer: Any, once: bool) -> list[tuple[list[int], list[int], list[int]]]:
    """The four rows of an example, unpadded: ids, token types (1 on the owner's turns and the candidate), labels."""
    end = tokenizer.eos_token_id
    candidates = [*example["distractors"], example["reply"]]

    def turns() -> list[tuple[list[int], int]]:
        return [([*tokenizer(turn["text"])["input_ids"], end], int(turn["is_owner"])) for turn in example["history"]]

    known = turns() if once else []
    rows = []
    for text in candidates:
        history = known if once else turns()
        candidate = [*tokenizer(text)["input_ids"], end]
        ids = [token for turn, _ in history for token in turn]
        types = [kind for turn, kind in history for _ in turn]
        labels = candidate if text is candidates[-1] else [IGNORED] * len(candidate)
        rows.append((ids + candidate, types + [1] * len(candidate), [IGNORED] * len(ids) + labels))
    return rows


def encode(examples: list[dict[str, Any]], tokenizer: Any, once: bool) -> dict[int, int]:
    """Every example's padded rows, as training takes them, and how many examples fit each block size.

    The rows are made and let go: what would come next is training.
    """
    fit = dict.fromkeys(BLOCK_SIZES, 0)
    for example in examples:
        rows = rows_of(example, tokenizer, once)
        needed = max(len(ids) for ids, _, _ in rows)
        for size in BLOCK_SIZES:
            fit[size] += needed <= size
        if needed <= BLOCK_SIZE:
            _ = [_padded(row) for row in rows], [len(ids) - 1 for ids, _, _ in rows], NUM_DISTRACTORS
    return fit


def _padded(row: tuple[list[int], list[int], list[int]]) -> list[list[int]]:
    return [part + [fill] * (BLOCK_SIZE - len(part)) for part, fill in zip(row, (0, 0, IGNORED), strict=True)]


def build(export: Path, owner: str, folder: Path) -> list[dict[str, Any]]:
    """The whole way from the export to two files of examples."""
    rng = random.Random(1337)
    examples: list[dict[str, Any]] = []
    for messages in threads(export):
        examples += examples_of(sessions_of(kept_messages(messages)), owner, rng)
    rng.shuffle(examples)
    num_valid = int(len(examples) * VALID_FRACTION)
    for name, part in (("valid", examples[:num_valid]), ("train", examples[num_valid:])):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(example) + "\n" for example in part)
    return examples


def main() -> None:
    export, owner, *rest = sys.argv[1:]
    # Names are compared as the file has them, double encoding included, as the seed does.
    stored = owner.encode().decode("latin-1")
    with tempfile.TemporaryDirectory() as folder:
        examples = build(Path(export), stored, Path(folder))
    print(f"plain Python, the seed's steps: {len(examples):,} examples")
    if rest:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(rest[0], local_files_only=True, trust_remote_code=False)
        for size, count in encode(examples, tokenizer, once="--row-by-row" not in rest).items():
            print(f"  {size:>5}: {count / max(len(examples), 1):.2%}")


if __name__ == "__main__":
    main()
