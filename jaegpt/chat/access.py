"""Who may talk to the page and the server: this machine alone, or whoever knows the token; and no web site."""

import hmac
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from jaegpt.chat.bodies import Bodies, Left, Refused, discard, replayed
from jaegpt.chat.faults import error_body, report_fault
from jaegpt.chat.origins import Headers, foreign, is_loopback, normal_origin, opened, preflight, split_host
from jaegpt.errors import JaegptError

_COOKIE = "jaegpt_token"
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]+")  # what stands unchanged in an address, a header and a cookie

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware in front of `app`, which gets whole requests only, from those who may ask.

    A refusal is JSON as OpenAI's clients read it, and plain text where a browser shows it. What `app` raises is
    reported without its words and answered with status 500.

    Args:
        token: None on a loopback address: then only requests that name this machine as their host pass, so that no
            web site can reach it through a browser by a name of its own that resolves here (DNS rebinding). Otherwise
            the token is asked for, as `Authorization: Bearer TOKEN`, or as `?token=TOKEN` once, which a
            cookie then remembers.
        local: whether the address is a loopback one; where there is no token it is.
        origins: of pages elsewhere whose scripts may ask all the same, as `opened_origins` gives them; with a token
            they need it in the header. None where there is no way to open any.
        bodies: reads the requests' bodies, within its limits.
    """

    def __init__(
        self,
        app: App,
        token: str | None,
        *,
        local: bool | None = None,
        origins: Collection[str] | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self.app = app
        self.token = token
        self.local = token is None if local is None else local
        self.origins = origins
        self.bodies = bodies or Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here uses them
            return await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = Asked(scope, receive, send)
        headers = asked.headers
        origin = self._opened_origin(headers)
        if origin:
            asked.always = opened(origin)
        if refusal := self._refused_host(headers) or (None if origin else self._refused_page(asked)):
            return await asked.answer(*refusal)
        if origin and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return await asked.answer(204, "", preflight(headers))
        if self.token is not None:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if any(key == "token" and self._is_token(value) for key, value in query):
                return await self._enter(asked, query)
            if not self._knows_token(headers, cookies=not origin):
                return await asked.answer(401, "A token is needed: open the address that was printed at the start.")
        await self._pass_on(asked)

    async def _pass_on(self, asked: "Asked") -> None:
        """Let the application answer, once the body is here."""
        try:
            lengths = asked.headers.get("content-length", [])
            length = int(lengths[0]) if lengths and lengths[0].isdecimal() else None
            body = await self.bodies.read(length, asked.receive)
        except Left:
            return
        except Refused as refused:
            more = [("retry-after", "1")] if refused.status == 503 else []
            return await asked.answer(refused.status, str(refused), more)
        try:
            await self.app(asked.scope, replayed(body, asked.receive), asked.send_on)
        except Exception as error:  # the server must outlive any one request
            report_fault(error)
            if not asked.started:
                await asked.answer(500, f"the server failed ({type(error).__name__}). See the server's output.")

    def _opened_origin(self, headers: Headers) -> str | None:
        sent = headers.get("origin", [])
        origin = normal_origin(sent[0]) if len(sent) == 1 else None
        return sent[0] if origin in (self.origins or ()) else None

    def _refused_host(self, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) > 1:
            return 400, "The header Host stands twice."
        if not self.local:
            return None
        asked = split_host(hosts[0]) if hosts else None
        if asked and is_loopback(asked[0]):
            return None
        name = repr(hosts[0][:100]) if hosts else "no name"
        return 403, (
            f"This server answers to localhost only, and was asked as {name}. Ask for http://localhost and its port. "
            "From another machine or a container (host.docker.internal): start it with --host and an address that can "
            "be reached from there, and it asks for a token; or give the container this machine's network "
            "(docker run --network host)."
        )

    def _refused_page(self, asked: "Asked") -> tuple[int, str] | None:
        where = foreign(asked.scope["method"], asked.route, asked.headers)
        if where is None:
            return None
        remedy = "" if self.origins is None else " `jaegpt serve --allow-origin URL` opens the server to one of them."
        return 403, f"Pages elsewhere are not answered, found {where[:200]!r}.{remedy}"

    async def _enter(self, asked: "Asked", query: list[tuple[str, str]]) -> None:
        """Remember the token, and go on to the same path without it."""
        rest = urlencode([(key, value) for key, value in query if key != "token"])
        # The path's last name alone, from "./" on: it cannot leave this server, nor a prefix that a proxy has added.
        location = f"./{quote(asked.route.rpartition('/')[2])}" + (f"?{rest}" if rest else "")
        path = asked.scope.get("root_path") or "/"
        headers = [
            ("set-cookie", f"{_COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path={quote(path)}"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ]
        if not asked.in_browser:
            return await asked.answer(303, "", [*headers, ("location", location)])
        # A redirect would not do: after a link from elsewhere a browser sends no SameSite=Strict cookie to where a
        # redirect leads. A page that goes on by itself is of this server, so the cookie is sent.
        page = f'<!doctype html><title>jaegpt</title><meta http-equiv="refresh" content="0; url={escape(location)}">'
        await asked.answer(200, page, headers, kind="text/html")

    def _knows_token(self, headers: Headers, cookies: bool) -> bool:
        found = []
        for text in headers.get("authorization", []):
            scheme, _, value = text.partition(" ")
            if scheme.lower() == "bearer":
                found.append(value.strip())
        if cookies:  # which all ports of a host share, so cookies of other programs stand there too, in any form
            pairs = [pair.strip().partition("=") for text in headers.get("cookie", []) for pair in text.split(";")]
            found += [value for name, _, value in pairs if name == _COOKIE]
        return any(self._is_token(text) for text in found)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), (self.token or "").encode())


class Asked:
    """One request, and the ways to answer it; `always` are headers of whatever is answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        self.receive = receive
        self.started = False
        self.always: list[tuple[str, str]] = []
        self._send = send

    @property
    def route(self) -> str:
        """The path below the prefix that a proxy adds."""
        path, prefix = self.scope["path"], self.scope.get("root_path", "").rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path

    @property
    def in_browser(self) -> bool:
        """Whether a person is to see the answer."""
        return any("text/html" in text for text in self.headers.get("accept", []))

    async def send_on(self, message: Message) -> None:
        """Send, with the headers of `always`."""
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", []), *_encoded(self.always)]}
        await self._send(message)

    async def answer(
        self, status: int, text: str, headers: Collection[tuple[str, str]] = (), kind: str = "text/plain"
    ) -> None:
        """Answer in the application's place; an error as JSON, or as text for people. The body's rest is not read."""
        if status >= 400 and not self.in_browser:
            text, kind = json.dumps(error_body(status, text)), "application/json"
        body = text.encode()
        sized = (
            [] if status == 204 else [("content-type", f"{kind}; charset=utf-8"), ("content-length", f"{len(body)}")]
        )
        unread = "transfer-encoding" in self.headers or self.headers.get("content-length", ["0"]) != ["0"]
        closing = [("connection", "close")] if unread else []
        lines = [*sized, ("x-content-type-options", "nosniff"), *closing, *headers]
        await self.send_on({"type": "http.response.start", "status": status, "headers": _encoded(lines)})
        if unread:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await discard(self.receive)
            body = b""
        await self._send({"type": "http.response.body", "body": body})


def _encoded(headers: Collection[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def choose_token(host: str) -> str | None:
    """JAEGPT_TOKEN; without it None on a loopback address, else a new one. It warns where others reach the address.

    Raises:
        JaegptError: JAEGPT_TOKEN holds other characters than a token may have.
    """
    token = os.environ.get("JAEGPT_TOKEN") or None
    if not is_loopback(host.lower()):
        print(
            f"warning: {host} can be reached from other machines, and what is said travels unencrypted. Whoever has "
            "the token can talk to a model that may repeat private messages.",
            file=sys.stderr,
        )
        token = token or secrets.token_urlsafe(24)
    if token and not _TOKEN.fullmatch(token):
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
