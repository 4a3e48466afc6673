"""The web server behind the page and the API: uvicorn, with the limits it lacks.

uvicorn waits for ever for a request's head, and for a reader who does not read; it takes connections until the process
may open no more files, and then takes none; and it writes a line for each bad request.
"""

import asyncio
import json
import math
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jaegpt.chat.access import App, Asked
from jaegpt.chat.faults import error_body

BACKLOG = 1024  # connections that the system holds until they are taken
AT_ONCE = 128  # connections taken in one go, before any can be refused
MOST_FILES = 4096


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server puts up with.

    connections: open at a time. refused: more that are open until they have been answered that the server is busy.
    head_s: seconds from a connection, or the end of the answer before, to the end of a request's head.
    write_s: seconds without a reader taking anything, once some 64 kB wait for it.
    """

    connections: int = 2000
    refused: int = 128
    head_s: float = 10
    write_s: float = 30


class _Connection(H11Protocol):
    """uvicorn's connection with deadlines; of too many, the one that has sent nothing for longest is closed."""

    def __init__(self, limits: Limits, **others: Any) -> None:
        super().__init__(**others)
        self._limits = limits
        self._since = self.loop.time()
        self._head: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None
        self._unsent = math.inf

    @property
    def waits(self) -> bool:
        """Whether there is no request to answer: no head has come since the last answer."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def incomplete(self) -> bool:
        """Whether no whole request has come yet: closing it would cost its sender time, and no answer."""
        return self.waits or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head, self._write):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write = self.loop.call_later(self._limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write:
            self._write.cancel()

    def send_400_response(self, msg: str) -> None:
        """JSON, as every other error; where an answer is on its way already, the connection is cut."""
        body = json.dumps(error_body(400, msg)).encode()
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        events = [h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        try:
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            return self.transport.abort()
        self.transport.close()

    def _watch(self) -> None:
        """Start the deadline for a request's head when one is awaited, and stop it when it has come."""
        if not self.waits:
            if self._head:
                self._head.cancel()
                self._head = None
        elif self._head is None:
            self._unsent = math.inf
            self._head = self.loop.call_later(self._limits.head_s, self._late)

    def _late(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:  # the answer before is still being read, by a slow reader
            self._unsent = unsent
            self._head = self.loop.call_later(self._limits.head_s, self._late)
        else:
            self.transport.abort()

    def _make_room(self) -> None:
        alive = [each for each in self.connections if isinstance(each, _Connection) and not each.transport.is_closing()]
        over = len(alive) - self._limits.connections
        if over <= 0:
            return
        awaited = [each for each in alive if each.incomplete and each is not self]
        refused = [each for each in awaited if each.app is _busy]
        # Those that are being refused anyway are left in peace while there are others to close.
        if len(refused) < len(awaited):
            awaited = [each for each in awaited if each.app is not _busy]
        elif over <= self._limits.refused:  # all others are being answered, or will soon get the same answer
            self.app = _busy
            return
        min(awaited, key=lambda each: each._since, default=self).transport.abort()


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    text = "busy: too many connections. Try again soon."
    await Asked(scope, receive, send).answer(503, text, [("retry-after", "1"), ("connection", "close")])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)  # asyncio takes its own number for both, this and how many it takes in one go


DEFAULT_LIMITS = Limits()


def make_server(app: App, limits: Limits = DEFAULT_LIMITS) -> uvicorn.Server:
    """A server for `app` that says nothing on the console; `app` itself reports what it has to."""
    files = _most_files()
    at_once = min(AT_ONCE, max(8, files // 8))
    # Beside the connections: those just taken, just closed, or refused, and the files of models, logs and so on.
    room = max(16, files - 3 * at_once - 64)
    limits = replace(limits, connections=min(limits.connections, room), refused=min(limits.refused, at_once))
    config = uvicorn.Config(
        app,
        http=cast(Any, partial(_Connection, limits)),
        ws="none",
        lifespan="on",
        log_level="critical",
        access_log=False,
        server_header=False,
        backlog=at_once,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=16_384,
    )
    return _Server(config)


def _most_files() -> int:
    """How many files this process may open, after asking for more where there are few."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def serve(app: App, listener: socket.socket, ready: str) -> None:
    """Print the line `ready`, and serve until interrupted (Ctrl-C is how it ends)."""
    server = make_server(app)

    def stop(*_: object) -> None:
        server.should_exit = True

    # For the time until uvicorn handles the signal itself. KeyboardInterrupt would not do: Python drops it where it is
    # raised inside the garbage collector or another callback, and the server would run on.
    before = signal.signal(signal.SIGINT, stop)
    try:
        print(ready, flush=True)
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGINT, before)
