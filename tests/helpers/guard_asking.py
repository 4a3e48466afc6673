"""The guard, asked as a server would ask it, without one."""

import asyncio
from dataclasses import dataclass
from typing import Any

from jaegpt.chat.access import Guard
from jaegpt.chat.bodies import Bodies
from jaegpt.chat.origins import opened_origins

Headers = dict[str, str] | list[tuple[str, str]]


@dataclass
class Got:
    """What came back, and the bodies that the application behind the guard got."""

    status: int
    headers: dict[str, str]
    text: str
    reached: list[bytes]


async def ask(
    guard: Guard, method: str = "GET", path: str = "/", headers: Headers | None = None, body: Any = (b"",), **scope: Any
) -> Got:
    lines = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    if not any(name == "host" for name, _ in lines):
        lines.append(("host", "localhost:8000"))
    path, _, query = path.partition("?")
    reached: list[bytes] = []
    sent: list[Any] = []
    pieces = list(body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive() -> Any:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        if piece is None:  # a sender who falls silent
            await asyncio.sleep(60)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    guard.app = app
    await guard(
        {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": encoded, **scope},
        receive,
        send,
    )
    if not sent:
        return Got(0, {}, "", reached)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:]).decode(), reached)


def asked(guard: Guard, *arguments: Any, **more: Any) -> Got:
    return asyncio.run(ask(guard, *arguments, **more))


def guard(
    token: str | None = None, *, local: bool | None = None, origins: list[str] | None = None, **bodies: Any
) -> Guard:
    opened = None if origins is None else opened_origins(origins)
    return Guard(None, token, local=local, origins=opened, bodies=Bodies(**bodies))  # type: ignore[arg-type]
