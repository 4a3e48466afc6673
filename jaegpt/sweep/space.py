"""The space that `jaegpt sweep` searches, and how a draw becomes a parameter's setting."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

# A lognormal is cut off at the quantiles TAIL and 1 - TAIL, because a search space needs two ends and it has none.
TAIL = 0.001
DIGITS = 4  # of a drawn number: more would only make names and files longer

_KINDS = {
    "lognormal": "the mean and the standard deviation of its logarithm",
    "loguniform": "the lowest and the highest number",
    "uniform": "the lowest and the highest number",
    "integer": "the lowest and the highest whole number",
    "choice": "at least two different values",
}


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Section `sweep` of params.yaml.

    space: what is searched: parameter -> {kind: values}, such as `w_mc: {loguniform: [0.001, 1000]}`, with the kinds
        lognormal [mean, deviation] of the logarithm, loguniform [low, high], uniform [low, high], integer [low, high]
        and choice [value, value, ...]. Checked here, since its keys are other parameters' names.
    random_trials: trials drawn at random before the Gaussian process chooses.
    keep_percent: a trial is stopped when its validation loss is not among this percentage of the lowest that finished
        trials had at the same point; 100 stops none for that.
    """

    space: object
    random_trials: int
    keep_percent: float

    def __post_init__(self) -> None:
        if not isinstance(self.space, Mapping) or not self.space:
            raise ValueError(
                f"space must hold parameters, such as `w_mc: {{loguniform: [0.001, 1000]}}`, found {self.space!r}."
            )
        if self.random_trials < 1:
            raise ValueError(f"random_trials must be at least 1, found {self.random_trials}.")
        if not 0 < self.keep_percent <= 100:
            raise ValueError(f"keep_percent must be above 0 and at most 100, found {self.keep_percent}.")
        assert self.dimensions, self.space

    @cached_property
    def dimensions(self) -> list["Dimension"]:
        """The parameters of the space, checked, in their order."""
        assert isinstance(self.space, Mapping)
        return [make_dimension(name, content) for name, content in self.space.items()]


@dataclass(frozen=True)
class Dimension:
    """One parameter and what is drawn for it. A draw is what Optuna sees: a lognormal is drawn by its quantile."""

    name: str
    kind: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}: {{{self.kind}: [{', '.join(map(str, self.arguments))}]}}"

    @cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.kind == "lognormal":
            return FloatDistribution(TAIL, 1 - TAIL)
        if self.kind == "choice":
            if self._in_order:
                return IntDistribution(0, len(self.arguments) - 1)
            return CategoricalDistribution(self.arguments)
        if self.kind == "integer":
            return IntDistribution(*self.arguments)
        low, high = self.arguments
        return FloatDistribution(low, high, log=self.kind == "loguniform")

    def setting(self, draw: Any) -> Any:
        """The parameter's value for a draw."""
        if self.kind == "choice":
            return self.arguments[draw] if self._in_order else draw
        if self.kind == "integer":
            return int(draw)
        if self.kind == "lognormal":
            mean, deviation = self.arguments
            draw = math.exp(mean + deviation * NormalDist().inv_cdf(draw))
        return float(f"{draw:.{DIGITS}g}")

    def draw(self, setting: Any) -> Any | None:
        """The draw that gives a setting, or None where the space does not hold it."""
        if self.kind == "choice":
            if setting not in self.arguments:
                return None
            return self.arguments.index(setting) if self._in_order else setting
        if isinstance(setting, bool) or not isinstance(setting, (int, float)):
            return None
        if self.kind == "lognormal":
            mean, deviation = self.arguments
            if not self.setting(TAIL) <= setting <= self.setting(1 - TAIL):
                return None
            quantile = NormalDist().cdf((math.log(setting) - mean) / deviation)
            return min(max(quantile, TAIL), 1 - TAIL)  # the ends are rounded numbers, too
        low, high = self.arguments
        return setting if low <= setting <= high and (self.kind != "integer" or setting == int(setting)) else None

    def position(self, setting: Any) -> float:
        """Where a setting of the space lies between its ends, from 0 to 1; for plots."""
        if self.kind == "lognormal":
            return float(self.draw(setting))  # type: ignore[arg-type]
        if self.kind == "choice":
            return self.arguments.index(setting) / (len(self.arguments) - 1)
        low, high = (math.log(end) if self.kind == "loguniform" else end for end in self.arguments)
        place = math.log(setting) if self.kind == "loguniform" else setting
        return (place - low) / (high - low) if high > low else 0.5

    @property
    def _in_order(self) -> bool:
        """Numbers stand in an order that the Gaussian process can use; words do not."""
        return all(map(_is_number, self.arguments))


def make_dimension(name: str, content: Any) -> Dimension:
    """A parameter of the space, such as `w_mc` with `{"loguniform": [0.001, 1000]}`, as a Dimension.

    Raises:
        ValueError: it has another form, or its numbers make no range.
    """
    if not isinstance(content, Mapping) or len(content) != 1:
        raise ValueError(
            f"space.{name} must be one kind with its values, such as `uniform: [0, 1]`, found {content!r}."
        )
    ((kind, values),) = content.items()
    if kind not in _KINDS:
        raise ValueError(f"space.{name}: there is no kind `{kind}`. There are {', '.join(_KINDS)}.")
    values = values if isinstance(values, list) else []
    numbers = all(map(_is_number, values))
    if kind == "choice":
        plain = all(_is_number(value) or isinstance(value, (str, bool)) for value in values)
        fits = plain and len(values) > 1 and len(set(values)) == len(values)
    else:
        fits = len(values) == 2 and numbers
    if fits and kind == "lognormal":
        fits = values[1] > 0
    elif fits and kind != "choice":
        low, high = values
        fits = low < high and (kind != "loguniform" or low > 0)
        fits = fits and (kind != "integer" or all(isinstance(end, int) for end in values))
    if not fits:
        raise ValueError(f"space.{name}: {kind} takes {_KINDS[kind]}, found {content[kind]!r}.")
    return Dimension(name, kind, tuple(sorted(values) if kind == "choice" and numbers else values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
