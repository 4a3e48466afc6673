"""`session.separator`: with `newline` a burst stays several messages, export to chat; `space` is as ever."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.chat_models import CONFIG, VIEW, save_base, save_tuned, speaker
from helpers.dialogue_reference import PARTS, PERCENTILES, by_thread, messages_of, rows_of, table, turns_and_sessions
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.chat.commands import trained_view
from jaegpt.chat.terminal import Chat, chat_once
from jaegpt.chat.web import Page
from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.separators import one_line, without_blank_lines
from jaegpt.dialogue.sessions import sessionize
from jaegpt.dialogue.turns import SessionConfig, merge_turns
from jaegpt.errors import JaegptError
from jaegpt.evaluation.surface import surface_distances
from jaegpt.training.model_folder import load_base, save_model

BREAKS = ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]


def sessions(messages: list[dict], percentile: float, separator: str) -> list[dict]:
    config = SessionConfig(percentile=percentile, fixed_gap_s=None, separator=separator)
    return rows_of(sessionize(merge_turns(table(messages, "filtered"), config)))


@settings(max_examples=150, deadline=None)
@given(PARTS, PERCENTILES, st.lists(st.sampled_from(BREAKS), min_size=1, max_size=3))
def test_a_turn_keeps_its_messages_apart_and_loses_none(threads, percentile, breaks):
    messages = messages_of(threads)
    for number, row in enumerate(messages):  # every third message has lines of its own
        row["text"] = f"{row['text']}{''.join(breaks)}more" if number % 3 == 0 else row["text"]
    found = sessions(messages, percentile, "newline")
    written = [{**row, "text": " ".join(row["text"].split())} for row in messages]
    assert len(found) > 0
    for turns, said in zip(by_thread(found), by_thread(written), strict=True):
        lines = [line for turn in turns for line in turn["text"].split("\n")]
        assert [" ".join(line.split()) for line in lines] == [row["text"] for row in said]
        assert all(len(turn["text"].split("\n")) == turn["num_messages"] for turn in turns)
        assert not any(mark in turn["text"] for turn in turns for mark in BREAKS[1:])
    # Nothing but the text differs, and the naive reference agrees.
    spaced = sessions(messages, percentile, "space")
    assert [{**a, "text": ""} for a in found] == [{**b, "text": ""} for b in spaced]
    reference = turns_and_sessions([{**row, "text": one(row["text"])} for row in messages], percentile, None, "\n")
    assert [turn["text"] for turn in found] == [turn["text"] for turn in reference]
    assert [turn["text"] for turn in spaced] == [
        turn["text"] for turn in turns_and_sessions(messages, percentile, None)
    ]


def one(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip()) if len(text.splitlines()) > 1 else text


def test_line_breaks_within_a_message_become_spaces():
    texts = ["a\nb", "a \r\n\n b", "plain  text", "tail\n", "\u2028a\x0bb", ""]
    assert one_line(pa.array(texts)).to_pylist() == ["a b", "a b", "plain  text", "tail", "a b", ""]
    assert without_blank_lines("hi \n\n\n you\nthere") == "hi\nyou\nthere"


def test_neighbouring_turns_of_one_role_are_joined_as_messages_are(tiny: Path):
    turns = [(False, "hey"), (False, "you there?"), (True, "yes")]
    end = "<|endoftext|>"
    for joint in (" ", "\n"):
        encoder = Encoder(tiny, joint)
        assert encoder.decode(encode_history(encoder, turns)[0]) == f"hey{joint}you there?{end}yes{end}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("model") / "base")


class Bursting:
    """A speaker that always says the same."""

    def __init__(self, separator: str) -> None:
        self.separator, self.view = separator, {"separator": separator}

    def stream(self, *_: object):
        yield from ("one", "\ntw", "o")

    def prompt(self, *_: object):
        return type("Prompt", (), {"shortened": False})


@pytest.mark.parametrize(
    ("separator", "shown"),
    [("newline", "jaegpt: one\njaegpt: two\n"), ("space", "jaegpt: one\ntwo\n")],
)
def test_the_terminal_shows_each_message_of_a_burst_under_the_name(separator: str, shown: str, tmp_path: Path):
    written: list[str] = []
    speakers = {"jaegpt": Bursting(separator), "base": Bursting("space")}
    chat = Chat(speakers, CONFIG, 1, tmp_path, written.append)  # type: ignore[arg-type]
    assert chat_once(chat, "hi", as_json=False) + "\n" == shown + "base: one\ntwo\n"
    chat.take("hi")
    assert "".join(written) == shown + "base: one\ntwo\n"
    assert chat.conversation.exchanges[0].replies["jaegpt"] == "one\ntwo", "what the model is shown later"


def test_the_page_learns_whether_there_are_bursts():
    for separator, bursts in (("newline", True), ("space", False)):
        view = {"num_history": 4, "block_size": 128, "learn": "replies", "separator": separator}
        assert Page(None, CONFIG, 1, view).begin()["bursts"] is bursts  # type: ignore[arg-type]


def test_a_message_typed_over_several_lines_is_asked_as_several_messages(base: Path):
    one, other = (speaker(base, separator=separator) for separator in ("newline", "space"))
    typed, burst = [[(False, text)] for text in ("hey \n\n are you there", "hey\nare you there")]
    assert one.prompt(typed, CONFIG).ids == one.prompt(burst, CONFIG).ids
    assert other.prompt(typed, CONFIG).ids != other.prompt(burst, CONFIG).ids


def test_the_model_folder_says_how_it_was_trained_and_another_separator_is_an_error(base: Path, tmp_path: Path):
    original = save_tuned(tmp_path / "space", base)
    (tmp_path / "newline").mkdir()
    view = {**VIEW, "learn": "sessions", "separator": "newline"}
    save_model(load_base(base, 1, False), base, tmp_path / "newline", "A card.", view)
    wanted = {**VIEW, "learn": "replies", "separator": "space"}
    assert trained_view(wanted, original) == wanted
    assert json.loads((original / "config.json").read_text())["jaegpt"] == VIEW, "the original's way is not written"
    with pytest.raises(JaegptError, match=r"session\.separator is space .* trained with newline\. Run `dvc repro`"):
        trained_view(wanted, tmp_path / "newline")
    with pytest.raises(JaegptError, match=r"session\.separator is newline .* trained with space"):
        trained_view({**wanted, "separator": "newline"}, original)
    assert trained_view({**wanted, "separator": "newline"}, tmp_path / "newline") == view, "learn is as it was trained"
    damaged = shutil.copytree(original, tmp_path / "damaged")
    content = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps({**content, "jaegpt": "newline"}))
    with pytest.raises(JaegptError, match="does not hold what training wrote"):
        trained_view(wanted, damaged)


def test_bursts_have_figures_of_their_own():
    owner = ["one\ntwo", "one", "three words here\nand\nmore"]
    found = surface_distances({"owner": owner, "joined": [text.replace("\n", " ") for text in owner]}, owner)
    assert found["messages"]["owner"] == found["characters"]["owner"] == 0.0
    assert found["messages"]["joined"] > 0.5
    assert found["characters"]["joined"] > 0.5
    assert found["length"]["joined"] == found["length"]["owner"] == 0.0, "in words they are the same"
