"""Examples: against the per-message reference, and what must hold whatever the turns are."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from helpers.dialogue_reference import PARTS, PERCENTILES, examples, messages_of, rows_of, table, turns_and_sessions
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaegpt.dialogue.draws import draw_others, mix, text_hashes, thread_key, uniform
from jaegpt.dialogue.examples import REASONS, DatasetConfig, ExampleCounts, build_examples

SPLITS = ["session", "thread", "time", "row"]
CONFIGS = st.builds(
    DatasetConfig,
    num_history=st.integers(1, 5),
    num_distractors=st.integers(1, 4),
    valid_fraction=st.sampled_from([0.1, 0.3, 0.5]),
    split=st.sampled_from(SPLITS),
    train_fraction=st.sampled_from([0.4, 1.0, 1.0]),
)


def config(**changes):
    return DatasetConfig(
        **{"num_history": 4, "num_distractors": 3, "valid_fraction": 0.3, "split": "session"} | changes
    )


def long_thread(turns=40, texts=20):
    """Both sides speak in turn, in sessions of five turns."""
    senders = [("Bo", False), ("Ann", True)]
    return [(1000 if i % 5 else 3_600_000, senders[i % 2], f"text {i % texts}") for i in range(turns)]


def sessions_of(threads, percentile=90):
    return turns_and_sessions(messages_of(threads), percentile, None)


@settings(max_examples=300, deadline=None)
@given(PARTS, PERCENTILES, CONFIGS, st.integers(0, 2**63 - 1))
def test_examples_equal_the_reference(threads, percentile, settings_, seed):
    turns = sessions_of(threads, percentile)
    found, report = build_examples(table(turns, "sessions"), settings_, seed)
    expected, dropped = examples(turns, settings_, seed)
    assert rows_of(found) == expected
    assert dict(report.dropped) == dropped
    assert report.owner_turns == sum(turn["is_owner"] for turn in turns)
    assert report.owner_turns == report.train + report.valid + sum(report.dropped.values())


@settings(max_examples=200, deadline=None)
@given(PARTS, CONFIGS, st.integers(0, 1000))
def test_what_holds_of_every_example(threads, settings_, seed):
    turns = sessions_of([long_thread(), *threads])
    found, _ = build_examples(table(turns, "sessions"), settings_, seed)
    rows = rows_of(found)
    assert len(rows) > 0
    place = {(turn["thread_id"], turn["turn_index"]): turn for turn in turns}
    for row in rows:
        index = int(row["example_id"].split("-")[1])
        reply = place[row["thread_id"], index]
        assert reply["is_owner"]
        assert reply["text"] == row["reply"]
        assert 1 <= len(row["history"]) <= settings_.num_history
        for step, said in enumerate(reversed(row["history"]), start=1):
            turn = place[row["thread_id"], index - step]
            assert turn["session_index"] == row["session_index"], "history crosses a cut"
            assert said == {"is_owner": turn["is_owner"], "text": turn["text"]}
        own = {turn["text"] for turn in turns if turn["thread_id"] == row["thread_id"] and turn["is_owner"]}
        assert len(row["distractors"]) == len(set(row["distractors"])) == settings_.num_distractors
        assert row["reply"] not in row["distractors"]
        assert set(row["distractors"]) <= own
    if settings_.split != "row":
        sides = {(row["thread_id"], row["session_index"], row["split"]) for row in rows}
        assert len({side[:2] for side in sides}) == len(sides), "a session on both sides"


@pytest.mark.parametrize("split", SPLITS)
def test_a_row_does_not_depend_on_other_threads(split):
    # Thread 1 stands alone in one part, beside another in the other; its rows are the same.
    both = sessions_of([long_thread(), long_thread(30, 15)])
    alone = [turn for turn in both if turn["thread_id"] != both[0]["thread_id"]]
    together, _ = build_examples(table(both, "sessions"), config(split=split), 7)
    single, _ = build_examples(table(alone, "sessions"), config(split=split), 7)
    assert len(single) > 5
    assert rows_of(together)[-len(single) :] == rows_of(single)


def test_another_seed_changes_split_and_distractors_and_nothing_else():
    turns = table(sessions_of([long_thread(200, 50)]), "sessions")
    one, other = (rows_of(build_examples(turns, config(), seed)[0]) for seed in (1, 2))
    assert len(one) > 50
    changed = {key for a, b in zip(one, other, strict=True) for key in a if a[key] != b[key]}
    assert changed == {"split", "distractors"}


def test_the_split_by_row_leaks_and_the_others_do_not():
    turns = table(sessions_of([long_thread(400, 50)]), "sessions")
    for split in SPLITS:
        rows = rows_of(build_examples(turns, config(split=split), 3)[0])
        sides = {(row["session_index"], row["split"]) for row in rows}
        leaks = len(sides) > len({index for index, _ in sides})
        assert leaks == (split == "row"), split


def test_the_time_split_takes_the_last_whole_sessions():
    rows = rows_of(build_examples(table(sessions_of([long_thread(400, 50)]), "sessions"), config(split="time"), 3)[0])
    sides = [row["split"] for row in rows]
    assert sides == sorted(sides)  # "train" before "valid"
    assert 0.25 < sides.count("valid") / len(sides) <= 0.3


def test_the_thread_split_holds_out_whole_threads():
    threads = [long_thread() for _ in range(200)]
    rows = rows_of(build_examples(table(sessions_of(threads), "sessions"), config(split="thread"), 3)[0])
    sides = {(row["thread_id"], row["split"]) for row in rows}
    assert len(sides) == 200
    assert 0.2 < sum(side == "valid" for _, side in sides) / 200 < 0.4


def test_draws_are_uniform_and_every_ordered_choice_is_reached():
    num = 30_000
    keys = mix(np.full(num, thread_key(1, "test", "thread"), dtype=np.uint64), np.arange(num))
    drawn = draw_others(keys, np.full(num, 2), np.full(num, 5), 3)
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == {
        (a, b, c) for a in (0, 1, 3, 4) for b in (0, 1, 3, 4) for c in (0, 1, 3, 4) if len({a, b, c}) == 3
    }
    expected = num / 24
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom, p = 0.001


def test_uniform_numbers_of_sessions_are_uniform():
    keys = np.array([thread_key(1, "split", str(thread)) for thread in range(2000)], dtype=np.uint64)
    share = np.mean([(uniform(mix(keys, index)) < 0.1436).mean() for index in range(20)])
    assert abs(share - 0.1436) < 0.006  # 3.4 standard deviations of 40,000 draws


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=40))
def test_text_hashes_are_equal_only_for_equal_texts(texts):
    hashes = text_hashes(pa.array(texts, pa.string()))
    assert len(hashes) == len(texts)
    assert len(set(hashes.tolist())) == len(set(texts))
    assert text_hashes(pa.array(texts[::-1], pa.string())).tolist() == hashes.tolist()[::-1]


def test_a_part_of_the_training_examples_can_be_left_out_and_nothing_else_changes():
    turns = table(sessions_of([long_thread(2000, 50)]), "sessions")
    whole, part = (build_examples(turns, config(train_fraction=share), 3) for share in (1.0, 0.25))
    kept = {row["example_id"] for row in rows_of(part[0])}
    assert rows_of(part[0]) == [row for row in rows_of(whole[0]) if row["example_id"] in kept]
    assert part[1].valid == whole[1].valid
    assert 0.2 < part[1].train / whole[1].train < 0.3
    assert part[1].dropped["left_out_of_train"] == whole[1].train - part[1].train


def test_a_thread_with_too_few_different_turns_is_counted():
    # Three different turns cannot give three distractors beside the reply; nor can four, by the seed's rule.
    for texts, enough in ((6, False), (8, False), (10, True)):
        turns = sessions_of([long_thread(40, texts)])
        found, report = build_examples(table(turns, "sessions"), config(), 0)
        assert (len(found) > 0) == enough
        assert (report.dropped[REASONS[1]] > 0) != enough


def test_verbatim_replies_are_counted_over_all_parts():
    rows = []
    for number in range(2):
        turns = sessions_of([long_thread(), long_thread(30, 15)][number : number + 1])
        rows.append(build_examples(table(turns, "sessions"), config(split="row"), 5))
    total = ExampleCounts.total(report for _, report in rows)
    both = [row for found, _ in rows for row in rows_of(found)]
    training = {row["reply"] for row in both if row["split"] == "train"}
    expected = sum(row["split"] == "valid" and row["reply"] in training for row in both)
    assert 0 < expected == total.valid_replies_in_train()


def test_validation_replies_among_training_distractors_are_counted_over_all_parts():
    threads = [long_thread(), long_thread(30, 29)]
    parts = [build_examples(table(sessions_of([thread]), "sessions"), config(), 5) for thread in threads]
    rows = [row for found, _ in parts for row in rows_of(found)]
    wrong = {text for row in rows if row["split"] == "train" for text in row["distractors"]}
    replies = [row["reply"] for row in rows if row["split"] == "valid"]
    expected = sum(reply in wrong for reply in replies) / len(replies)
    assert 0 < expected < 1
    assert ExampleCounts.total(report for _, report in parts).valid_share_in_train_distractors() == round(expected, 4)


def test_an_empty_part_gives_an_empty_part():
    for split in SPLITS:
        found, report = build_examples(table([], "sessions"), config(split=split), 0)
        assert (len(found), report.owner_turns, report.valid_replies_in_train()) == (0, 0, 0)
    assert ExampleCounts.total([]).valid_replies_in_train() == 0
    assert ExampleCounts.total([]).valid_share_in_train_distractors() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"num_history": 0},
        {"num_distractors": 0},
        {"valid_fraction": 0.0},
        {"valid_fraction": 1.0},
        {"train_fraction": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        config(**change)


@settings(max_examples=50, deadline=None)
@given(PARTS, st.integers(1, 30))
def test_more_distractors_than_a_thread_can_give_are_counted_drops(threads, num_distractors):
    turns = sessions_of(threads)
    assume(any(turn["is_owner"] for turn in turns))
    found, report = build_examples(table(turns, "sessions"), config(num_distractors=num_distractors), 0)
    assert report.owner_turns == len(found) + sum(report.dropped.values()) > 0
