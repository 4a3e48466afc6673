"""Turns and sessions: against the per-message reference, and what must hold whatever the messages are."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from helpers.dialogue_reference import (
    MESSAGES,
    MINUTE_MESSAGES,
    PARTS,
    PERCENTILES,
    SOURCES,
    by_thread,
    messages_of,
    rows_of,
    table,
    turns_and_sessions,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.dialogue.cuts import (
    GAP_BOUNDS_S,
    RULES,
    CutCounts,
    compare_rules,
    cost_in_words,
    gap_histogram,
    session_counts,
    session_figures,
)
from jaegpt.dialogue.session_gaps import SessionConfig
from jaegpt.dialogue.sessions import sessionize
from jaegpt.dialogue.turns import merge_turns

MEDIAN = SessionConfig(percentile=50, fixed_gap_s=None)
ANN, BO = ("Ann", True), ("Bo", False)


def sessions_of(messages, config=MEDIAN):
    return rows_of(sessionize(merge_turns(table(messages, "filtered"), config)))


@settings(max_examples=300, deadline=None)
@given(PARTS, PERCENTILES, st.sampled_from([None, None, 0.5, 1, 60]))
def test_turns_and_sessions_equal_the_reference(threads, percentile, fixed_gap_s):
    equal_the_reference(messages_of(threads), percentile, fixed_gap_s)


MINUTES_OR_NOT = st.lists(st.one_of(MINUTE_MESSAGES, MINUTE_MESSAGES, MESSAGES), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(MINUTES_OR_NOT, SOURCES, PERCENTILES, st.sampled_from([None, None, 0.5, 60, 90, 600]))
def test_sessions_of_times_in_minutes_equal_the_reference(threads, source, percentile, fixed_gap_s):
    equal_the_reference(messages_of(threads, source), percentile, fixed_gap_s)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 60_000]), st.sampled_from([ANN, BO]), st.just("a")), min_size=20),
    PERCENTILES,
)
def test_a_mere_change_of_minute_never_cuts(thread, percentile):
    turns = sessions_of(messages_of([thread], "telegram"), SessionConfig(percentile=percentile, fixed_gap_s=None))
    assert {turn["session_index"] for turn in turns} == {0}


def test_two_minutes_may_cut_and_twenty_messages_are_needed_where_the_source_does_not_say():
    thread = [(0, ANN, "a"), *[(60_000, BO, "b"), (60_000, ANN, "c")] * 9, (120_000, BO, "d")]
    for source, length, sessions in (("telegram", 20, 2), ("telegram", 19, 19), ("line", 19, 1), ("whatsapp", 20, 2)):
        turns = sessions_of(messages_of([thread[:length]], source), SessionConfig(percentile=50, fixed_gap_s=None))
        assert turns[-1]["session_index"] + 1 == sessions, (source, length)


def equal_the_reference(messages, percentile, fixed_gap_s):
    found = sessions_of(messages, SessionConfig(percentile=percentile, fixed_gap_s=fixed_gap_s))
    expected = turns_and_sessions(messages, percentile, fixed_gap_s)
    assert len(found) > 0
    for ours, theirs in zip(found, expected, strict=True):
        limits = ours.pop("threshold_ms"), theirs.pop("threshold_ms")
        assert None in limits or limits[0] == pytest.approx(limits[1], rel=1e-12)
        assert limits.count(None) in (0, 2)
        assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(PARTS, PERCENTILES)
def test_no_message_is_lost_and_their_order_is_kept(threads, percentile):
    messages = messages_of(threads)
    turns = sessions_of(messages, SessionConfig(percentile=percentile, fixed_gap_s=None))
    assert sum(turn["num_messages"] for turn in turns) == len(messages) > 0
    for spoken, thread in zip(by_thread(messages), by_thread(turns), strict=True):
        assert " ".join(turn["text"] for turn in thread) == " ".join(row["text"] for row in spoken)
        assert [turn["turn_index"] for turn in thread] == list(range(len(thread)))
        for before, turn in itertools.pairwise(thread):
            assert before["started_at"] <= before["ended_at"] <= turn["started_at"]
            assert turn["gap_ms"] == turn["started_at"] - before["ended_at"]
            new_session = turn["session_index"] - before["session_index"]
            assert new_session == (0 < turn["gap_ms"] >= turn["threshold_ms"])
            same_sender = before["is_owner"] == turn["is_owner"] and (
                turn["is_owner"] or before["sender"] == turn["sender"]
            )
            assert new_session == 1 if same_sender else new_session in (0, 1)


@settings(max_examples=100, deadline=None)
@given(MESSAGES, MESSAGES)
def test_a_thread_does_not_depend_on_its_neighbours(one, other):
    together = sessions_of(messages_of([one, other]))
    alone = sessions_of(messages_of([one]))
    assert together[: len(alone)] == alone


@settings(max_examples=100, deadline=None)
@given(PARTS)
def test_the_context_report_counts_what_each_cut_would_give(threads):
    messages = table(messages_of(threads), "filtered")
    rules, gaps = compare_rules(messages)
    assert gaps.sum() == sum(len(thread) - 1 for thread in threads)
    assert list(rules) == ["p50", "p75", "p90", "p95", "p99", "30min"]
    for name, config in RULES.items():
        context, _ = session_counts(sessionize(merge_turns(messages, config)))
        assert (rules[name].turns, rules[name].sessions) == (context.turns, context.sessions)
        assert rules[name].owner_turns.tolist() == context.owner_turns.tolist()


def test_context_shares_of_a_conversation_counted_by_hand():
    # A 1 s step each; then 9 hours; one session of three turns, one of two. The owner's turns have 1, 0 before them.
    thread = [(0, BO, "a"), (1000, ANN, "b"), (1000, BO, "c"), (32_400_000, ANN, "d"), (1000, BO, "e")]
    context, thresholds = session_counts(
        sessionize(merge_turns(table(messages_of([thread]), "filtered"), SessionConfig(percentile=50, fixed_gap_s=60)))
    )
    assert (context.turns, context.sessions, context.mean_turns()) == (5, 2, 2.5)
    assert context.shares() == {"0": 0.5, "1": 0.5, "2": 0.0, "3": 0.0, "4": 0.0}
    assert thresholds.tolist() == [60_000]
    assert CutCounts.total([context, context]).shares() == context.shares()


def test_equal_times_are_never_cut_even_where_the_threshold_is_zero():
    turns = sessions_of(messages_of([[(0, ANN, "a"), (0, BO, "b"), (0, ANN, "c"), (5, BO, "d")]]))
    assert [turn["threshold_ms"] for turn in turns] == [0, 0, 0, 0]
    assert [turn["session_index"] for turn in turns] == [0, 0, 0, 1]


def test_a_thread_of_two_messages_is_cut_at_its_only_gap():
    assert [turn["session_index"] for turn in sessions_of(messages_of([[(0, ANN, "a"), (7, BO, "b")]]))] == [0, 1]


def test_all_gaps_equal_cut_everywhere():
    turns = sessions_of(messages_of([[(0, ANN, "a"), (10, ANN, "b"), (10, BO, "c")]]))
    assert [(turn["text"], turn["session_index"]) for turn in turns] == [("a", 0), ("b", 1), ("c", 2)]


def test_a_thread_of_one_message_has_neither_gap_nor_threshold():
    (turn,) = sessions_of(messages_of([[(0, ANN, "a")]]))
    assert (turn["gap_ms"], turn["threshold_ms"], turn["session_index"]) == (None, None, 0)


def test_a_gap_of_years_and_a_time_before_1970():
    rows = messages_of([[(0, ANN, "a"), (1, BO, "b"), (10**12, ANN, "c")]])
    for row in rows:
        row["sent_at"] -= 2 * 10**12  # 1954
    turns = sessions_of(rows)
    assert [turn["gap_ms"] for turn in turns] == [None, 1, 10**12]
    assert [turn["session_index"] for turn in turns] == [0, 0, 1]


def test_the_owner_is_one_sender_under_every_name_and_a_namesake_is_another():
    thread = [(0, ANN, "a"), (0, ("Annie", True), "b"), (0, ("Ann", False), "c"), (0, BO, "d")]
    assert [turn["text"] for turn in sessions_of(messages_of([thread]))] == ["a b", "c", "d"]


def test_an_empty_part_gives_an_empty_part():
    turns = merge_turns(table([], "filtered"), MEDIAN)
    assert (len(turns), len(sessionize(turns))) == (0, 0)
    rules, gaps = compare_rules(table([], "filtered"))
    assert rules["p50"].sessions == 0
    assert gaps.sum() == 0


def test_gap_histogram_counts_each_gap_once_up_to_the_bound():
    bins = gap_histogram(pa.array([0, 1, 1000, 1001, 2000, 10**15]).to_numpy())
    assert dict(zip(GAP_BOUNDS_S.tolist(), bins.tolist(), strict=True)) | {0: 1, 1: 2, 2: 2, 2**29: 1} == dict(
        zip(GAP_BOUNDS_S.tolist(), bins.tolist(), strict=True)
    )
    assert bins.sum() == 6


@pytest.mark.parametrize("percentile", [-1, 100.5, float("nan")])
def test_a_percentile_outside_0_to_100_is_refused(percentile):
    with pytest.raises(ValueError, match="between 0 and 100"):
        SessionConfig(percentile=percentile, fixed_gap_s=None)


@pytest.mark.parametrize("gap", [0, -5, float("nan")])
def test_a_gap_that_is_no_gap_is_refused(gap):
    with pytest.raises(ValueError, match="above 0"):
        SessionConfig(percentile=50, fixed_gap_s=gap)


def counts(*owner_turns):
    return CutCounts(turns=99, sessions=9, owner_turns=np.array(owner_turns))


def test_the_cost_of_a_cut_is_said_in_one_line():
    median, wide = counts(69, 20, 7, 3, 1), counts(18, 14, 10, 9, 49)
    assert cost_in_words(median, wide) == (
        "31% of your replies keep something to answer to; at percentile 90 82%: `dvc exp run -S session.percentile=90`"
    )
    assert cost_in_words(wide, median) == "", "no advice to make it worse"
    rules = dict.fromkeys(RULES, wide)
    figures = session_figures(median, np.array([1.0]), rules)
    assert figures["advice"] == {"percentile": 90, "owner_turns_with_context": {"now": 31, "then": 82}}
    assert session_figures(wide, np.array([1.0]), rules)["advice"] is None
    assert session_figures(counts(0, 0, 0, 0, 0), np.zeros(0), rules)["advice"] is not None
