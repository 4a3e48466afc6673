"""A server or page in a thread, for tests that talk to it as its users do."""

import threading
import time
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
    listener = bind("127.0.0.1", 0)
    server = make_server(Guard(app, token, **guard), limits)
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
