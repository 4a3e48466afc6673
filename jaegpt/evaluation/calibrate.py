"""How to draw: a few settings tried on contexts that no other figure uses, and the one that suits the owner best.

No single figure says how well a model answers. Cautious settings say "yeah" to everything, which a judge of texts sees;
bold ones drift into nonsense, which only the base model's likelihood sees; much guidance parrots the context. So the
settings are judged by several figures at once, and are to match the owner, not to maximise anything.
"""

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.evaluation.content import common_words, context_words, token_f1
from jaegpt.evaluation.contexts import Context, longest_replies
from jaegpt.evaluation.intervals import NotMeasured, bootstrap_rows, middle_95, need, rounded
from jaegpt.evaluation.judges import JUDGES, MIN_CONTEXTS, told_apart, wins
from jaegpt.evaluation.reading import Reader, Readings, fit
from jaegpt.evaluation.style import StyleJudge
from jaegpt.generation.settings import DEFAULT, GenerateConfig
from jaegpt.generation.speaker import Speaker

# temperature, top_p, min_p, guidance; the last only for a model that has learned first words. Each setting takes about
# 20 s on 2 cores; min_p 0.01 and guidance 1.35 are left out, which every judge found more often on the sample.
GRID = ((1.0, 1.0, 0.0, 1.0), (1.0, 0.98, 0.0, 1.0), (0.95, 0.98, 0.0, 1.0), (0.9, 0.95, 0.0, 1.0))
GUIDED = ((1.0, 1.0, 0.0, 1.2), (0.95, 0.98, 0.0, 1.2))
NAMES = ("temperature", "top_p", "min_p", "guidance")
COLUMNS = (
    "setting",
    *NAMES,
    *JUDGES.values(),
    "context_words",
    "fit",
    "owner_context_words",
)
CLOSE = (0.8, 1.25)  # of the owner's context words and fit


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was written elsewhere: the owner's training replies, other people's, and the base model's replies."""

    train: Sequence[str]
    others: Sequence[str]
    base: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What the settings are to match.

    contexts, readings: the contexts to reply to, and what the base model made of the owner's replies to them.
    train: the owner's training replies. judge: knows them and other people's, and base: its mean for the base model's
        replies; None where there are too few to learn from.
    """

    contexts: Sequence[Context]
    readings: Readings
    train: Sequence[str]
    judge: StyleJudge | None
    base: float
    seed: int

    @classmethod
    def known(cls, contexts: Sequence[Context], readings: Readings, said: Said, seed: int) -> "Owner":
        """The owner of these contexts' replies, and what the judge of style makes of the base model's."""
        judge, base = None, math.nan
        if said.base:
            try:
                judge = StyleJudge(said.train, said.others, seed)
                base = float(judge.probabilities(said.base).mean())
            except NotMeasured:
                pass
        return cls(contexts=contexts, readings=readings, train=said.train, judge=judge, base=base, seed=seed)

    @property
    def figures(self) -> dict[str, float | None]:
        """The owner's own figures, where they are not ratios to the owner's."""
        return {
            "context_words": self.context_words(self.replies),
            "gain": self.readings.gain,
            "likelihood": self.readings.likelihood,
            "different": len(set(self.replies)) / len(self.replies),
        }

    @property
    def replies(self) -> list[str]:
        return [context.reply for context in self.contexts]

    def context_words(self, replies: Sequence[str]) -> float | None:
        """The share of the replies' rarer words that stands in their context."""
        histories = [[text for _, text in context.history] for context in self.contexts]
        return context_words(replies, histories, common_words(self.train))

    def style_score(self, replies: Sequence[str]) -> float | None:
        """How far the replies are on the way from the base model's to the owner's: 0 to 1, or beyond."""
        if self.judge is None:
            return None
        own, theirs = (float(self.judge.probabilities(texts).mean()) for texts in (self.replies, replies))
        return (theirs - self.base) / (own - self.base) if own > self.base else None


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One setting, and what its replies showed. won: judge -> [contexts]; figures: as in metrics/calibrate.json."""

    config: GenerateConfig
    won: Mapping[str, Floats]
    figures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The setting to draw with, the best one without guidance, and whether the first satisfies all conditions.

    satisfied: None where none was tried.
    """

    chosen: GenerateConfig
    without_guidance: GenerateConfig
    satisfied: bool | None


def settings_to_try(guided: bool, max_tokens: int) -> list[GenerateConfig]:
    """The grid. guided: whether the model has learned first words, which guidance needs."""
    rows = [*GRID, *(GUIDED if guided else ())]
    return [dataclasses.replace(DEFAULT, max_tokens=max_tokens, **dict(zip(NAMES, row, strict=True))) for row in rows]


def try_setting(config: GenerateConfig, replies: Sequence[str], readings: Readings, owner: Owner) -> Tried:
    """Judge the replies that one setting gave.

    Raises:
        NotMeasured: there are too few contexts.
    """
    names = [context.example_id for context in owner.contexts]
    won = wins(owner.replies, replies, names, owner.seed, (owner.readings, readings))
    figures = {
        "settings": {name: getattr(config, name) for name in NAMES},
        **told_apart(won, owner.seed),
        "f1": float(np.mean([token_f1(*pair) for pair in zip(replies, owner.replies, strict=True)])),
        "fit": fit(readings, owner.readings),
        "context_words": owner.context_words(replies),
        "likelihood": readings.likelihood,
        "different": len(set(replies)) / len(replies),
        "style_score": owner.style_score(replies),
    }
    return Tried(config=config, won=won, figures=figures)


def choose(tried: Sequence[Tried], owner: Owner) -> Choice:
    """The most sensible of the settings that match the owner, where there are any, else the nearest to that.

    A setting matches when no judge tells it apart clearly more often than the setting which that judge tells apart
    least, or than a coin (the 95 % interval of the difference, the same contexts resampled, lies above 0), and when its
    context words and fit are within CLOSE of the owner's. The most sensible one is the likeliest under the base model.
    It satisfies all conditions when, besides, no judge finds it clearly more often than a coin would: the best of bad
    settings is no match.
    """
    words = owner.context_words(owner.replies)

    def best_of(rows: Sequence[Tried]) -> tuple[Tried, bool]:
        least = {name: min(rows, key=lambda row: float(row.won[name].mean())) for name in JUDGES}
        off = [sum(_excesses(row, least, words, owner.seed)) for row in rows]
        nearest = min(off)
        matching = [row for row, excess in zip(rows, off, strict=True) if excess <= nearest]
        return max(matching, key=lambda row: float(row.figures["likelihood"])), nearest == 0

    best, satisfied = best_of(tried)
    found_out = any(best.figures[f"{name}_ci"][0] > 0.5 for name in JUDGES.values())
    plain, _ = best_of([row for row in tried if row.config.guidance == 1])
    return Choice(chosen=best.config, without_guidance=plain.config, satisfied=satisfied and not found_out)


def _excesses(row: Tried, least: Mapping[str, Tried], words: float | None, seed: int) -> Iterator[float]:
    """By how much a setting misses each condition; 0 where it satisfies it, or where it cannot be measured."""
    for name in JUDGES:
        fewest = least[name].won[name]
        # Found in fewer than half of the pairs is no better than in half.
        more = row.won[name] - (fewest if fewest.mean() > 0.5 else 0.5)
        yield max(0.0, middle_95(more[bootstrap_rows(len(more), seed)].mean(axis=1))[0])
    low, high = CLOSE
    own_words = row.figures["context_words"]
    ratios = [row.figures["fit"], own_words / words if words and own_words is not None else None]
    for ratio in ratios:
        if ratio is not None:
            # As far beyond on either side counts alike: .4 is as far from .8 as 2.5 from 1.25.
            beyond = max(math.log(low / max(ratio, 0.01)), math.log(max(ratio, 0.01) / high))
            yield max(0.0, beyond)


def calibrate(
    speaker: Speaker, reader: Reader, contexts: Sequence[Context], said: Said, seed: int
) -> tuple[dict[str, Any], Choice]:
    """Try the grid: metrics/calibrate.json and what to draw with; the defaults where there are too few contexts.

    Each setting draws with the same random numbers, so that settings differ by what they do and not by luck.
    """
    tokens = speaker.encoder.tokenize(list(said.train))
    max_tokens = longest_replies([len(ids) for ids in tokens], speaker.block_size)
    try:
        need(MIN_CONTEXTS, contexts=len(contexts))
    except NotMeasured as reason:
        default = dataclasses.replace(DEFAULT, max_tokens=max_tokens)
        choice = Choice(chosen=default, without_guidance=default, satisfied=None)
        return _content([], choice, None, len(contexts), {"grid": reason.counts}), choice
    grid = settings_to_try(speaker.learn == "sessions", max_tokens)
    histories = [context.history for context in contexts]
    drawn = [[reply.text for reply in replies] for replies in speaker.replies_under(histories, grid, seed)]
    real = [context.reply for context in contexts]
    own, *readings = reader.read({"owner": real, **dict(zip(map(str, grid), drawn, strict=True))}, contexts).values()
    owner = Owner.known(contexts, own, said, seed)
    tried = [
        try_setting(config, replies, read, owner) for config, replies, read in zip(grid, drawn, readings, strict=True)
    ]
    choice = choose(tried, owner)
    reasons = {} if own.gain > 0 else {"fit": {"owner_gain": own.gain}}
    return _content(tried, choice, owner, len(contexts), reasons), choice


def _content(
    tried: Sequence[Tried], choice: Choice, owner: Owner | None, contexts: int, reasons: Mapping[str, Any]
) -> dict[str, Any]:
    """metrics/calibrate.json."""
    content = {
        "contexts": contexts,
        "chosen": dataclasses.asdict(choice.chosen),
        "without_guidance": dataclasses.asdict(choice.without_guidance),
        "satisfied": choice.satisfied,
        "owner": owner and owner.figures,
        "grid": [dict(row.figures) for row in tried],
        "reasons": reasons,
    }
    return dict(rounded(content))


def plot_rows(content: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """plots/calibrate.csv: one row per setting, in the order of the grid."""
    return [
        (
            _in_words(row["settings"]),
            *(row["settings"][name] for name in NAMES),
            *(row[name] for name in COLUMNS[len(NAMES) + 1 : -1]),
            content["owner"]["context_words"],
        )
        for row in content["grid"]
    ]


def _in_words(settings: Mapping[str, float]) -> str:
    """A setting on one line, without what is off."""
    off = {"min_p": 0, "guidance": 1}
    named = {
        "t" if name == "temperature" else name: settings[name] for name in NAMES if settings[name] != off.get(name)
    }
    return ", ".join(f"{name} {value:g}" for name, value in named.items())


def summary(content: Mapping[str, Any]) -> str:
    """What was found, for the terminal."""
    chosen = f"{_in_words(content['chosen'])}, max_tokens {content['chosen']['max_tokens']}"
    if not content["grid"]:
        why = (
            f"{content['contexts']:,} contexts are left beside those of fidelity, and {MIN_CONTEXTS} are needed to try "
            f"ways to draw (fidelity.calibrate_contexts, dataset.valid_fraction). Taken unmeasured: {chosen}"
        )
        return textwrap.fill(why, 88, subsequent_indent="  ")
    lines = ["told apart: both, text, reading; fit; context words; likelihood; different"]
    for row in content["grid"]:
        figures = [row[name] for name in (*JUDGES.values(), "fit", "context_words", "likelihood", "different")]
        lines.append(
            f"{_in_words(row['settings'])}: " + " ".join("-" if one is None else f"{one:.3f}" for one in figures)
        )
    verdict = "matches the owner" if content["satisfied"] else "no setting matches the owner; this one is the nearest"
    return "\n  ".join([f"{content['contexts']:,} contexts", *lines, f"chosen: {chosen} ({verdict})"])
