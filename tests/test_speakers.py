"""`dataset.speakers: groups`: three people do not read as one; the owner and talks of two are as ever."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.dialogue_reference import PARTS, PERCENTILES, examples, messages_of, rows_of, table, turns_and_sessions
from helpers.speakers_reference import NAMES, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dialogue_examples import CONFIGS, config, long_thread
from test_encoding import CHATML, chat_folder

from jaegpt.dialogue.encode_table import encode_examples, tokenizer_digest
from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.examples import build_examples
from jaegpt.dialogue.segments import encode_sessions_part
from jaegpt.dialogue.sessions import sessionize
from jaegpt.dialogue.speakers import speaker_name, with_speakers
from jaegpt.dialogue.turns import SessionConfig, merge_turns

THREE = [
    (0, ("Bo", False), "hey"),
    (1000, ("Bo", False), "who's in?"),
    (1000, ("Cy", False), "me"),
    (1000, ("Ann", True), "me too"),
    (1000, ("Cy", False), "great"),
    (1000, ("Ann", True), "when?"),
]


@pytest.fixture(scope="module")
def base(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_folder(tiny, tmp_path_factory.mktemp("chatml") / "m", CHATML)


def segments(turns: list[dict], base: Path, joint: str, speakers: str) -> list[dict]:
    work = {"base": base, "digest": tokenizer_digest(base), "joint": joint, "block_size": 256}
    settings_ = config(valid_fraction=1e-9, speakers=speakers)
    return encode_sessions_part(table(turns, "sessions"), settings_, 1, {}, **work)[0].to_pylist()


@settings(max_examples=200, deadline=None)
@given(PARTS, PERCENTILES)
def test_names_equal_the_reference_and_nothing_but_texts_of_others_changes(threads, percentile):
    turns = turns_and_sessions(messages_of([long_thread(12, 7), *threads]), percentile, None)
    plain = table(turns, "sessions")
    named = with_speakers(plain, "groups")
    assert named.schema == plain.schema
    assert rows_of(named) == shown(turns)
    assert len(named) > 0
    assert with_speakers(plain, "none") is plain
    once = [turn for turn in turns if turn["thread_id"] == turns[0]["thread_id"]]
    assert with_speakers(table(once, "sessions"), "groups").equals(table(once, "sessions")), "a talk of two"


@settings(max_examples=150, deadline=None)
@given(PARTS, PERCENTILES, CONFIGS, st.integers(0, 999))
def test_examples_show_the_names_and_are_else_the_same(threads, percentile, settings_, seed):
    turns = turns_and_sessions(messages_of([long_thread(12, 7), *threads]), percentile, None)
    part = table(turns, "sessions")
    plain, before = build_examples(part, settings_, seed)
    found, counts = build_examples(part, replace(settings_, speakers="groups"), seed)
    assert rows_of(found.drop_columns("history")) == rows_of(plain.drop_columns("history"))
    assert (counts.train, counts.valid, counts.dropped) == (before.train, before.valid, before.dropped)
    # The owner's texts are as they were, so that the reference over shown turns draws the same.
    assert rows_of(found) == examples(shown(turns), settings_, seed)[0]


@settings(max_examples=40, deadline=None)
@given(PARTS, PERCENTILES, st.sampled_from([" ", "\n"]))
def test_segments_are_those_of_the_turns_as_shown(base, threads, percentile, joint):
    turns = turns_and_sessions(messages_of([long_thread(12, 7), *threads]), percentile, None, joint)
    named = segments(turns, base, joint, "groups")
    assert len(named) > 0
    assert named == segments(shown(turns), base, joint, "none")


@pytest.mark.parametrize(("separator", "joint"), [("space", " "), ("newline", "\n")])
def test_a_group_of_three_reads_as_three(base, separator, joint):
    cut = SessionConfig(percentile=100, fixed_gap_s=60, separator=separator)
    turns = sessionize(merge_turns(table(messages_of([THREE]), "filtered"), cut))
    encoder = Encoder(base, joint)
    (row,) = segments(rows_of(turns), base, joint, "groups")
    user, owner, end = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
    said = f"A: hey{joint}who's in?{joint}B: me"
    assert encoder.decode(row["ids"]) == (
        f"{user}{said}{end}{owner}me too{end}{user}B: great{end}{owner}when?<|im_end|>"
    ), "a name stands once before what one person says, and the owner has none"
    learned = [token for token, label in zip(row["ids"], row["labelled"], strict=True) if label]
    assert encoder.decode(learned) == "me too<|im_end|>when?<|im_end|>"
    wanted = config(num_history=2, num_distractors=1, valid_fraction=0.5, speakers="groups")
    more = [(1000, ("Ann", True), f"so {number}") for number in range(3)]
    longer = [message for one in more for message in (*THREE[:1], one)]
    rows = rows_of(sessionize(merge_turns(table(messages_of([[*THREE, *longer]]), "filtered"), cut)))
    found = build_examples(table(rows, "sessions"), wanted, 1)[0]
    assert found["history"][0].as_py() == [
        {"is_owner": False, "text": f"A: hey{joint}who's in?"},
        {"is_owner": False, "text": "B: me"},
    ]
    # What the model is shown at an example is what it was shown in the session.
    ids = encode_examples(found, encoder)["history_ids"][0].as_py()
    assert ids == row["ids"][: len(ids)]


def test_names_go_on_after_z_and_mean_one_person_all_through_the_thread():
    assert [speaker_name(number) for number in range(26 + 26**2)] == NAMES
    crowd = [(1000, (f"person {number % 30}", False), "hi") for number in range(60)]
    found = with_speakers(table(turns_and_sessions(messages_of([crowd]), 50, None), "sessions"), "groups")
    names = np.array([text.split(": ")[0] for text in found["text"].to_pylist()])
    assert names[:30].tolist() == names[30:].tolist() == NAMES[:30]


def test_no_turns():
    assert len(with_speakers(table([], "sessions"), "groups")) == 0
