"""dataset.max_repeats: no reply stands in training more often, nothing else changes, and parts do not matter."""

from collections import Counter

import pyarrow as pa
import pytest
from helpers.dialogue_reference import PARTS, by_thread, messages_of, rows_of, table, turns_and_sessions
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.dialogue.examples import DatasetConfig, build_examples
from jaegpt.dialogue.repeats import REPEATED, build_limited, repeat_limits, training_draws

LONG = [(1000 if i % 5 else 3_600_000, [("Bo", False), ("Ann", True)][i % 2], f"text {i % 9}") for i in range(60)]


def config(max_repeats: int, split: str = "session") -> DatasetConfig:
    return DatasetConfig(num_history=2, num_distractors=1, valid_fraction=0.3, split=split, max_repeats=max_repeats)


def build(parts: list[pa.Table], settings_: DatasetConfig, seed: int):
    """Both passes over the parts, as the stage makes them."""
    draws = [training_draws(build_examples(part, settings_, seed)[0], seed) for part in parts]
    limits = repeat_limits(draws, settings_.max_repeats) if settings_.max_repeats else {}
    done = [build_limited(part, settings_, seed, limits) for part in parts]
    return [row for table_, _ in done for row in rows_of(table_)], [report for _, report in done]


@settings(max_examples=150, deadline=None)
@given(PARTS, st.integers(1, 4), st.integers(0, 1000))
def test_each_training_reply_stands_as_often_as_allowed_and_the_rest_stays(threads, most, seed):
    turns = turns_and_sessions(messages_of([LONG, *threads]), 90, None)
    whole = table(turns, "sessions")
    before = rows_of(build_examples(whole, config(0), seed)[0])
    after, reports = build([whole], config(most), seed)
    assert len(before) > 10
    assert [row for row in after if row["split"] == "valid"] == [row for row in before if row["split"] == "valid"]
    wanted = Counter(row["reply"] for row in before if row["split"] == "train")
    found = Counter(row["reply"] for row in after if row["split"] == "train")
    assert found == {reply: min(count, most) for reply, count in wanted.items()}
    kept = {row["example_id"] for row in after}
    assert after == [row for row in before if row["example_id"] in kept]
    assert sum(report.dropped[REPEATED] for report in reports) == len(before) - len(after)
    assert sum(report.train + report.valid for report in reports) == len(after)
    # Each thread as a part of its own gives the same rows.
    parts = [table(thread, "sessions") for thread in by_thread(turns)]
    assert build(parts, config(most), seed)[0] == after


def test_something_is_dropped_and_another_seed_keeps_others():
    turns = table(turns_and_sessions(messages_of([LONG, LONG, LONG]), 90, None), "sessions")
    kept = []
    for seed in (1, 2):
        rows, reports = build([turns], config(2, "time"), seed)
        assert reports[0].dropped[REPEATED] > 20
        kept.append({row["example_id"] for row in rows})
    assert kept[0] != kept[1]


def test_no_limit_changes_nothing():
    turns = table(turns_and_sessions(messages_of([LONG]), 90, None), "sessions")
    plain, report = build_examples(turns, config(0), 5)
    limited, same = build_limited(turns, config(0), 5, {})
    assert limited.equals(plain)
    assert len(plain) > 10
    assert (same.train, same.valid, same.dropped) == (report.train, report.valid, report.dropped)


def test_an_empty_part_has_no_limits():
    empty = training_draws(build_examples(table([], "sessions"), config(2), 0)[0], 0)
    assert repeat_limits([empty, empty], 2) == {}


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="max_repeats cannot be negative"):
        config(-1)
