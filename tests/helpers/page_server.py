"""A page in a thread, served as the commands serve it: behind the guard, with its headers, under a path prefix."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaegpt.chat.access import bind
from jaegpt.chat.connections import make_server
from jaegpt.chat.pages import outermost


@contextmanager
def page_running(app: Any, token: str | None = None, root_path: str = "") -> Iterator[str]:
    """Serve the page `app` on a free port of this machine; its address, without the prefix."""
    with listening(outermost(app, token, root_path)) as url:
        yield url


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve `app` as it is."""
    listener = bind("127.0.0.1", 0)
    server = make_server(app)
    server.config.lifespan = "auto"  # a test's own app, like a proxy, may know of requests alone
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in a minute"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()
