"""Whole sessions as segments: each owner turn of the training side once, byte for byte as chat would ask and get it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.dialogue_reference import PARTS, PERCENTILES, messages_of, table, turns_and_sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dialogue_examples import CONFIGS, config, long_thread, sessions_of
from test_encoding import ALTERNATING, CHATML, chat_folder

from jaegpt.dialogue.encode_table import encode_candidate, encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.examples import build_examples
from jaegpt.dialogue.repeats import learned_turns, repeat_limits, turn_draws
from jaegpt.dialogue.segments import encode_segments

# Each reply begins with tokens of its own; or the last one alone does, so that chat's prompt is no beginning of a
# longer conversation; or a text has a space before it.
THOUGHTFUL = CHATML.replace("'\n' + m['content']", "'\n' + ('(so) ' if m.role == 'assistant' else '') + m['content']")
FORGETFUL = THOUGHTFUL.replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last")
UPPER = (
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
FORMS = {
    "plain": None, "chatml": CHATML, "alternating": ALTERNATING, "thoughtful": THOUGHTFUL,
    "forgetful": FORGETFUL, "upper": UPPER,
}  # fmt: skip


@pytest.fixture(scope="module")
def encoders(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    return {
        name: Encoder(tiny if template is None else chat_folder(tiny, tmp_path_factory.mktemp(name) / "m", template))
        for name, template in FORMS.items()
    }


def parts_of(row: dict) -> list[tuple[list[int], list[int]]]:
    """(what stands before, what is labelled) of each labelled run of a segment."""
    ids, marks = row["ids"], row["labelled"]
    edges = np.flatnonzero(np.diff([0, *marks, 0]))
    return [(ids[:start], ids[start:end]) for start, end in edges.reshape(-1, 2).tolist()]


def check(turns: list[dict], learned: np.ndarray, encoder: Encoder, num_history: int, block_size: int) -> pa.Table:
    """What must hold of segments, whatever the turns are."""
    found, counts = encode_segments(table(turns, "sessions"), learned, encoder, num_history, block_size)
    rows = found.to_pylist()
    place = {f"{turn['thread_id']}-{turn['turn_index']:06d}": number for number, turn in enumerate(turns)}
    order = [place[row["segment_id"]] for row in rows]
    assert order == sorted(set(order))
    seen: Counter[int] = Counter()
    for row in rows:
        assert len(row["ids"]) == len(row["labelled"]) <= block_size
        first, session = place[row["segment_id"]], []
        for number, turn in enumerate(turns):
            if all(turn[name] == turns[first][name] for name in ("thread_id", "session_index")):
                session.append(number)
        todo = [number for number in session if learned[number] and number >= first]
        for before, labelled in parts_of(row):
            reply = todo.pop(0)
            seen[reply] += 1
            assert labelled == encode_candidate(encoder, turns[reply]["text"])
            # The history is some number of the turns before it, as chat would encode them; few are quicker tried.
            said = [(turns[number]["is_owner"], turns[number]["text"]) for number in session if number < reply]
            histories = (encode_history(encoder, said[start:])[0] for start in reversed(range(max(1, len(said)))))
            assert before in histories
            if reply == session[0]:
                assert before == encode_history(encoder, [])[0]
    assert len(seen) == counts.labelled_turns == learned.sum() - counts.longer_than_block
    assert set(seen.values()) <= {1}, "a turn is learned twice"
    assert counts.tokens == sum(len(row["ids"]) for row in rows)
    assert counts.segments == len(rows)
    return found


@settings(max_examples=60, deadline=None)
@given(PARTS, PERCENTILES, CONFIGS, st.sampled_from(list(FORMS)), st.integers(12, 90), st.integers(0, 99))
def test_each_turn_of_the_training_side_is_learned_once_as_chat_would_say_it(
    encoders, threads, percentile, settings_, form, block_size, seed
):
    turns = turns_and_sessions(messages_of([long_thread(12, 7), *threads]), percentile, None)
    learned = learned_turns(table(turns, "sessions"), settings_, seed, {})
    check(turns, learned, encoders[form], settings_.num_history, block_size)


@pytest.mark.parametrize("form", FORMS)
def test_a_session_that_fits_a_block_is_one_segment(encoders, form):
    turns = sessions_of([long_thread(40, 20)])
    own = np.array([turn["is_owner"] for turn in turns])
    found = check(turns, own, encoders[form], 4, 512)
    sessions = {turn["session_index"] for turn, mine in zip(turns, own, strict=True) if mine}
    owner_first = {turn["session_index"] for turn in turns if turn["is_owner"] and turn["turn_index"] % 5 == 0}
    apart = len(owner_first) if form in ("plain", "alternating") else 0  # first words that are a segment of their own
    expected = len(sessions) + apart
    if form == "forgetful":  # a reply that chat begins in another way is written alone
        expected = int(own.sum())
    assert 0 < len(found) == expected


def test_a_long_session_is_cut_into_windows_that_begin_with_turns_labelled_before(encoders):
    turns = [dict(turn, session_index=0, gap_ms=turn["gap_ms"] and 1) for turn in sessions_of([long_thread(60, 60)])]
    own = np.array([turn["is_owner"] for turn in turns])
    rows = check(turns, own, encoders["chatml"], 3, 300).to_pylist()
    assert len(rows) > 3
    assert all(len(row["ids"]) > 150 for row in rows[:-1]), "windows are full"
    starts = [row["labelled"].index(1) for row in rows]
    first_reply = len(encode_history(encoders["chatml"], [(turn["is_owner"], turn["text"]) for turn in turns[:3]])[0])
    assert all(abs(start - first_reply) < 12 for start in starts[1:]), "three turns stand before the first label"


@pytest.mark.parametrize("split", ["session", "thread", "time"])
def test_no_session_of_the_validation_side_is_read(split, encoders):
    threads = [long_thread(60, 20) for _ in range(6)]
    sessions = table(sessions_of(threads), "sessions")
    settings_ = config(split=split, valid_fraction=0.4)
    held_out = {
        (row["thread_id"], row["session_index"])
        for row in build_examples(sessions, settings_, 5)[0].to_pylist()
        if row["split"] == "valid"
    }
    assert len(held_out) > 2
    learned = learned_turns(sessions, settings_, 5, {})
    others = sessions.to_pylist()
    for number, turn in enumerate(others):  # without these turns, or with other texts, nothing changes
        if (turn["thread_id"], turn["session_index"]) in held_out:
            assert not learned[number]
            others[number] = {**turn, "text": "something else"}
    found, _ = encode_segments(sessions, learned, encoders["chatml"], 4, 128)
    again, _ = encode_segments(table(others, "sessions"), learned, encoders["chatml"], 4, 128)
    assert len(found) > 3
    assert found.equals(again)


def test_sessions_without_examples_are_of_the_side_that_the_draw_says():
    # Threads too small for examples, and sessions of one turn, are drawn as the others are.
    thread = [(3_600_000, ("Ann", True), f"text {i}") for i in range(3000)]
    turns = table(sessions_of([thread], percentile=10), "sessions")
    learned = learned_turns(turns, config(valid_fraction=0.3), 1, {})
    assert 0.66 < learned.mean() < 0.74


def test_what_train_fraction_leaves_out_is_context_alone(encoders):
    sessions = table(sessions_of([long_thread(400, 50)]), "sessions")
    whole, part = (learned_turns(sessions, config(train_fraction=share), 3, {}) for share in (1.0, 0.25))
    assert not (part & ~whole).any()
    assert 0.15 < part.sum() / whole.sum() < 0.35
    examples = build_examples(sessions, config(train_fraction=0.25), 3)[0].to_pylist()
    kept = {int(row["example_id"].split("-")[1]) for row in examples if row["split"] == "train"}
    assert kept <= set(np.flatnonzero(part).tolist()), "the same turns as among the examples"
    check(sessions.to_pylist(), part, encoders["chatml"], 4, 128)


def test_no_more_equal_turns_are_learned_than_max_repeats(encoders):
    sessions = table(sessions_of([long_thread(400, 10)]), "sessions")
    settings_ = config(max_repeats=3)
    limits = repeat_limits([turn_draws(sessions, settings_, 2)], 3)
    learned = learned_turns(sessions, settings_, 2, limits)
    texts = Counter(np.array(sessions["text"].to_pylist(), object)[learned].tolist())
    assert set(texts.values()) == {3}
    check(sessions.to_pylist(), learned, encoders["plain"], 4, 128)


def test_a_turn_that_fits_no_block_is_counted(encoders):
    thread = [(1000, ("Bo", False), "hey"), (1000, ("Ann", True), "x" * 200), (1000, ("Bo", False), "and?")]
    turns = sessions_of([[*thread, (1000, ("Ann", True), "yes")]], percentile=100)
    own = np.array([turn["is_owner"] for turn in turns])
    found, counts = encode_segments(table(turns, "sessions"), own, encoders["chatml"], 4, 128)
    assert (counts.longer_than_block, counts.labelled_turns, len(found)) == (1, 1, 1)


def test_no_turns_give_no_segments(encoders):
    found, counts = encode_segments(table([], "sessions"), np.zeros(0, bool), encoders["chatml"], 4, 128)
    assert (len(found), counts.segments, counts.tokens) == (0, 0, 0)
