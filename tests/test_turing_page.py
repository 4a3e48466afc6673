"""The page of `jaegpt turing`: a pick counts once, in a game that was started, and nothing gives the real side away."""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.browser import open_page
from helpers.page_server import page_running
from test_turing import MARKUP, contexts, generated

from jaegpt.turing import page as turing
from jaegpt.turing.page import Games, make_page


@pytest.fixture
def games(tmp_path: Path) -> Games:
    return Games(contexts(), [[MARKUP], *generated()[1:]], 20, 1337, tmp_path / "turing")


@pytest.fixture
def client(games: Games) -> Iterator[httpx.Client]:
    with page_running(make_page(games)) as url, httpx.Client(base_url=url) as client:
        yield client


def post(client: httpx.Client, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    done = client.post(path, json=body)
    assert done.status_code == status, done.text
    return done.json()


def picked(games: Games, number: int = 1) -> list[str]:
    with open(games.folder / f"game-{number:04d}.csv", encoding="utf-8") as file:
        return [row["picked"] for row in csv.DictReader(file)]


def test_a_round_counts_once_however_often_it_is_picked(games: Games, client: httpx.Client) -> None:
    game = post(client, "/start")["game"]
    assert post(client, "/pick", game=game, round=1, side="A")["round"] == 2
    for side in ("A", "B"):  # a double click, and another opinion
        assert post(client, "/pick", game=game, round=1, side=side)["round"] == 2
    with ThreadPoolExecutor(8) as clicks:
        found = list(clicks.map(lambda side: post(client, "/pick", game=game, round=2, side=side), "BABABABA"))
    assert {one["round"] for one in found} == {3}
    assert len(picked(games)) == 2
    for number in range(3, 21):
        last = post(client, "/pick", game=game, round=number, side="B")
        assert len(picked(games)) == number, "saved at once"
    assert last["file"] == "game-0001.csv"
    assert post(client, "/pick", game=game, round=20, side="A") == last
    assert picked(games)[2:] == ["B"] * 18
    assert picked(games)[0] == "A"


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"game": "1"}, 400, "This game is not known here any more. Start another one."),
        ({"game": "../../x"}, 400, "This game is not known"),
        ({"game": 1}, 422, "game: "),
        ({"game": "x" * 101}, 422, "game: "),
        ({"round": 2}, 400, "Round 2 of this game is not open."),
        ({"round": 21}, 400, "Round 21 of this game is not open."),
        ({"round": 0}, 422, "round: "),
        ({"round": "1"}, 422, "round: "),
        ({"side": "C"}, 400, "There is no reply C in this game."),
        ({"side": "I"}, 422, "side: "),
        ({"side": "a"}, 422, "side: "),
        ({"file": "/etc/passwd"}, 422, "file: "),
    ],
)
def test_what_is_no_pick_is_one_clear_line(
    games: Games, client: httpx.Client, changes: dict[str, Any], status: int, message: str
) -> None:
    body = {"game": post(client, "/start")["game"], "round": 1, "side": "A", **changes}
    assert post(client, "/pick", status, **body)["error"].startswith(message)
    assert not games.folder.exists(), "nothing was saved"


def test_nothing_gives_the_real_side_away(games: Games, client: httpx.Client) -> None:
    """Neither a name, nor the order of what is sent, nor anything but the replies themselves; sides differ by round."""
    shown = post(client, "/start")
    rounds = games.rounds(1)
    for number, one in enumerate(rounds, start=1):
        assert list(shown) == ["game", "round", "count", "history", "replies"]
        assert list(shown["replies"].items()) == [("A", one.replies["A"]), ("B", one.replies["B"])]
        assert shown["history"] == [{"own": own, "text": text} for own, text in one.history]
        shown = post(client, "/pick", game=shown["game"], round=number, side="A")
    assert list(shown) == ["game", "count", "verdict", "file"]
    assert {one.real for one in rounds} == {"A", "B"}


def test_games_of_another_pool_stay_apart(tmp_path: Path) -> None:
    """In one folder, games of pairs and of four: files of their own, which say so, each judged by its own guess."""
    for number, (pool, side) in enumerate([(2, "B"), (4, "D"), (2, "A")], start=1):
        games = Games(contexts(), generated(pool=pool), 20, 1337, tmp_path)  # as when the command is started again
        shown = games.start()
        for place in range(1, 21):
            assert len(shown["replies"]) == pool
            shown = games.pick(shown["game"], place, side)
        assert shown["file"] == f"game-{number:04d}.csv"
        with open(tmp_path / shown["file"], encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["pool"], row["picked"]) for row in rows] == [(str(pool), side)] * 20
        assert shown["verdict"].startswith(f"{sum(int(row['right']) for row in rows)} of 20 found")
        assert f"guessing among {pool} finds {100 // pool} %" in shown["verdict"]


def test_games_cannot_be_guessed_and_do_not_pile_up(
    games: Games, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turing, "MOST_GAMES", 3)
    names = [post(client, "/start")["game"] for _ in range(5)]
    assert len(set(names)) == 5
    assert min(map(len, names)) > 20
    assert len(games._games) == 3
    assert "not known" in post(client, "/pick", 400, game=names[0], round=1, side="A")["error"]
    assert post(client, "/pick", game=names[4], round=1, side="B")["round"] == 2
    assert picked(games, 5) == ["B"]


def test_a_pick_that_cannot_be_saved_does_not_count(games: Games, client: httpx.Client) -> None:
    game = post(client, "/start")["game"]
    games.folder.write_text("a file where the folder should be")
    message = post(client, "/pick", 400, game=game, round=1, side="A")["error"]
    assert message.endswith("cannot be saved (File exists).")
    games.folder.unlink()
    assert post(client, "/pick", game=game, round=1, side="B")["round"] == 2
    assert picked(games) == ["B"]


@pytest.mark.parametrize("width", [390, 1280])
def test_a_double_click_and_a_lost_game_in_a_browser(games: Games, width: int) -> None:
    with page_running(make_page(games)) as url, open_page(url, width=width) as (page, errors, _):
        page.wait_for_selector("#pick-a:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_text("question", exact=False).count() == 1
        page.evaluate("document.querySelector('#pick-b').click(); document.querySelector('#pick-b').click()")
        page.get_by_text("Round 2 of 20").wait_for()
        page.keyboard.down("a")
        page.keyboard.down("a")  # held: a repeat is no pick
        page.get_by_text("Round 3 of 20").wait_for()
        assert picked(games) == ["B", "A"]
        assert errors == []
        games._games.clear()  # as after a restart
        page.click("#pick-a")
        page.get_by_text("This game is not known here any more. Start another one.").wait_for()
        page.click("#again")
        page.get_by_text("Round 1 of 20").wait_for()
        assert not page.is_visible("#again")
        assert page.inner_text("#note") == ""
