"""A request's body, read whole before the application runs, up to a size and within a time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

# A conversation of 4,000 messages, or 30 times what is read of one text (MAX_TEXT). JSON of this size is read in some
# 10 ms, in which nobody else is answered.
MOST_BYTES = 2**20
MOST_HELD = 64 * MOST_BYTES  # of all bodies that are being read
BODY_S = 30  # 35 kB/s for the longest
DISCARD_BYTES = 4 * MOST_BYTES
DISCARD_S = 1

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Refused(Exception):
    """A body that is not read to its end, with the status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Left(Exception):
    """The caller is gone."""


class Bodies:
    """Reads bodies, of which no more than `most_held` bytes are here at a time.

    Args:
        most_bytes: of one body. body_s: seconds that one may take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_held: int = MOST_HELD, body_s: float = BODY_S) -> None:
        self.most_bytes = most_bytes
        self.most_held = most_held
        self.body_s = body_s
        self.held = 0

    async def read(self, length: int | None, receive: Receive) -> bytes:
        """The body.

        Args:
            length: what the header Content-Length says.

        Raises:
            Refused: it is too long, takes too long, or too many are being read.
            Left: the caller left before its end.
        """
        too_long = Refused(413, f"The body is longer than {self.most_bytes:,} bytes. Send less of the conversation.")
        if length is not None and length > self.most_bytes:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Left
                    piece = message.get("body", b"")
                    if len(body) + len(piece) > self.most_bytes:
                        raise too_long
                    if self.held + len(piece) > self.most_held:
                        raise Refused(503, "busy: too many long requests are on their way. Try again soon.")
                    body += piece
                    self.held += len(piece)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise Refused(408, f"The body did not come within {self.body_s:g} seconds.") from None
        finally:
            self.held -= len(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for the application: the whole body once, then what comes after it, which is the caller's leaving."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


async def until_left(receive: Receive) -> None:
    """Return when the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def discard(receive: Receive) -> None:
    """Read on a little after the answer: closing a connection while the caller still sends would lose the answer."""
    left = DISCARD_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                left -= len(message.get("body", b""))
