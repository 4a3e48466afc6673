"""Generation against `transformers.generate` called plainly. Run: python -m benchmarks.bench_chat

Needs models/jaegpt and data/examples. Validation contexts are answered in turn by each way, so that a machine that is
not quiet slows all of them; ratios are of their total times.
"""

import jaegpt.environment  # noqa: F401

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from transformers import GenerationConfig

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker
from jaegpt.tables import read_table

History = list[tuple[bool, str]]

CONTEXTS = 40
BATCH = 32
CONFIG = GenerateConfig(top_p=0.9, top_k=100, temperature=0.8, no_repeat_ngram=3, max_tokens=20, candidates=1)


def plain(speaker: Speaker, history: History, count: int) -> int:
    """Tokens written by transformers' own generate with the same sampling settings."""
    ids = encode_history(speaker.encoder, history[-speaker.num_history :])[0]
    stop = speaker.encoder.end_of_turn[-1]
    settings = GenerationConfig(
        do_sample=True,
        top_p=CONFIG.top_p,
        top_k=CONFIG.top_k,
        temperature=CONFIG.temperature,
        no_repeat_ngram_size=CONFIG.no_repeat_ngram,
        max_new_tokens=CONFIG.max_tokens,
        num_return_sequences=count,
        eos_token_id=stop,
        pad_token_id=stop,
    )
    inputs = torch.tensor([ids])
    output = speaker.model.lm.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=settings)
    return int((output[:, len(ids) :] != stop).sum())


def main() -> None:
    rows = [row for row in read_table("data/examples", "examples").to_pylist() if row["split"] == "valid"]
    histories = [[(turn["is_owner"], turn["text"]) for turn in row["history"]] for row in rows[: max(CONTEXTS, BATCH)]]
    speaker = Speaker("models/jaegpt")
    print(speaker.device.reason)
    five = dataclasses.replace(CONFIG, candidates=5)
    seconds: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    ways: dict[str, Callable[[History, int], int]] = {
        "generate, 1": lambda history, seed: plain(speaker, history, 1),
        "jaegpt, 1": lambda history, seed: speaker.replies([history], CONFIG, seed)[0].num_tokens,
        "generate, 5": lambda history, seed: plain(speaker, history, 5),
        "jaegpt, best of 5": lambda history, seed: speaker.replies([history], five, seed)[0].num_tokens,
    }
    for number, history in enumerate([histories[0], *histories[:CONTEXTS]]):
        for name, answer in ways.items():
            began = time.perf_counter()
            written = answer(history, number)
            if number:  # the first is for warming up
                seconds[name] += time.perf_counter() - began
                tokens[name] += written
    began = time.perf_counter()
    name = f"jaegpt, 1, {BATCH} side by side"
    tokens[name] = sum(reply.num_tokens for reply in speaker.replies(histories[:BATCH], CONFIG, 1))
    seconds[name] = (time.perf_counter() - began) * CONTEXTS / BATCH
    tokens[name] = tokens[name] * CONTEXTS // BATCH
    for name in seconds:
        rate = tokens[name] / seconds[name]
        print(f"{name:28} {seconds[name] / CONTEXTS:6.3f} s a reply, {rate:6.1f} tokens/s (of replies shown)")
    print(f"best of 5 against 1: {seconds['jaegpt, best of 5'] / seconds['jaegpt, 1']:.2f} times the time")


if __name__ == "__main__":
    main()
