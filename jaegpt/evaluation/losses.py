"""The figures of metrics/evaluate.json: losses against a uniform guess, accuracies with an interval."""

import math
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


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of `count` observations (Wilson 1927, the score interval)."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
