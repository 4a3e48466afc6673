"""Does the classification head choose better replies than chance? Run: python -m benchmarks.bench_reranking

Needs models/jaegpt and data/examples. The same validation contexts are answered with one candidate and with five.
- mc score: the head's own, of the reply shown; it must rise, since the head chooses by it.
- F1: of the words of the reply and of what the person really said, the mean over contexts, with the standard error of
  the difference between five candidates and one, context by context.
- distinct-2: different pairs of neighbouring words, as a share of all.
"""

import jaegpt.environment  # noqa: F401

import itertools
from collections import Counter

import numpy as np

from jaegpt.chat.generation import GenerateConfig, Speaker
from jaegpt.tables import read_table

CONTEXTS = 600
SEED = 1337


def f1(said: str, real: str) -> float:
    """Harmonic mean of the shares of common words, each as often as both have it."""
    ours, theirs = Counter(said.lower().split()), Counter(real.lower().split())
    common = (ours & theirs).total()
    return 2 * common / max(ours.total() + theirs.total(), 1)


def distinct_2(texts: list[str]) -> float:
    """Different word pairs over all word pairs."""
    words = [text.lower().split() for text in texts]
    pairs = [pair for row in words for pair in itertools.pairwise(row)]
    return len(set(pairs)) / max(len(pairs), 1)


def main() -> None:
    rows = [row for row in read_table("data/examples", "examples").to_pylist() if row["split"] == "valid"][:CONTEXTS]
    histories = [[(turn["is_owner"], turn["text"]) for turn in row["history"]] for row in rows]
    speaker = Speaker("models/jaegpt")
    print(f"{len(rows):,} contexts; {speaker.device.reason}")
    for top_p in (0.25, 0.5, 0.9):
        overlap = {}
        for candidates in (1, 5):
            config = GenerateConfig(
                top_p=top_p, top_k=100, temperature=0.8, no_repeat_ngram=3, max_tokens=20, candidates=candidates
            )
            texts = [reply.text for reply in speaker.replies(histories, config, SEED)]
            scores = [speaker.score(history, [text], config)[0] for history, text in zip(histories, texts, strict=True)]
            overlap[candidates] = np.array([f1(text, row["reply"]) for text, row in zip(texts, rows, strict=True)])
            words = np.mean([len(text.split()) for text in texts])
            print(
                f"top_p {top_p}, candidates {candidates}: mc score {np.mean(scores):+.3f}, F1 "
                f"{overlap[candidates].mean():.4f}, distinct-2 {distinct_2(texts):.3f}, {words:.1f} words a reply"
            )
        gain = overlap[5] - overlap[1]
        print(f"    F1 of five less F1 of one: {gain.mean():+.4f}, standard error {gain.std() / len(gain) ** 0.5:.4f}")


if __name__ == "__main__":
    main()
