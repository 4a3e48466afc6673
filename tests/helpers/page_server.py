"""A page in a thread, served as the commands serve it: behind the guard, with its headers, under a path prefix."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers.chat_server import serving
from jaegpt.chat.pages import outermost


@contextmanager
def page_running(app: Any, token: str | None = None, root_path: str = "") -> Iterator[str]:
    """Serve the page `app` on a free port of this machine; its address, without the prefix."""
    with listening(outermost(app, token, root_path)) as url:
        yield url


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve `app` as it is; a test's own app, like a proxy, may know of requests alone."""
    with serving(app, lifespan="auto") as url:
        yield url
