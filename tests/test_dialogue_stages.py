"""The dialogue stages as programs: their figures add up, they hold no text, and bad input leaves nothing behind."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.dialogue_reference import messages_of, table
from helpers.paths import ROOT

from jaegpt.errors import JaegptError, run
from jaegpt.params import Params
from jaegpt.tables import part_name, read_table, write_part
from stages import build_dataset, encode, filter_language, merge_turns, sessionize

CHAIN = (filter_language, merge_turns, sessionize, build_dataset)
WORDS = "coffee music homework football cinema weather birthday holiday breakfast library".split()  # noqa: SIM905


def thread(shift):
    """Two people who speak in turn, sometimes twice in a row, in sessions of six messages."""
    senders = [("Ann", True), ("Bo", False), ("Ann", True)]
    return [
        (
            1000 if i % 6 else 7_200_000,
            senders[i % 3],
            f"what do you think about the {WORDS[(i * 3 + shift) % 10]} {WORDS[(i + shift) % 10]}",
        )
        for i in range(120)
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's own parameters and messages of four threads, one of them Korean."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    change("percentile: 50", "percentile: 90")
    korean = [(1000, ("Bo", False), "오늘 저녁에 뭐 먹을까 생각했어")] * 5
    rows = messages_of([thread(0), thread(3), korean, thread(7)])
    Path("data/messages").mkdir(parents=True)
    content = table(rows, "filtered").drop_columns(["language"])
    write_part(content.slice(0, 240), Path("data/messages") / part_name(0), "messages")
    write_part(content.slice(240), Path("data/messages") / part_name(1), "messages")
    return tmp_path


def change(old, new):
    text = Path("params.yaml").read_text("utf-8")
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new), "utf-8")


def run_chain():
    for stage in CHAIN:
        stage.main()


def figures(name):
    return json.loads(Path(f"metrics/{name}.json").read_text("utf-8"))


def written():
    return {path: path.read_bytes() for top in ("data", "metrics", "plots") for path in Path(top).rglob("*.*")}


def test_the_figures_add_up(project):
    run_chain()
    language, sessions, dataset = (figures(name) for name in ("language", "sessions", "dataset"))
    assert language["messages_read"] == 365 == language["messages_kept"] + sum(language["dropped"].values())
    assert (language["threads_kept"], language["threads_dropped"]) == (3, 1)
    assert sessions["turns"] == len(read_table("data/sessions", "sessions")) == 300
    assert sessions["sessions"] == 60
    assert sessions["owner_turns"] == dataset["owner_turns"]
    assert sum(sessions["history_share"].values()) == pytest.approx(1, abs=3e-4)
    assert dataset["owner_turns"] == dataset["examples"] + sum(dataset["dropped"].values())
    assert (
        dataset["examples"] == dataset["train"] + dataset["valid"] == len(read_table("data/examples", "examples")) > 50
    )
    assert dataset["valid_replies_in_train"] <= dataset["valid"]
    assert sessions["context"]["p90"]["sessions"] == 60
    with open("plots/gaps.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["gaps"]) for row in rows) == 357
    assert sum(int(row["thresholds"]) for row in rows) == 3


def test_metrics_and_plots_hold_numbers_and_hashes_only(project):
    run_chain()
    files = sorted([*Path("plots").iterdir(), *Path("metrics").iterdir()])
    assert [path.name for path in files] == [
        "dataset.json", "language.json", "sessions.json", "context.csv", "gaps.csv", "language.csv",
    ]  # fmt: skip
    for path in files:
        text = path.read_text("utf-8")
        assert not any(word in text for word in [*WORDS, "Ann", "Bo", "오늘"])
        if path.suffix == ".csv":
            cells = [cell for line in text.splitlines()[1:] for cell in line.split(",")]
            assert len(cells) > 10
            assert all(re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?|[0-9a-f]{16}", cell) for cell in cells)


def test_the_same_run_twice_writes_the_same_bytes(project):
    run_chain()
    once = written()
    run_chain()
    assert written() == once
    assert len(once) > 15


def test_another_seed_changes_the_examples_and_their_figures_only(project):
    run_chain()
    before = written()
    change("seed: 1337", "seed: 1338")
    run_chain()
    changed = {str(path) for path, content in written().items() if content != before[path]}
    assert changed <= {"data/examples/part-00000.parquet", "data/examples/part-00001.parquet", "metrics/dataset.json"}
    assert "data/examples/part-00000.parquet" in changed


def test_segments_are_written_where_sessions_are_learned(project, tiny):
    run_chain()
    shutil.copytree(tiny, "data/base_model")
    change("learn: sessions", "learn: replies")
    encode.main()
    before = written()
    assert len(read_table("data/segments", "segments")) == 0
    change("learn: replies", "learn: sessions")
    encode.main()
    after = written()
    assert {path for path in before if before[path] != after[path]} == {Path("data/segments/part-00000.parquet")}
    segments = read_table("data/segments", "segments")
    assert len(segments) > 20
    assert set(segments["split"].to_pylist()) == {"train"}
    assert len(list(Path("data/segments").glob("part-*"))) == len(list(Path("data/sessions").glob("part-*"))) == 2
    change("max_repeats: 0", "max_repeats: 1")
    encode.main()
    rarer = read_table("data/segments", "segments")
    labels = [sum(map(sum, table["labelled"].to_pylist())) for table in (segments, rarer)]
    assert 0 < labels[1] < labels[0], "each text is learned once, over all parts"
    encode.main()
    assert read_table("data/segments", "segments").equals(rarer)


def failing(stage, capsys):
    """The one line that a stage ends with, and proof that it wrote nothing."""
    before = written()
    with pytest.raises(SystemExit) as end:
        run(stage.main)
    assert end.value.code == 1
    assert written() == before
    assert not list(Path().rglob(".*.tmp"))
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_no_thread_in_a_language_to_keep(project, capsys):
    change("    - en\n", "    - fr\n")
    assert "Found messages: en 360, ko 5" in failing(filter_language, capsys)


def test_a_language_that_cannot_be_identified(project, capsys):
    change("    - en\n", "    - english\n")
    assert "language.keep takes ISO 639-1 codes" in failing(filter_language, capsys)


def test_missing_messages(project, capsys):
    shutil.rmtree("data/messages")
    assert "data/messages: no table here" in failing(filter_language, capsys)


def test_a_percentile_out_of_range(project, capsys):
    change("percentile: 90", "percentile: 101")
    assert "session.percentile must be between 0 and 100" in failing(merge_turns, capsys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_history: 4", "num_history: 0", "dataset.num_history must be at least 1"),
        ("num_history: 4", "num_history: four", "dataset.num_history"),
        ("num_distractors: 3", "num_distractors: 300", "none of the owner's 180 turns gives an example"),
        ("split: session", "split: week", "dataset.split"),
        ("valid_fraction: 0.1436", "valid_fraction: 0.000001", "0 for validation"),
    ],
)
def test_a_data_set_that_cannot_be_built(project, capsys, old, new, message):
    run_chain()
    capsys.readouterr()
    change(old, new)
    assert message in failing(build_dataset, capsys)


def test_the_split_by_row_warns_that_it_leaks(project, capsys):
    run_chain()
    change("split: session", "split: row")
    build_dataset.main()
    assert "warning: dataset.split row" in capsys.readouterr().err


def test_a_broken_part_is_refused_by_name(project, capsys):
    run_chain()
    capsys.readouterr()
    Path("data/turns/part-00001.parquet").write_bytes(b"PAR1 and then nothing")
    assert "data/turns/part-00001.parquet" in failing(sessionize, capsys)
    change("percentile: 90", "percentile: 50")
    merge_turns.main()
    capsys.readouterr()
    Path("data/filtered/part-00001.parquet").write_bytes(b"PAR1 and then nothing")
    assert "data/filtered/part-00001.parquet" in failing(sessionize, capsys)


def test_the_parameters_of_the_project_are_valid(project):
    for name, module in (("language", filter_language), ("session", merge_turns), ("dataset", build_dataset)):
        config = {"language": "LanguageConfig", "session": "SessionConfig", "dataset": "DatasetConfig"}[name]
        Params().section(name, getattr(module, config))
    with pytest.raises(JaegptError):
        Params().section("session", build_dataset.DatasetConfig)
