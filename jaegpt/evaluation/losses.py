"""The figures of metrics/evaluate.json: losses against a uniform guess, accuracies with an interval."""

import math
from collections.abc import Mapping
from typing import Any

from jaegpt.training.validation import Measurement


def evaluation(result: Measurement, *, vocabulary: int, candidates: int, block_size: int) -> dict[str, Any]:
    """Figures of one model. The weighted sum of its losses is not among them: it depends on a run's weights, and the
    untouched base model was trained with none.

    lm_ratio and mc_ratio divide by the entropy of a uniform guess: ln(vocabulary) and ln(candidates). seed_accuracy is
    the share of all positions of the replies' rows, padding included, where argmax(logits[t]) == token[t].
    """
    return {
        "lm_loss": result.lm_loss,
        "mc_loss": result.mc_loss,
        "lm_ratio": result.lm_loss / math.log(vocabulary),
        "mc_ratio": result.mc_loss / math.log(candidates) if candidates > 1 else None,
        "perplexity": math.exp(min(result.lm_loss, 700.0)),  # e^709 is the largest a float can hold
        "token_accuracy": result.token_accuracy,
        "mc_accuracy": result.mc_accuracy,
        "mc_accuracy_ci": list(wilson_interval(result.mc_accuracy, result.examples)),
        "seed_accuracy": result.seed_hits / (result.examples * block_size),
        "candidates": candidates,
        "examples": result.examples,
        "tokens": result.tokens,
    }


def in_words(figures: Mapping[str, Any]) -> str:
    """The figures of one model on a line."""
    return (
        f"lm_loss {figures['lm_loss']:.3f} (ratio {figures['lm_ratio']:.3f}), "
        f"mc_loss {figures['mc_loss']:.3f}, token accuracy {figures['token_accuracy']:.1%}, "
        f"mc accuracy {figures['mc_accuracy']:.1%}, {figures['examples']:,} examples"
    )


def plot_row(tuned: Mapping[str, Any], base: Mapping[str, Any], w_mc: float) -> dict[str, float]:
    """plots/weights.csv, one row, as a run has one w_mc: `dvc plots diff` sets those of several runs side by side."""
    return {
        "w_mc": w_mc,
        **{key: tuned[key] for key in ("lm_loss", "mc_loss", "token_accuracy", "mc_accuracy")},
        **{f"base_{key}": base[key] for key in ("lm_loss", "token_accuracy")},
        "guess_mc_loss": math.log(tuned["candidates"]),
        "guess_mc_accuracy": 1 / tuned["candidates"],
    }


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of `count` observations (Wilson 1927, the score interval)."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
