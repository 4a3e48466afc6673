"""`jaegpt turing`: a page that shows a context and some replies, one real and the rest the model's: which is it?

It answers to this machine alone and loads nothing from elsewhere; the contexts are the owner's private messages.
"""

import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field

from jaegpt.chat.pages import Body, Nothing, new_page
from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import Context
from jaegpt.turing.rounds import Round, Side, make_rounds, save_picks, verdict

MOST_GAMES = 1000  # that are remembered; of more, the one started first is forgotten


class Pick(Body):
    """The side picked in a round of a game, by the name that `start` gave it; rounds count from 1."""

    game: Annotated[str, Field(max_length=100)]
    round: Annotated[int, Field(ge=1, le=1_000_000)]
    side: Side


@dataclass
class _Game:
    """A game under way: its number, its rounds, and the sides picked so far."""

    number: int
    rounds: list[Round]
    picks: list[Side] = field(default_factory=list)


class Games:
    """All games of this run, under names that cannot be guessed. A game's rounds follow from the seed and its number.

    Args:
        contexts, generated: what is shown, as `make_rounds` takes it.
        count: rounds per game.
        folder: where each game is saved, as game-0001.csv and so on; numbers that are taken are skipped.

    Raises:
        JaegptError: there are not enough contexts.
    """

    def __init__(
        self, contexts: Sequence[Context], generated: Sequence[Sequence[str]], count: int, seed: int, folder: Path
    ) -> None:
        self.contexts = contexts
        self.generated = generated
        self.count = count
        self.seed = seed
        self.folder = folder
        self.rounds(1)
        taken = [
            int(found[1]) for path in folder.glob("game-*.csv") if (found := re.search(r"-(\d+)\.csv$", path.name))
        ]
        self._number = max(taken, default=0)
        self._games: dict[str, _Game] = {}
        self._lock = threading.Lock()

    def rounds(self, game: int) -> list[Round]:
        """The rounds of game number `game`."""
        return make_rounds(self.contexts, self.generated, self.count, (self.seed, game))

    def start(self) -> dict[str, Any]:
        """A new game, and its first round as it is shown."""
        with self._lock:
            self._number += 1
            name = secrets.token_urlsafe(16)
            self._games[name] = _Game(self._number, self.rounds(self._number))
            if len(self._games) > MOST_GAMES:
                del self._games[next(iter(self._games))]
            return _shown(name, self._games[name])

    def pick(self, name: str, number: int, side: Side) -> dict[str, Any]:
        """The choice in round `number`, saved at once; what is shown next.

        A round counts once: a second pick, as a double click or a repeated request sends it, changes nothing.

        Raises:
            JaegptError: there is no such game, round or reply, or the disk does not take the pick.
        """
        with self._lock:
            game = self._games.get(name)
            if game is None:
                raise JaegptError("This game is not known here any more. Start another one.")
            if number > min(len(game.picks) + 1, len(game.rounds)):
                raise JaegptError(f"Round {number:,} of this game is not open.")
            if number == len(game.picks) + 1:
                if side not in game.rounds[0].replies:
                    raise JaegptError(f"There is no reply {side} in this game.")
                picks = [*game.picks, side]
                path = self.folder / _file(game.number)
                try:
                    save_picks(path, game.rounds, picks)
                except OSError as error:
                    raise JaegptError(f"{path}: cannot be saved ({error.strerror}).") from None
                game.picks = picks
            return _shown(name, game)


def make_page(games: Games) -> FastAPI:
    """The page as an application at `/`."""
    app = new_page("turing")

    @app.post("/start")
    def start(_: Nothing) -> dict[str, Any]:
        return games.start()

    @app.post("/pick")
    def pick(picked: Pick) -> dict[str, Any]:
        return games.pick(picked.game, picked.round, picked.side)

    return app


def _shown(name: str, game: _Game) -> dict[str, Any]:
    """What the page shows now; which reply is real is never among it."""
    done, count = len(game.picks), len(game.rounds)
    if done == count:
        return {"game": name, "count": count, "verdict": verdict(game.rounds, game.picks), "file": _file(game.number)}
    now = game.rounds[done]
    history = [{"own": is_owner, "text": text} for is_owner, text in now.history]
    return {"game": name, "round": done + 1, "count": count, "history": history, "replies": now.replies}


def _file(number: int) -> str:
    return f"game-{number:04d}.csv"
