"""Turns -> sessions, and how much context each cut leaves. Run: python -m stages.sessionize"""

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Floats, Ints
from jaegpt.dialogue.cuts import (
    ADVISED,
    RULES,
    CutCounts,
    compare_rules,
    cost_in_words,
    plot_context,
    plot_gaps,
    session_counts,
    session_figures,
)
from jaegpt.dialogue.sessions import sessionize
from jaegpt.errors import run
from jaegpt.files import write_csv, write_json
from jaegpt.parallel import map_parts
from jaegpt.tables import part_paths, read_part
from jaegpt.transform import transform_table


def sessionize_part(turns: pa.Table) -> tuple[pa.Table, tuple[CutCounts, Floats]]:
    """The sessions of a part, their counts and the thresholds of its threads."""
    sessions = sessionize(turns)
    return sessions, session_counts(sessions)


def compare_part(path: str) -> tuple[dict[str, CutCounts], Ints]:
    """The other cuts, on one part of the messages."""
    return compare_rules(read_part(path, "filtered"))


def main() -> None:
    # First: if it refuses a part, neither the sessions nor their figures have been written, so both stay of one run.
    others = map_parts(compare_part, [str(path) for path in part_paths("data/filtered")], "other cuts")
    counts = transform_table(sessionize_part, ("data/turns", "turns"), ("data/sessions", "sessions"), "sessionize")
    used = CutCounts.total(context for context, _ in counts)
    rules = {name: CutCounts.total(part[name] for part, _ in others) for name in RULES}
    thresholds = np.concatenate([part for _, part in counts])
    write_json("metrics/sessions.json", session_figures(used, thresholds, rules))
    write_csv("plots/gaps.csv", ("gap_s", "gaps", "thresholds"), plot_gaps((gaps for _, gaps in others), thresholds))
    write_csv("plots/context.csv", ("turns_of_context", *RULES), plot_context(used, rules))
    print(f"sessionize: {used.turns:,} turns in {used.sessions:,} sessions, {used.mean_turns():.1f} turns each")
    for name, rule in rules.items():
        print(f"  {name:>5}: {rule.sessions:,} sessions, {rule.mean_turns():.1f} turns each")
    if cost := cost_in_words(used, rules[f"p{ADVISED}"]):
        print(f"  {cost}")


if __name__ == "__main__":
    run(main)
