"""Who may talk to the page and the server: this machine alone, or, elsewhere, who knows the token."""

import hmac
import ipaddress
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jaegpt.errors import JaegptError

_COOKIE = "jaegpt_token"
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]+")  # what stands unchanged in an address, a header and a cookie

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware in front of `app`.

    Args:
        token: None on a loopback address: then only requests that name this machine as their host pass, so that no
            web site can reach through a browser by a name of its own that resolves here. Otherwise the token is asked
            for, as `Authorization: Bearer TOKEN`, or as `?token=TOKEN` once, which a cookie then remembers.
    """

    def __init__(self, app: App, token: str | None) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here uses them
            return await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.token is None:
            if _is_loopback(re.sub(r":\d+$", "", headers.get("host", "")).strip("[]")):
                return await self.app(scope, receive, send)
            return await _respond(send, 403, "This server answers to localhost only.")
        if self._knows_token(headers):
            return await self.app(scope, receive, send)
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if self._is_token(dict(query).get("token", "")):
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            location = scope["path"] + (f"?{rest}" if rest else "")
            cookie = f"{_COOKIE}={self.token}; HttpOnly; SameSite=Lax; Path=/"
            return await _respond(send, 303, "", [("location", location), ("set-cookie", cookie)])
        return await _respond(send, 401, "A token is needed: open the address that was printed at the start.")

    def _knows_token(self, headers: dict[str, str]) -> bool:
        # Cookies are shared by all ports of a host, so others' stand there too, of whatever form.
        cookies = [cookie.strip().partition("=") for cookie in headers.get("cookie", "").split(";")]
        found = [value for name, _, value in cookies if name == _COOKIE]
        found.append(headers.get("authorization", "").removeprefix("Bearer "))
        return any(self._is_token(text) for text in found)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self.token or "").encode())


async def _respond(send: Send, status: int, text: str, headers: list[tuple[str, str]] | None = None) -> None:
    lines = [("content-type", "text/plain; charset=utf-8"), *(headers or [])]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})


def choose_token(host: str) -> str | None:
    """None on a loopback address; else JAEGPT_TOKEN, or a new one, with a warning on standard error.

    Raises:
        JaegptError: JAEGPT_TOKEN holds other characters than a token may have.
    """
    if _is_loopback(host):
        return None
    print(
        f"warning: {host} can be reached from other machines, and what is said travels unencrypted. Whoever has the "
        "token can talk to a model that may repeat private messages.",
        file=sys.stderr,
    )
    token = os.environ.get("JAEGPT_TOKEN") or secrets.token_urlsafe(24)
    if not _TOKEN.fullmatch(token):
        raise JaegptError("JAEGPT_TOKEN: may hold letters, digits, _, -, . and ~ only. Choose another, or unset it.")
    return token


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        JaegptError: the address is not this machine's, or the port is taken or not allowed.
    """
    if not 0 <= port <= 65535:
        raise JaegptError(f"--port must be from 0 to 65535, found {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        raise JaegptError(f"cannot listen on {host}, port {port} ({error}). Give another --host or --port.") from None
    return listener


def serve(app: App, listener: socket.socket, ready: str) -> None:
    """Print the line `ready`, and serve until interrupted (Ctrl-C is how it ends)."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))

    def stop(*_: object) -> None:
        server.should_exit = True

    # Until uvicorn minds the signal, and in place of KeyboardInterrupt: Python drops that where it comes while the
    # garbage collector or another callback is at work, and the server would run on.
    before = signal.signal(signal.SIGINT, stop)
    try:
        print(ready, flush=True)
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGINT, before)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
