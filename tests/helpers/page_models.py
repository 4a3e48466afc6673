"""The page of `jaegpt web` over two small models, for the tests that talk to it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.chat_models import CONFIG, save_base, save_tuned, speaker
from helpers.page_server import page_running
from jaegpt.chat.web import Page, make_page
from jaegpt.chat.worker import Question, Worker
from jaegpt.generation.speaker import Speaker

SEED = 7
VIEW = {"num_history": 4, "block_size": 128}


def save_both(folder: Path) -> dict[str, Path]:
    """The folders of a tuned and a base model."""
    base = save_base(folder / "base")
    return {"jaegpt": save_tuned(folder / "tuned", base), "base": base}


def load_both(folders: dict[str, Path]) -> dict[str, Speaker]:
    return {name: speaker(folder) for name, folder in folders.items()}


@contextmanager
def web_running(worker: Any, token: str | None = None, root_path: str = "") -> Iterator[str]:
    with page_running(make_page(Page(worker, CONFIG, SEED, VIEW)), token, root_path) as url:
        yield url


class Watched(Worker):
    """A worker that remembers its answers, and waits before each piece of a reply while it is `slow`."""

    def __init__(self, speakers: dict[str, Speaker]) -> None:
        super().__init__(speakers)
        self.given: list[Any] = []
        self.slow = 0.0

    def ask(self, *questions: Question) -> list[Any]:
        answers = [_Slow(answer, self) for answer in super().ask(*questions)]
        self.given += answers
        return answers


class _Slow:
    """An answer that comes slowly, so that a test can act in the middle of it.

    given_up: set when the page no longer wants it.
    """

    def __init__(self, inner: Any, worker: Watched) -> None:
        vars(self).update(inner=inner, worker=worker, given_up=threading.Event())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)
        if name == "wanted" and not value:
            self.given_up.set()

    async def __aiter__(self) -> Any:
        async for event in self.inner:
            await asyncio.sleep(self.worker.slow)
            yield event
