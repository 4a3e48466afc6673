"""The embedded sample: real conversations in Messenger's shape, the same bytes on every run."""

import hashlib
from pathlib import Path

import chitchat_dataset
import orjson
import pytest
from helpers.export_fixtures import read

from jaegpt.exports.text import repair
from jaegpt.sample import FIRST_NAMES, LAST_NAMES, MESSAGES_PER_FILE, OWNER_NAME, contact_name, write_sample

PARTNERS, MESSAGES = 132, 31_479


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    assert write_sample(folder) == {"threads": PARTNERS, "messages": MESSAGES}
    return folder


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.json")):
        whole.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def test_the_same_bytes_on_every_run(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path)
    assert _digest(tmp_path) == _digest(sample)


def test_the_shape_is_messengers(sample: Path) -> None:
    paths = sorted(sample.glob("your_facebook_activity/messages/*/*/message_*.json"))
    assert len(paths) == PARTNERS
    assert {path.parent.parent.name for path in paths} == {
        "inbox", "archived_threads", "e2ee_cutover", "filtered_threads", "message_requests",
    }  # fmt: skip
    for path in paths:
        raw = path.read_bytes()
        content = orjson.loads(raw)
        times = [message["timestamp_ms"] for message in content["messages"]]
        assert raw.isascii()
        assert times == sorted(times, reverse=True)
        assert 0 < len(times) <= MESSAGES_PER_FILE
        assert content["thread_path"] == path.parent.relative_to(sample / "your_facebook_activity/messages").as_posix()
        assert [repair(person["name"]) for person in content["participants"]][1] == OWNER_NAME
        assert "@byu.edu" not in raw.decode()
        assert "@gmail.com" not in raw.decode()


def test_names_are_invented_distinct_and_accented() -> None:
    names = [contact_name(index) for index in range(len(FIRST_NAMES) * len(LAST_NAMES))]
    assert len(set(names)) == len(names) == 288
    assert OWNER_NAME not in names
    assert not any(name.isascii() for name in names)


def test_what_is_read_back_is_the_dataset(sample: Path, tmp_path: Path) -> None:
    report, table = read(sample, tmp_path / "out")
    assert report.owner is not None
    assert (report.owner.names, report.threads, report.groups) == ((OWNER_NAME,), PARTNERS, 0)
    assert report.messages_read == MESSAGES
    assert set(report.dropped) <= {"empty", "double"}
    assert report.suspects == {}
    content = orjson.loads(Path(chitchat_dataset.__file__).with_name("dataset.json").read_bytes())
    written = {message["text"] for talk in content.values() for turn in talk["messages"] for message in turn}
    texts = table["text"].to_pylist()
    assert sum(text not in written for text in texts) <= 2  # those whose e-mail addresses were replaced
    assert 15_000 < report.owner_messages < 25_272


def test_copies_are_other_threads(tmp_path: Path) -> None:
    assert write_sample(tmp_path / "export", copies=2) == {"threads": 2 * PARTNERS, "messages": 2 * MESSAGES}
    report, table = read(tmp_path / "export", tmp_path / "out")
    assert report.threads == len(set(table["thread_id"].to_pylist())) == 2 * PARTNERS


def test_the_second_most_prolific_speaker_is_another_person(tmp_path: Path) -> None:
    counts = write_sample(tmp_path, rank=2)
    assert counts == {"threads": 140, "messages": 28_853}
    files = [orjson.loads(path.read_bytes()) for path in tmp_path.rglob("message_*.json")]
    written = sum(repair(message["sender_name"]) == OWNER_NAME for content in files for message in content["messages"])
    assert 0.3 < written / counts["messages"] < 0.7
