"""The space that `jaegpt sweep` searches: a line of params.yaml a parameter, and how a draw becomes a setting."""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

# Of a lognormal, the parts below and above are never drawn: a normal distribution has no ends, a search space does.
TAIL = 0.001
DIGITS = 4  # of a drawn number: more would only make names and files longer

_KINDS = {
    "lognormal": "the mean and the standard deviation of its logarithm",
    "loguniform": "the lowest and the highest number",
    "uniform": "the lowest and the highest number",
    "integer": "the lowest and the highest whole number",
    "choice": "at least two values",
}
_LINE = re.compile(r"\s*([\w.]+)\s*=\s*(\w+)\s*\((.*)\)\s*")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Section `sweep` of params.yaml.

    space: what is searched, a line a parameter: `NAME = KIND(ARGUMENTS)`, with the kinds lognormal(mean, sd) of the
        logarithm, loguniform(low, high), uniform(low, high), integer(low, high) and choice(value, value, ...).
    random_trials: trials drawn at random before the Gaussian process chooses.
    keep_percent: a trial is stopped when its validation loss is not among this percentage of the lowest that finished
        trials had at the same point; 100 stops none for that.
    """

    space: list[str]
    random_trials: int
    keep_percent: float

    def __post_init__(self) -> None:
        if not self.space:
            raise ValueError("space is empty. Give at least one line such as `w_mc = loguniform(0.001, 1000)`.")
        if self.random_trials < 1:
            raise ValueError(f"random_trials must be at least 1, found {self.random_trials}.")
        if not 0 < self.keep_percent <= 100:
            raise ValueError(f"keep_percent must be above 0 and at most 100, found {self.keep_percent}.")
        names = [dimension.name for dimension in self.dimensions]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"space has two lines for `{name}`; one parameter has one line.")

    @property
    def dimensions(self) -> list["Dimension"]:
        """The lines, parsed, in their order."""
        return [parse_dimension(line) for line in self.space]


@dataclass(frozen=True)
class Dimension:
    """One parameter and what is drawn for it. A draw is what Optuna sees: a lognormal is drawn by its quantile."""

    name: str
    kind: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name} = {self.kind}({', '.join(map(str, self.arguments))})"

    @cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.kind == "lognormal":
            return FloatDistribution(TAIL, 1 - TAIL)
        if self.kind == "choice":
            return IntDistribution(0, len(self.arguments) - 1) if self._in_order else _categories(self.arguments)
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
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.arguments)


def parse_dimension(line: str) -> Dimension:
    """`w_mc = loguniform(0.001, 1000)` as a Dimension.

    Raises:
        ValueError: the line has another form, or its numbers make no range.
    """
    found = _LINE.fullmatch(line)
    if not found or found[2] not in _KINDS:
        raise ValueError(
            f"space: cannot read {line!r}. Write `NAME = KIND(ARGUMENTS)`, with one of the kinds {', '.join(_KINDS)}."
        )
    name, kind, inside = found.groups()
    arguments = tuple(_value(text.strip()) for text in inside.split(",") if text.strip())
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in arguments)
    if kind == "choice":
        fits = len(arguments) > 1 and len(set(arguments)) == len(arguments)
    else:
        fits = len(arguments) == 2 and numbers
    if fits and kind == "lognormal":
        fits = arguments[1] > 0
    elif fits and kind != "choice":
        low, high = arguments
        fits = low < high and (kind != "loguniform" or low > 0)
        fits = fits and (kind != "integer" or all(isinstance(end, int) for end in arguments))
    if not fits:
        raise ValueError(f"space: {kind} takes {_KINDS[kind]}, found {line!r}.")
    if kind == "choice" and numbers:
        arguments = tuple(sorted(arguments))
    return Dimension(name, kind, arguments)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return {"true": True, "false": False}.get(text.lower(), text.strip("'\""))


def _categories(values: tuple[Any, ...]) -> BaseDistribution:
    return CategoricalDistribution(values)
