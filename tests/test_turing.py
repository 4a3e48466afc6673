"""`jaegpt turing`: rounds that hide nothing and give nothing away, the exact interval, and the page in a browser."""

import csv
import dataclasses
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.browser import open_page
from helpers.chats import chat_tables
from helpers.paths import ROOT

from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import Context, choose_contexts, write_replies
from jaegpt.files import writing_folder
from jaegpt.tables import part_name, write_part
from jaegpt.turing.rounds import MIN_ROUNDS, Round, make_rounds, save_picks, verdict, write_sheet

MARKUP = "<img src=x onerror=alert(1)> **no** $x$"  # whatever anyone wrote is shown as it is
PARAMS = "seed: 1337\nfidelity:\n  contexts: 60\n  calibrate_contexts: 60\n  canaries: 0\n"


def contexts(count: int = 60) -> list[Context]:
    return [
        Context(
            example_id=f"{number:016x}-000001",
            thread_id=f"{number:016x}",
            session_index=0,
            history=((False, f"question {number}"),),
            reply=f"real {number}",
        )
        for number in range(count)
    ]


def generated(count: int = 60) -> list[str]:
    return [f"made {number}" for number in range(count)]


def test_each_round_holds_the_real_and_the_models_reply_to_one_context() -> None:
    by_id = {context.example_id: (context, reply) for context, reply in zip(contexts(), generated(), strict=True)}
    rounds = make_rounds(contexts(), generated(), 40, (1, 1))
    assert len(rounds) == len({one.example_id for one in rounds}) == 40
    for one in rounds:
        context, reply = by_id[one.example_id]
        assert one.history == context.history
        assert one.replies[one.real] == context.reply
        assert set(one.replies.values()) == {context.reply, reply}
    sides = [one.real for one in rounds]
    assert 8 < sides.count("A") < 32


def test_rounds_follow_from_the_seed_alone() -> None:
    assert make_rounds(contexts(), generated(), 20, (1, 1)) == make_rounds(contexts(), generated(), 20, (1, 1))
    other = make_rounds(contexts(), generated(), 20, (1, 2))
    assert [one.example_id for one in other] != [
        one.example_id for one in make_rounds(contexts(), generated(), 20, (1, 1))
    ]


def test_a_reply_the_model_got_word_for_word_is_no_question() -> None:
    replies = [context.reply if number % 2 else "made" for number, context in enumerate(contexts())]
    rounds = make_rounds(contexts(), replies, 30, (1, 1))
    assert all(len(set(one.replies.values())) == 2 for one in rounds)
    with pytest.raises(JaegptError, match=r"31 rounds need as many contexts, found 30"):
        make_rounds(contexts(), replies, 31, (1, 1))
    with pytest.raises(JaegptError, match="--rounds must be at least 20, found 19"):
        make_rounds(contexts(), generated(), MIN_ROUNDS - 1, (1, 1))


def clopper_pearson(right: int, count: int) -> tuple[float, float]:
    """By bisection on the binomial's tails: the shares at which 2.5 % of the time as many, or as few, are right."""

    def tail(share: float, numbers: range) -> float:
        return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in numbers)

    def solve(rises: bool, numbers: range) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if (tail(middle, numbers) < 0.025) == rises else (low, middle)
        return (low + high) / 2

    low = solve(True, range(right, count + 1)) if right else 0.0
    return low, solve(False, range(right + 1)) if right < count else 1.0


@pytest.mark.parametrize(
    ("right", "meaning"),
    [
        (0, "are taken for"),
        (5, "are taken for"),
        (6, "Guessing"),
        (13, "Guessing"),
        (15, "can be distinguished"),
        (20, "can be distinguished"),
    ],
)
def test_the_verdict_has_the_exact_interval(right: int, meaning: str) -> None:
    rounds = make_rounds(contexts(), generated(), 20, (1, 1))
    wrong = {"A": "B", "B": "A"}
    picks = [one.real if number < right else wrong[one.real] for number, one in enumerate(rounds)]
    text = verdict(rounds, picks)
    low, high = clopper_pearson(right, 20)
    assert text.startswith(f"{right} of 20 found: {right / 20:.0%} (95 % interval {low:.1%} to {high:.1%};")
    assert meaning in text


def test_what_is_saved_holds_no_text(tmp_path: Path) -> None:
    rounds = make_rounds(contexts(), generated(), 20, (1, 1))
    save_picks(tmp_path / "game.csv", rounds, ["A"] * 7)
    content = (tmp_path / "game.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(content.splitlines()))
    assert [row["example_id"] for row in rows] == [one.example_id for one in rounds[:7]]
    assert [row["right"] for row in rows] == [str(int(one.real == "A")) for one in rounds[:7]]
    assert not re.search(r"real \d|made|question", content)


def test_the_sheet_shows_every_round_and_only_the_key_answers(tmp_path: Path) -> None:
    rounds: list[Round] = make_rounds(contexts(), generated(), 20, (1, 1))
    rounds[3] = dataclasses.replace(rounds[3], history=((False, MARKUP),))
    sheet, key = write_sheet(tmp_path, rounds)
    with open_page(sheet.as_uri(), width=390) as (page, errors, requests):
        text = page.inner_text("body")
        assert MARKUP in text
        for one in rounds:
            assert all(reply in text for reply in one.replies.values())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert (errors, requests) == ([], [])
    with open_page(key.as_uri()) as (page, _, _):
        assert page.locator("li").all_inner_texts() == [one.real for one in rounds]
    # The sheet of the same rounds with every real reply on the other side differs in nothing but the replies' order.
    swapped = [dataclasses.replace(one, real="B" if one.real == "A" else "A") for one in rounds]
    assert write_sheet(tmp_path / "other", swapped)[0].read_text("utf-8") == sheet.read_text("utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the tables that the command reads; one reply is markup."""
    _, examples = chat_tables()
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    with writing_folder(tmp_path / "data/examples") as folder:
        write_part(examples, folder / part_name(0), "examples")
    chosen = choose_contexts(examples, 60, 1337)
    assert len(chosen) == 60
    write_replies(tmp_path / "data/replies_tuned", chosen, [f"{MARKUP} {number}" for number in range(60)])
    return tmp_path


def jaegpt(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jaegpt.cli", *arguments]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of `jaegpt turing` running in `folder`."""
    process = subprocess.Popen(
        jaegpt("turing", "--port", "0"),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, process.communicate()[1]
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


def play(page, picks: str, by_key: bool) -> None:
    """Pick the sides in turn, each in its own round."""
    for number, side in enumerate(picks, start=1):
        page.get_by_text(f"Round {number} of 20", exact=True).wait_for()
        if by_key:
            page.keyboard.press(side)
        else:
            page.click(f"#pick-{side}")
    page.wait_for_selector("#again:visible")


def test_twenty_rounds_in_a_browser(project: Path) -> None:
    if shutil.which("chromium") is None and os.environ.get("CI") != "true":
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with serving(project) as address, open_page(address, width=390) as (page, errors, requests):
        page.wait_for_selector("#pick-a:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert MARKUP in page.inner_text("#pick-a") + page.inner_text("#pick-b")
        play(page, "ab" * 10, by_key=True)
        with open(project / "data/turing/game-0001.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["picked"] for row in rows] == list("AB" * 10)
        right = sum(row["real"] == row["picked"] for row in rows)
        assert right == sum(int(row["right"]) for row in rows)
        low, high = clopper_pearson(right, 20)
        assert f"{right} of 20 found: {right / 20:.0%} (95 % interval {low:.1%} to {high:.1%}" in page.inner_text(
            "#progress"
        )
        assert not page.is_visible("#pick-a")

        page.click("#again")
        play(page, "b" * 20, by_key=False)
        with open(project / "data/turing/game-0002.csv", encoding="utf-8") as file:
            again = list(csv.DictReader(file))
        assert [row["picked"] for row in again] == ["B"] * 20
        assert [row["example_id"] for row in again] != [row["example_id"] for row in rows]
        assert errors == []
        assert len(requests) > 10
        assert {url for url in requests if not url.startswith(address)} == set(), "nothing leaves this machine"


def test_the_command_says_what_is_missing_and_writes_the_sheet(project: Path) -> None:
    done = subprocess.run(jaegpt("turing", "--sheet"), cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "data/turing/sheet.html").is_file()
    assert (project / "data/turing/key.html").is_file()
    for arguments, said in (
        (("--rounds", "61"), "61 rounds need as many contexts, found 60"),
        (("--rounds", "5"), "--rounds must be at least 20, found 5"),
        (("--root-path", "//evil.example"), "--root-path must be like /jaegpt"),
        ((), "data/replies_tuned: no table here"),
    ):
        if not arguments:
            shutil.rmtree(project / "data/replies_tuned")
        done = subprocess.run(
            jaegpt("turing", *arguments), cwd=project, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
