"""The benchmarks that findings rests on: ways to make the data, to learn from it, and to draw replies."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.clones import whole_run

from benchmarks import compare_data, compare_drawing
from jaegpt.errors import JaegptError
from jaegpt.tables import read_table


@pytest.fixture(scope="module")
def project(shared: Path) -> Path:
    """After `dvc repro` with `tiny`; read only."""
    whole_run(shared)
    return shared / "copy/jaegpt"


@pytest.fixture
def rows(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a benchmark: the lines of figures that it prints."""

    def run(benchmark: ModuleType, *arguments: str) -> list[dict[str, Any]]:
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, "argv", [benchmark.__name__, *arguments])
        benchmark.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"way"')]

    return run


def test_ways_to_learn_differ_by_what_they_are_named_for(rows: Any) -> None:
    ways = ("dataset.split=session", "average=0.5,dataset.split=session", "dataset.split=session,train.mc_share=1")
    plain, averaged, all_choices = rows(compare_data, *ways, "--share", "0.03", "--contexts", "0", "--seeds", "2")
    assert [row["way"] for row in (plain, averaged, all_choices)] == list(ways)
    assert plain["tokens"] == averaged["tokens"] < all_choices["tokens"]
    assert plain["replies"] == averaged["replies"] > 50
    assert plain["lm_loss"] != averaged["lm_loss"]
    assert plain["lm_loss"] == pytest.approx(averaged["lm_loss"], rel=0.1)
    assert plain["nats_a_reply"] != averaged["nats_a_reply"]
    assert 0 < plain["mc_accuracy"] < 1


def test_sessions_and_replies_are_measured_on_the_same_replies(rows: Any) -> None:
    ways = ("dataset.split=session", "dataset.split=session,dataset.learn=replies")
    sessions, replies = rows(compare_data, *ways, "--share", "0.03", "--contexts", "0", "--seeds", "2")
    assert sessions["replies"] == replies["replies"] > 50
    assert sessions["tokens"] != replies["tokens"] > 0
    assert sessions["steps"] != replies["steps"] > 0
    assert sessions["lm_loss"] != replies["lm_loss"]


def test_made_up_groups_hold_all_messages_and_names_cost_tokens_of_history(rows: Any, project: Path) -> None:
    ways = tuple(f"dataset.split=session,dataset.speakers={names}" for names in ("groups", "none"))
    asked = ("--groups", "3", "--share", "0.03", "--contexts", "0", "--seeds", "2")
    with_names, without = rows(compare_data, *ways, *asked)
    assert with_names["replies"] == without["replies"] > 20
    assert with_names["history"] > without["history"] > 0
    assert with_names["lm_loss"] != without["lm_loss"]


def test_a_made_up_group_is_three_threads_told_at_once(project: Path, tmp_path: Path) -> None:
    before = read_table(project / "data/filtered", "filtered").to_pandas()
    after = read_table(compare_data.joined(project / "data/filtered", tmp_path / "filtered", 3), "filtered").to_pandas()
    assert sorted(after["text"]) == sorted(before["text"])
    assert after["thread_id"].nunique() == -(-before["thread_id"].nunique() // 3)
    longest = before["thread_id"].value_counts().index[:3]
    group = after[after["text"].isin(before[before["thread_id"].isin(longest)]["text"])]["thread_id"].mode()[0]
    told = after[after["thread_id"] == group]
    assert len(told) == before["thread_id"].value_counts().iloc[:3].sum()
    assert told["sent_at"].is_monotonic_increasing
    for thread in longest:  # each person's own messages in their order
        mine = before[(before["thread_id"] == thread) & ~before["is_owner"]]
        assert told[told["sender"] == mine["sender"].iloc[0]]["text"].tolist() == mine["text"].tolist()
    others = told[~told["is_owner"]]["sender"]
    assert (others != others.shift()).sum() > 10 * others.nunique(), "they take turns"


def test_a_way_with_another_separator_is_measured_on_the_same_replies(rows: Any) -> None:
    ways = ("session.separator=newline", "session.separator=space")
    newline, space = rows(compare_data, *ways, "--share", "0.03", "--contexts", "0", "--seeds", "2")
    assert newline["replies"] == space["replies"] > 50
    assert 0 < newline["nats_a_letter"] != space["nats_a_letter"] > 0
    assert newline["nats_a_reply"] != space["nats_a_reply"]


def test_ways_to_draw_are_judged_and_a_bolder_one_is_more_varied(rows: Any) -> None:
    timid = "temperature=0"
    found = rows(compare_drawing, timid, "--contexts", "100", "--seeds", "1", "2")
    assert [(row["way"], row["seed"]) for row in found] == [
        ("as calibrated", 1), (timid, 1), ("as calibrated", 2), (timid, 2),
    ]  # fmt: skip
    calibrated, cold, again, cold_again = found
    assert cold["different"] < calibrated["different"]
    # The same replies; read in other batches, whose last digits differ.
    same = {**cold, "seed": 2, "likelihood": pytest.approx(cold["likelihood"], rel=1e-6)}
    assert cold_again == same, "nothing is drawn"
    assert calibrated["likelihood"] != again["likelihood"]
    for row in found:
        assert row["told_apart_ci"][0] <= row["told_apart"] <= row["told_apart_ci"][1]
        assert row["f1_ratio"] >= 0 == row["leak"]


@pytest.mark.parametrize(
    ("benchmark", "arguments", "message"),
    [
        (compare_data, ["model=tiny"], "model=tiny: not compared here"),
        (compare_data, ["train.precision=fp32"], "train.precision=fp32: not compared here"),
        (compare_data, ["train.rate=1"], "train.rate=1: a way is KEY=VALUE"),
        (compare_data, ["average=2"], "average is a share of the steps.*found 2"),
        (compare_data, ["average=0.5,train.adamw_bits=8"], "average is a share of the steps"),
        (compare_data, ["w_mc=1", "--contexts", "50"], "--contexts: judges need at least 100, found 50"),
        (compare_drawing, ["--contexts", "50"], "--contexts: judges need at least 100, found 50"),
        (compare_drawing, ["top=1"], "top=1: a way is KEY=VALUE"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    rows: Any, benchmark: ModuleType, arguments: list[str], message: str
) -> None:
    with pytest.raises(JaegptError, match=message):
        rows(benchmark, *arguments)
