"""How much context the owner's replies have, under the cut in use and under others; to choose a cut by."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaegpt.arrays import Bools, Floats, Ints
from jaegpt.dialogue.sessions import places, session_begins
from jaegpt.dialogue.turns import SessionConfig, Timeline
from jaegpt.tables import column, thread_starts

MAX_CONTEXT = 4  # more turns of context count as this many

# The cuts to compare, by their names in metrics/sessions.json.
RULES = {
    f"p{percentile}": SessionConfig(percentile=percentile, fixed_gap_s=None) for percentile in (50, 75, 90, 95, 99)
}
ADVISED = 90  # the percentile to hold against the cut in use
RULES["30min"] = SessionConfig(percentile=50, fixed_gap_s=1800)

# Upper bounds of the histogram's bins, in seconds: 0, 1, 2, 4, ... 2^29 (17 years).
GAP_BOUNDS_S = np.concatenate([[0], 2 ** np.arange(30)])


@dataclass(frozen=True)
class CutCounts:
    """Counts of one cut: turns, sessions, and owner turns by turns of context before them ([5], the last 4 or more)."""

    turns: int
    sessions: int
    owner_turns: Ints

    @classmethod
    def of(cls, begins: Bools, is_owner: Bools) -> "CutCounts":
        """From [turns]: where a session begins, and whose the turn is."""
        context = np.minimum(places(begins)[is_owner], MAX_CONTEXT)
        return cls(len(begins), int(begins.sum()), np.bincount(context, minlength=MAX_CONTEXT + 1))

    @classmethod
    def total(cls, rows: Iterable["CutCounts"]) -> "CutCounts":
        """The counts of all parts as one."""
        parts = list(rows)
        owner_turns = np.sum([part.owner_turns for part in parts], axis=0)
        return cls(sum(part.turns for part in parts), sum(part.sessions for part in parts), owner_turns)

    def shares(self) -> dict[str, float]:
        """Share of the owner's turns with that many turns of context, rounded to 4 places."""
        shares = self.owner_turns / max(int(self.owner_turns.sum()), 1)
        return {str(turns): round(float(share), 4) for turns, share in enumerate(shares)}

    def with_context(self) -> int:
        """The owner's turns that have a turn before them to answer to."""
        return int(self.owner_turns[1:].sum())

    def share_with_context(self) -> float:
        """Their share of the owner's turns."""
        return self.with_context() / max(int(self.owner_turns.sum()), 1)

    def mean_turns(self) -> float:
        """Turns per session, rounded to 4 places."""
        return round(self.turns / max(self.sessions, 1), 4)


def session_counts(sessions: pa.Table) -> tuple[CutCounts, Floats]:
    """A part of `sessions` -> its counts, and the thresholds in milliseconds of the threads that have one."""
    is_owner = column(sessions, "is_owner").to_numpy(zero_copy_only=False)
    thresholds = column(sessions, "threshold_ms").take(thread_starts(column(sessions, "thread_id"))).drop_null()
    return CutCounts.of(session_begins(sessions), is_owner), thresholds.to_numpy(zero_copy_only=False)


def compare_rules(messages: pa.Table) -> tuple[dict[str, CutCounts], Ints]:
    """A part of `filtered` -> the counts under each of RULES, and the histogram of gaps by GAP_BOUNDS_S.

    Turns are merged again under each rule, because a cut inside a run of messages makes two turns of one.
    """
    timeline = Timeline.of(messages)
    rules = {name: cut_counts(timeline, config) for name, config in RULES.items()}
    return rules, gap_histogram(timeline.gap_ms[timeline.gap_ms >= 0])


def cut_counts(timeline: Timeline, config: SessionConfig) -> CutCounts:
    """The counts of a part's messages under one cut."""
    cuts = timeline.cuts(timeline.thresholds(config))
    # As in `merge_turns`: a turn begins at a cut and where the sender changes.
    heads = np.flatnonzero(cuts | ~timeline.same_sender)
    return CutCounts.of(cuts[heads], timeline.is_owner[heads])


def usual_and_advised(messages: pa.Table) -> tuple[CutCounts, CutCounts]:
    """A part of messages -> the counts of the cut that params.yaml comes with, the median, and of that at ADVISED."""
    rules, _ = compare_rules(messages)
    return rules["p50"], rules[f"p{ADVISED}"]


def gap_histogram(gap_ms: npt.NDArray[np.generic]) -> Ints:
    """[bins] how many gaps are at most each bound and above the one before; the last bin also takes what is longer."""
    bins = np.searchsorted(GAP_BOUNDS_S * 1000, gap_ms)
    return np.bincount(np.minimum(bins, len(GAP_BOUNDS_S) - 1), minlength=len(GAP_BOUNDS_S))


def worth_a_look(used: CutCounts, advised: CutCounts) -> bool:
    """Whether the cut at percentile ADVISED leaves more of the owner's turns something to answer to."""
    return advised.share_with_context() > used.share_with_context()


def cost_in_words(used: CutCounts, advised: CutCounts) -> str:
    """What the cut in use costs, in a line; empty where percentile ADVISED would leave no more context."""
    if not worth_a_look(used, advised):
        return ""
    return (
        f"{used.share_with_context():.0%} of your replies keep something to answer to; at percentile {ADVISED} "
        f"{advised.share_with_context():.0%}: `dvc exp run -S session.percentile={ADVISED}`"
    )


def advice(used: CutCounts, advised: CutCounts) -> dict[str, Any] | None:
    """`advice` of metrics/sessions.json: a percentile, and how many turns of the owner's have context now and then."""
    if not worth_a_look(used, advised):
        return None
    counts = {"now": used.with_context(), "then": advised.with_context()}
    return {"percentile": ADVISED, "owner_turns_with_context": counts}


def plot_gaps(gaps: Iterable[Ints], thresholds: Floats) -> list[tuple[int, int, int]]:
    """plots/gaps.csv: (bound in s, gaps between messages, thresholds of threads); `gaps` has a histogram per part."""
    total = np.sum(list(gaps), axis=0).tolist()
    return list(zip(GAP_BOUNDS_S.tolist(), total, gap_histogram(thresholds).tolist(), strict=True))


def plot_context(used: CutCounts, rules: dict[str, CutCounts]) -> list[tuple[Any, ...]]:
    """plots/context.csv: (turns of context, then the share of the owner's turns with so many under each of RULES)."""
    shares = [used.shares(), *(rule.shares().values() for rule in rules.values())]
    return list(zip(*shares, strict=True))


def session_figures(used: CutCounts, thresholds: Floats, rules: dict[str, CutCounts]) -> dict[str, Any]:
    """The metrics: the cut in use, the spread of the threads' thresholds, and each of RULES beside it."""
    levels = np.percentile(thresholds, (10, 50, 90)).round(1).tolist() if len(thresholds) else [None] * 3
    return {
        "turns": used.turns,
        "sessions": used.sessions,
        "mean_turns": used.mean_turns(),
        "threshold_ms": dict(zip(("p10", "p50", "p90"), levels, strict=True)),
        "owner_turns": int(used.owner_turns.sum()),
        "history_share": used.shares(),
        "advice": advice(used, rules[f"p{ADVISED}"]),
        "context": {
            name: {"sessions": rule.sessions, "mean_turns": rule.mean_turns(), "history_share": rule.shares()}
            for name, rule in rules.items()
        },
    }
