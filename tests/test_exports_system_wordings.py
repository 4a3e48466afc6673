"""Lines nobody wrote, as Messenger and Instagram word them now, and lines of people that look like them."""

from pathlib import Path

import pyarrow as pa
import pytest
from helpers.export_fixtures import OWNER, START, TALKS, Talk, files_of, read, write_folder

from jaegpt.exports.system_lines import find_system_lines, kind_of

BEN = "Ben Ødeby"
PAIR, GROUP = (BEN, OWNER), (BEN, "Cyd Vågen", OWNER)

LINES = (Path(__file__).parent / "system_wordings_en.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("people", [PAIR, GROUP])
def test_nobody_wrote_these(line: str, people: tuple[str, ...]) -> None:
    """Written in the name of who acts; in bulk and one at a time."""
    sender = OWNER if line.startswith("You ") else BEN
    kind = kind_of(line, people, sender)
    assert kind is not None
    assert kind_of(line.replace("'", "’"), people, sender) == kind
    lines = pa.array(["before", line, "after"])
    assert find_system_lines(lines, lambda row: people, [], lambda row: sender) == {1: kind}


@pytest.mark.parametrize(
    "name", ["Ben 🎸", "J.-P. O'Neil", "김철수", "Zoe99", "x_ben_x", "St. John (Jack)", "Anna  Bo"]
)
@pytest.mark.parametrize(
    "rest", [" sent a reel", " sent an attachment.", " started an audio call", " took a screenshot.", " added Cyd."]
)
def test_names_of_any_kind(name: str, rest: str) -> None:
    assert kind_of(name + rest, (name, OWNER), name) is not None


@pytest.mark.parametrize(
    "line",
    [
        "You missed a call",
        "You left the chat.",
        "you missed a video chat",
        "You sent a photo",
        "You started it",
        "Mum missed a video chat",
        "I missed a video chat",
        "You missed a video chat with my sister yesterday",
        "My key has changed.",
        "We added Cyd.",
        "You replied to my story",
        "He mentioned you in his story",
        "I took a screenshot.",
        "Cyd took a screenshot.",
        "Audio call ended badly",
        "unavailable message lol",
        "The group was created by my uncle.",
        "Anyone added milk to the poll?",
        "I voted for Rome in the poll.",
        "Cyd voted for Rome in the poll.",
        "You can now message me",
        "You can't message people like that",
        "This account is mine",
        "You changed your mind",
        "Ben Ødeby is my full name",
        "Ben added salt.",
        "sent a reel to you, look",
        "Chess tonight at my place?",
    ],
)
@pytest.mark.parametrize("sender", [BEN, OWNER])
def test_people_wrote_these(line: str, sender: str) -> None:
    assert kind_of(line, GROUP, sender) is None
    assert find_system_lines(pa.array([line]), lambda row: GROUP, [], lambda row: sender) == {}


def test_who_speaks_of_themselves_in_whole() -> None:
    line = "Ben Ødeby added a new prompt to the chat"
    assert kind_of(line, GROUP, BEN) == "thread"
    assert kind_of(line, GROUP, OWNER) is None
    assert kind_of("Ben added a new prompt to the chat", GROUP, BEN) is None
    for deed in (
        "left the building", "is in love", "made cake, come!", "started it", "took the last one", "called it",
        "sent a photo of the cake", "left the chat lol", "changed the channel, I think", "started a group of one?",
        "left the group\nand nobody noticed",
    ):  # fmt: skip
        assert kind_of(f"{BEN} {deed}", GROUP, BEN) is None, deed
        line = pa.array([f"{BEN} {deed}"])
        assert find_system_lines(line, lambda row: GROUP, [], lambda row: BEN) == {}, deed


def test_they_leave_a_download_with_what_people_wrote(tmp_path: Path) -> None:
    written = (OWNER, START, "hi"), (BEN, START + 1, "You missed a call")
    automatic = tuple(
        (OWNER if line.startswith("You ") else BEN, START + 2 + row, line) for row, line in enumerate(LINES)
    )
    talk = Talk("ben_1", BEN, PAIR, written + automatic)
    path = write_folder(tmp_path / "export", files_of("instagram", (talk, TALKS[1])))
    report, table = read(path, tmp_path / "out", owner=OWNER)
    kept = [text for text in table["text"].to_pylist() if text not in {text for *_, text in TALKS[1].messages}]
    assert kept == ["hi", "You missed a call"]
    assert sum(report.dropped.values()) == len(automatic)
