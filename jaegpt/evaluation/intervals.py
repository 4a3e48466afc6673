"""How sure a figure is, and how to report that it could not be measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import betaincinv  # what beta.ppf of scipy.stats computes, which takes a second to load

from jaegpt.arrays import Floats, Ints

NUM_RESAMPLES = 2000
DIGITS = 4  # that figures are rounded to; none is known better
MIN_CONTEXTS = 20  # fewer give an interval that says nothing


class NotMeasured(Exception):
    """There is too little to measure a figure on; it becomes null, and `counts` (name -> number) stands beside it."""

    def __init__(self, **counts: float) -> None:
        super().__init__(", ".join(f"{name} {number:g}" for name, number in counts.items()))
        self.counts = counts


def need(least: int, **counts: int) -> None:
    """Raise NotMeasured, with `needed` beside what was found, when any of the counts is below `least`."""
    short = {name: count for name, count in counts.items() if count < least}
    if short:
        raise NotMeasured(**short, needed=least)


def exact_interval(hits: float, count: int) -> list[float]:
    """95 % interval of a share of `count` observations (Clopper and Pearson 1934, the exact binomial one).

    Args:
        hits: may lie between two counts, where a tie counts half or an observation is a mean of several.
    """
    low = betaincinv(hits, count - hits + 1, 0.025) if hits > 0 else 0.0
    high = betaincinv(hits + 1, count - hits, 0.975) if hits < count else 1.0
    return [float(low), float(high)]


def bootstrap_rows(count: int, seed: int) -> Ints:
    """[NUM_RESAMPLES, count] numbers of rows drawn with replacement (Efron 1979)."""
    return np.random.default_rng([seed, count]).integers(0, count, (NUM_RESAMPLES, count))


def middle_95(values: Floats) -> list[float]:
    """The 2.5th and 97.5th percentile."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def auc(high: Floats, low: Floats, paired: bool, seed: int) -> tuple[float, list[float]]:
    """How often a value of `high` is above one of `low`, a tie counting half, with its 95 % interval.

    That is the area under the ROC curve, and the share a judge gets right who is shown one of each. The interval is the
    bootstrap's. Where no pair is ever ranked wrong, all resamples agree and it would be a point; so it is made to reach
    at least as far as the exact interval of `count` observations that all came out alike.

    Args:
        high, low: [count] each.
        paired: whether row i of the two belongs together, and so is drawn together.
    """
    count = len(high)
    assert len(low) == count > 0, (count, len(low))
    wins = (high[:, None] > low[None, :]) + 0.5 * (high[:, None] == low[None, :])  # [count, count]
    # A resample's wins are sums over the pairs that it drew, each as often as both of its rows were drawn.
    times_high = _times_drawn(bootstrap_rows(count, seed), count)
    times_low = times_high if paired else _times_drawn(bootstrap_rows(count, seed + 1), count)
    values = ((times_high @ wins) * times_low).sum(axis=1) / count**2
    (low_end, high_end), all_alike = middle_95(values), exact_interval(0, count)[1]
    return float(wins.mean()), [min(low_end, 1 - all_alike), max(high_end, all_alike)]


def rounded(value: Any) -> Any:
    """Figures rounded to DIGITS; between 0 and 1 none is rounded to 0 or 1, but the ends of an interval may be."""
    if isinstance(value, float):
        least = 10.0**-DIGITS
        return round(min(max(value, least), 1 - least) if 0 < value < 1 else value, DIGITS)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        numbers = all(isinstance(item, (int, float)) for item in value)
        return [round(item, DIGITS) for item in value] if numbers else list(map(rounded, value))
    return value


def _times_drawn(rows: Ints, count: int) -> Floats:
    """[resamples, count] how often each row was drawn: [0, 2, 2] of 3 -> [1, 0, 2]."""
    return np.stack([np.bincount(row, minlength=count) for row in rows]).astype(np.float64)
