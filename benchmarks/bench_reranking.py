"""Does the classification head choose better replies than chance? Run: python -m benchmarks.bench_reranking

Needs models/jaegpt and data/examples. The same validation contexts are answered with one candidate and with five.
- mc score: the head's own, of the reply shown; it must rise, since the head chooses by it.
- F1 and distinct-2: as in metrics/fidelity.json; with the standard error of the difference in F1 between five
  candidates and one, context by context.
"""

import jaegpt.environment  # noqa: F401

import numpy as np

from jaegpt.evaluation.content import content_figures, token_f1
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker
from jaegpt.tables import read_table

CONTEXTS = 600
SEED = 1337


def main() -> None:
    rows = [row for row in read_table("data/examples", "examples").to_pylist() if row["split"] == "valid"][:CONTEXTS]
    histories = [[(turn["is_owner"], turn["text"]) for turn in row["history"]] for row in rows]
    speaker = Speaker("models/jaegpt")
    print(f"{len(rows):,} contexts; {speaker.device.reason}")
    for top_p in (0.25, 0.5, 0.9):
        overlap = {}
        for candidates in (1, 5):
            config = GenerateConfig(
                top_p=top_p,
                top_k=100,
                temperature=0.8,
                no_repeat_ngram=3,
                max_tokens=20,
                candidates=candidates,
                rerank="head",
            )
            texts = [reply.text for reply in speaker.replies(histories, config, SEED)]
            scores = [speaker.score(history, [text], config)[0] for history, text in zip(histories, texts, strict=True)]
            overlap[candidates] = np.array(
                [token_f1(text, row["reply"]) for text, row in zip(texts, rows, strict=True)]
            )
            figures = content_figures({"replies": texts}, [row["reply"] for row in rows])["replies"]
            words = np.mean([len(text.split()) for text in texts])
            print(
                f"top_p {top_p}, candidates {candidates}: mc score {np.mean(scores):+.3f}, F1 "
                f"{overlap[candidates].mean():.4f}, distinct-2 {figures['distinct_2']:.3f}, {words:.1f} words a reply"
            )
        gain = overlap[5] - overlap[1]
        print(f"    F1 of five less F1 of one: {gain.mean():+.4f}, standard error {gain.std() / len(gain) ** 0.5:.4f}")


if __name__ == "__main__":
    main()
