"""A server or page in a thread, for tests that talk to it as its users do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaegpt.chat.access import Guard, bind
from jaegpt.chat.connections import DEFAULT_LIMITS, Limits, make_server


@contextmanager
def running(app: Any, token: str | None = None, limits: Limits = DEFAULT_LIMITS, **guard: Any) -> Iterator[str]:
    """Serve `app` behind the guard on a free port of this machine; its address.

    Args:
        guard: what the guard takes besides.
    """
    with serving(Guard(app, token, **guard), limits) as url:
        yield url


@contextmanager
def serving(app: Any, limits: Limits = DEFAULT_LIMITS, lifespan: str | None = None) -> Iterator[str]:
    """Serve `app` as it is.

    Args:
        lifespan: uvicorn's option; by default what the commands use.
    """
    listener = bind("127.0.0.1", 0)
    server = make_server(app, limits)
    server.config.lifespan = lifespan or server.config.lifespan
    startup, started = server.startup, threading.Event()

    async def noted_startup(*arguments: Any, **more: Any) -> None:
        await startup(*arguments, **more)
        started.set()

    server.startup = noted_startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(60), "the server did not start in a minute"
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()
