"""`jaegpt turing`: rounds that hide nothing and give nothing away, the exact interval, and the page in a browser."""

import csv
import dataclasses
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import open_page
from helpers.chat_models import save_base, save_tuned
from helpers.chats import chat_tables
from helpers.commands import environment
from helpers.paths import ROOT

from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import Context, choose_contexts, write_replies
from jaegpt.files import writing_folder
from jaegpt.tables import part_name, write_part
from jaegpt.turing.rounds import MIN_ROUNDS, Round, check_numbers, make_rounds, save_picks, verdict, write_sheet

MARKUP = "<img src=x onerror=alert(1)> **no** $x$"  # whatever anyone wrote is shown as it is
PARAMS = {"contexts: 200": "contexts: 60", "max_tokens: auto": "max_tokens: 12", "precision: auto": "precision: fp32"}


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


def generated(count: int = 60, pool: int = 2) -> list[list[str]]:
    """What the model replied to each context: one less than the pool holds."""
    return [[f"made {number}{'x' * again}" for again in range(pool - 1)] for number in range(count)]


@pytest.mark.parametrize("pool", [2, 4, 8])
def test_each_round_holds_the_real_and_the_models_replies_to_one_context(pool: int) -> None:
    texts = generated(pool=pool)
    by_id = {context.example_id: (context, made) for context, made in zip(contexts(), texts, strict=True)}
    rounds = make_rounds(contexts(), texts, 40, (1, 1))
    assert len(rounds) == len({one.example_id for one in rounds}) == 40
    for one in rounds:
        context, made = by_id[one.example_id]
        assert one.history == context.history
        assert one.replies[one.real] == context.reply
        assert list(one.replies) == list("ABCDEFGH")[:pool], "in the order of the letters, whichever is real"
        assert set(one.replies.values()) == {context.reply, *made}


@pytest.mark.parametrize("pool", [2, 4])
def test_the_real_reply_and_each_of_the_models_stand_anywhere(pool: int) -> None:
    """Over 10 games of all contexts each side is the real one's equally often, and each draw's."""
    counts = {name: Counter() for name in ("real", *range(pool - 1))}
    for game in range(10):
        for one in make_rounds(contexts(), generated(pool=pool), 60, (1, game)):
            for side, text in one.replies.items():
                counts["real" if side == one.real else text.count("x")][side] += 1
    for counted in counts.values():
        assert counted.total() == 600
        assert max(abs(counted[side] - 600 / pool) for side in list("ABCD")[:pool]) < 4 * math.sqrt(600 / pool)


def test_rounds_follow_from_the_seed_alone() -> None:
    assert make_rounds(contexts(), generated(), 20, (1, 1)) == make_rounds(contexts(), generated(), 20, (1, 1))
    other = make_rounds(contexts(), generated(), 20, (1, 2))
    assert [one.example_id for one in other] != [
        one.example_id for one in make_rounds(contexts(), generated(), 20, (1, 1))
    ]


def test_a_reply_the_model_got_word_for_word_is_no_question() -> None:
    replies = [[f"{context.reply} " if number % 2 else "made"] for number, context in enumerate(contexts())]
    rounds = make_rounds(contexts(), replies, 30, (1, 1))
    assert all(len(set(one.replies.values())) == 2 for one in rounds)
    with pytest.raises(JaegptError, match=r"31 rounds need as many contexts, found 30"):
        make_rounds(contexts(), replies, 31, (1, 1))
    with pytest.raises(JaegptError, match="--rounds must be at least 20, found 19"):
        make_rounds(contexts(), generated(), MIN_ROUNDS - 1, (1, 1))
    for pool in (1, 9):
        with pytest.raises(JaegptError, match=f"--pool must be from 2 to 8 replies, found {pool}"):
            check_numbers(20, pool)


def test_a_pool_with_two_replies_alike_is_left_out() -> None:
    """Were such drawn again, the commonest of what person and perfect model say would more often be the real one."""
    texts = generated(pool=4)
    for number in range(20):
        texts[number][2] = f" {texts[number][0]}"
    for number in range(20, 35):
        texts[number][1] = contexts()[number].reply
    assert {one.example_id for one in make_rounds(contexts(), texts, 25, (1, 1))} == {
        context.example_id for context in contexts()[35:]
    }
    with pytest.raises(JaegptError) as caught:
        make_rounds(contexts(), texts, 26, (1, 1))
    assert str(caught.value) == (
        "turing: 26 rounds need as many contexts, found 25 where all 4 replies differ. Raise fidelity.contexts, or ask "
        "for fewer with --rounds or --pool."
    )


def test_who_picks_what_is_commonest_finds_a_perfect_models_real_reply_no_more_often_than_a_guess() -> None:
    """The four are drawn from one distribution, in which some replies are far commoner than others."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 31)
    drawn = rng.choice(30, (20_000, 4), p=shares / shares.sum())
    asked = [dataclasses.replace(contexts()[0], reply=str(row[0])) for row in drawn]
    texts = [[str(one) for one in row[1:]] for row in drawn]
    rounds = make_rounds(asked, texts, 5000, (1, 1))
    found = [one.real == min(one.replies, key=lambda side: int(one.replies[side])) for one in rounds]
    assert np.mean(found) == pytest.approx(1 / 4, abs=0.02)


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
    ("pool", "right", "guess", "meaning"),
    [
        (2, 0, "50", "are taken for"),
        (2, 5, "50", "are taken for"),
        (2, 6, "50", "Guessing"),
        (2, 13, "50", "Guessing"),
        (2, 15, "50", "can be distinguished"),
        (2, 20, "50", "can be distinguished"),
        (3, 11, "33.3", "Guessing"),
        (4, 1, "25", "are taken for"),
        (4, 2, "25", "Guessing"),
        (4, 9, "25", "Guessing"),
        (4, 10, "25", "can be distinguished"),
        (8, 0, "12.5", "Guessing"),
        (8, 7, "12.5", "can be distinguished"),
    ],
)
def test_the_verdict_has_the_exact_interval_beside_a_guess(pool: int, right: int, guess: str, meaning: str) -> None:
    rounds = make_rounds(contexts(), generated(pool=pool), 20, (1, 1))
    wrong = [next(side for side in one.replies if side != one.real) for one in rounds]
    picks = [one.real if number < right else wrong[number] for number, one in enumerate(rounds)]
    text = verdict(rounds, picks)
    low, high = clopper_pearson(right, 20)
    assert text.startswith(f"{right} of 20 found: {right / 20:.0%} (95 % interval {low:.1%} to {high:.1%};")
    assert f"; guessing among {pool} finds {guess} %). " in text
    assert meaning in text


@pytest.mark.parametrize("pool", [2, 4])
def test_what_is_saved_holds_no_text(tmp_path: Path, pool: int) -> None:
    rounds = make_rounds(contexts(), generated(pool=pool), 20, (1, 1))
    save_picks(tmp_path / "game.csv", rounds, ["A"] * 7)
    content = (tmp_path / "game.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(content.splitlines()))
    assert [row["example_id"] for row in rows] == [one.example_id for one in rounds[:7]]
    assert {row["pool"] for row in rows} == {str(pool)}
    assert [row["right"] for row in rows] == [str(int(one.real == "A")) for one in rounds[:7]]
    assert not re.search(r"real \d|made|question", content)


@pytest.mark.parametrize(("pool", "times", "guess"), [(2, "once", 10), (4, "3 times", 5)])
def test_the_sheet_shows_every_round_and_only_the_key_answers(
    tmp_path: Path, pool: int, times: str, guess: int
) -> None:
    rounds: list[Round] = make_rounds(contexts(), generated(pool=pool), 20, (1, 1))
    rounds[3] = dataclasses.replace(rounds[3], history=((False, MARKUP),))
    sheet, key = write_sheet(tmp_path, rounds)
    with open_page(sheet.as_uri(), width=390) as (page, errors, requests):
        text = page.inner_text("body")
        assert MARKUP in text
        assert f"answered once by a person and {times} by a model" in text
        assert page.locator("li").count() == 20 * pool
        for one in rounds:
            assert all(reply in text for reply in one.replies.values())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert (errors, requests) == ([], [])
    with open_page(key.as_uri()) as (page, _, _):
        assert page.locator("li").all_inner_texts() == [one.real for one in rounds]
        assert f"Of these 20, guessing among {pool} replies finds about {guess}." in page.inner_text("body")
    # The sheet of the same rounds with every real reply on another side differs in nothing.
    swapped = [dataclasses.replace(one, real="B" if one.real == "A" else "A") for one in rounds]
    assert write_sheet(tmp_path / "other", swapped)[0].read_text("utf-8") == sheet.read_text("utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the command reads, the model included; the first reply to each context is markup."""
    _, examples = chat_tables()
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in PARAMS.items():
        assert f"\n  {old}\n" in text, old
        text = text.replace(f"\n  {old}\n", f"\n  {new}\n")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    save_tuned(tmp_path / "models/jaegpt", save_base(tmp_path / "data/base_model"))
    with writing_folder(tmp_path / "data/examples") as folder:
        write_part(examples, folder / part_name(0), "examples")
    chosen = choose_contexts(examples, 60, 1337)
    assert len(chosen) == 60
    write_replies(tmp_path / "data/replies_tuned", chosen, [f"{MARKUP} {number}" for number in range(60)])
    return tmp_path


def asked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`jaegpt turing` in `folder`."""
    return subprocess.run(
        ["jaegpt", "turing", *arguments],
        cwd=folder, env={**environment("jaegpt"), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The address of `jaegpt turing` running in `folder`."""
    process = subprocess.Popen(
        ["jaegpt", "turing", "--port", "0", *arguments],
        cwd=folder,
        env={**environment("jaegpt"), "PYTHONPATH": str(ROOT)},
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


@pytest.mark.parametrize(
    ("arguments", "sides", "guess"), [((), "abcd", "25"), (("--pool", "2"), "ab", "50")], ids=["pool", "pair"]
)
def test_twenty_rounds_in_a_browser(project: Path, arguments: tuple[str, ...], sides: str, guess: str) -> None:
    pool = len(sides)
    if shutil.which("chromium") is None and os.environ.get("CI") != "true":
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with serving(project, *arguments) as address, open_page(address, width=390) as (page, errors, requests):
        page.wait_for_selector("#pick-a:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        said = [page.inner_text(f"#pick-{side} .said") for side in sides]
        assert sum(MARKUP in text for text in said) == 1
        assert len(set(said)) == pool == page.locator(".pick:visible").count()
        page.keyboard.press("abcde"[pool])  # the letter of no reply
        play(page, (sides * 10)[:20], by_key=True)
        with open(project / "data/turing/game-0001.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["picked"] for row in rows] == list((sides.upper() * 10)[:20])
        assert {row["pool"] for row in rows} == {str(pool)}
        right = sum(row["real"] == row["picked"] for row in rows)
        assert right == sum(int(row["right"]) for row in rows)
        low, high = clopper_pearson(right, 20)
        assert (
            f"{right} of 20 found: {right / 20:.0%} (95 % interval {low:.1%} to {high:.1%}; guessing"
            in page.inner_text("#progress")
        )
        assert f"among {pool} finds {guess} %" in page.inner_text("#progress")
        assert page.locator(".pick:visible").count() == 0

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
    done = asked(project, "--sheet")
    assert done.returncode == 0, done.stderr
    assert (project / "data/turing/sheet.html").is_file()
    assert (project / "data/turing/key.html").is_file()
    assert "the model writes 2 more replies to each of 60 contexts" in done.stderr
    for arguments, said in (
        (("--rounds", "61"), "61 rounds need as many contexts, found 60"),
        (("--rounds", "5"), "--rounds must be at least 20, found 5"),
        (("--pool", "1"), "--pool must be from 2 to 8 replies, found 1"),
        (("--root-path", "//evil.example"), "--root-path must be like /jaegpt"),
        ((), "data/replies_tuned: no table here"),
    ):
        if not arguments:
            shutil.rmtree(project / "data/replies_tuned")
        done = asked(project, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
