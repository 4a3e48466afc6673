"""The table `messages` as a whole: its order and bytes, the stage around it, suspects, redaction, and `inspect`."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest
from helpers.export_fixtures import TALKS, expected, files_of, read, workers, write_folder
from helpers.paths import ROOT

import stages.extract
from jaegpt.errors import JaegptError
from jaegpt.exports import extract, first_pass, second_pass
from jaegpt.sample import write_sample
from jaegpt.tables import SCHEMAS, part_paths, read_part


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, copies=3)
    return folder


def test_the_same_bytes_for_any_number_of_workers(sample: Path, tmp_path: Path) -> None:
    digests = []
    for count in (1, 2, 4):
        with workers(count):
            read(sample, tmp_path / str(count))
        digests.append(_digests(tmp_path / str(count)))
    assert len(digests[0]) == 2, "one part alone would show nothing"
    assert digests[0] == digests[1] == digests[2]


def test_the_same_rows_for_any_size_of_batch_and_part(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    _, whole = read(sample, tmp_path / "whole")
    monkeypatch.setattr(first_pass, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(second_pass, "MAX_PART_MESSAGES", 3_000)
    _, cut = read(sample, tmp_path / "cut")
    assert len(part_paths(tmp_path / "cut")) > 20
    assert cut.equals(whole)


def test_a_part_needs_neighbouring_batches_only(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps the memory of a part from growing with the export: it never opens all of the scratch files."""
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.setattr(first_pass, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(second_pass, "MAX_PART_MESSAGES", 3_000)
    jobs: list[second_pass.PartJob] = []

    def seen(function, items, label):  # type: ignore[no-untyped-def]
        jobs.extend(item for item in items if isinstance(item, second_pass.PartJob))
        return [function(item) for item in items]

    monkeypatch.setattr(extract, "map_parts", seen)
    read(sample, tmp_path / "out")
    assert len(jobs) > 20
    opened = [
        [int(Path(str(piece.messages)).stem) for thread in job.threads for piece in thread.pieces] for job in jobs
    ]
    in_turn = [number for batches in opened for number in batches]
    assert in_turn == sorted(in_turn)
    assert max(in_turn) > 50, "few batches would show nothing"


def test_parts_hold_whole_threads_in_order(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.setattr(second_pass, "MAX_PART_MESSAGES", 3_000)
    read(sample, tmp_path / "out")
    seen: list[str] = []
    for path in part_paths(tmp_path / "out"):
        table = read_part(path, "messages")
        assert table.schema.equals(SCHEMAS["messages"])
        threads = list(dict.fromkeys(table["thread_id"].to_pylist()))
        assert len(table) <= 3_000 or len(threads) == 1
        for thread in threads:
            times = table.filter(pc.equal(table["thread_id"], thread))["sent_at"].to_pylist()
            assert times == sorted(times)
        seen += threads
    assert len(seen) == len(set(seen)) == 3 * 132
    assert seen == sorted(seen)


def test_the_stage_writes_the_table_and_numbers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data/sample_export", files_of("since 2024"))
    stages.extract.main()
    metrics = json.loads((tmp_path / "metrics/extract.json").read_text())
    wanted = {"files", "threads", "messages_read", "messages_kept", "owner_messages", "dropped"}
    assert wanted <= set(metrics)
    assert metrics["messages_read"] == metrics["messages_kept"] + sum(metrics["dropped"].values()) == len(expected())
    assert not any(word in json.dumps(metrics, ensure_ascii=False) for talk in TALKS for word in talk.title.split())
    assert "10 of 10 messages in 3 threads" in capsys.readouterr().out
    before = _digests(tmp_path / "data/messages")
    write_folder(tmp_path / "data/sample_export", {"messages/inbox/bad_1/message_1.json": b"{"})
    with pytest.raises(JaegptError, match="1 file cannot be read"):
        stages.extract.main()
    assert _digests(tmp_path / "data/messages") == before, "a failed run must leave the last good table"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["messages", "sample_export"]
