"""What the pages of `jaegpt web` and `jaegpt turing` have in common: few routes, strict headers, a path prefix.

A page is a handful of files of this package and a few POST routes that take JSON. No route takes a path or an address,
and the server calls nobody.
"""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from jaegpt.chat.access import App, Guard, Message, Receive, Scope, Send
from jaegpt.errors import JaegptError

FOLDER = Path(__file__).parent / "static"
COMMON_FILES = ("page.css", "page.js", "icon.svg")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*")


class Body(BaseModel):
    """A request's JSON: types are not converted, and unknown names are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Nothing(Body):
    """An empty JSON object."""


def new_page(name: str) -> FastAPI:
    """An application with `name`.html at `/`, its files beside it, and errors as {"error": one line}."""
    # Without a schema, pages about it, or redirects to an address that the request names.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_file(app, "/", f"{name}.html")
    for file in (f"{name}.js", *COMMON_FILES):
        _add_file(app, f"/{file}", file)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, _first_fault(error.errors()))

    @app.exception_handler(JaegptError)
    async def mistake(_: Request, error: JaegptError) -> JSONResponse:
        return problem(400, str(error))

    return app


def problem(status: int, text: str) -> JSONResponse:
    """An error as the pages read it."""
    return JSONResponse({"error": text}, status)


def outermost(app: App, token: str | None, root_path: str = "", local: bool | None = None) -> App:
    """`app` as it is served: behind the guard, under `root_path`, and with the headers on every response.

    Args:
        token, local: as Guard takes them.
        root_path: as `checked_prefix` gives it.
    """
    return _Outermost(Guard(app, token, local=local), root_path)


def checked_prefix(text: str) -> str:
    """The path prefix as `/a/b`, or nothing for the root; a slash at its end does not matter.

    Raises:
        JaegptError: it is no path, or holds what would have to be escaped.
    """
    prefix = text.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise JaegptError(f"--root-path must be like /jaegpt (letters, digits, _, -, . and ~), found {text!r}.")
    return prefix


class _Outermost:
    """The outermost ASGI middleware: the path's prefix, the kind of body, the headers."""

    def __init__(self, app: App, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name, value) for name, value in message["headers"] if name.decode("latin-1") not in HEADERS]
                ours = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in HEADERS.items()]
                message["headers"] = own + ours
            await send(message)

        response: App | None = None
        if self.root_path and scope["path"] == self.root_path:  # relative addresses need the slash at its end
            query = scope["query_string"].decode("latin-1")
            location = f"{self.root_path}/{f'?{query}' if query else ''}"
            response = Response(status_code=307, headers={"location": location})
        elif scope["method"] == "POST" and not _is_json(scope):
            # No form can send this type, and no script of another origin without asking first.
            response = problem(415, "Send JSON, with the header content-type: application/json.")
        if response is not None:
            return await response(scope, receive, send_with_headers)
        await self.app(self._prefixed(scope), receive, send_with_headers)

    def _prefixed(self, scope: Scope) -> Scope:
        """The path with the prefix, as ASGI has it, whether or not the proxy in front has stripped it."""
        if not self.root_path:
            return scope
        path = scope["path"]
        if not path.startswith(f"{self.root_path}/"):
            path = self.root_path + path
        return {**scope, "root_path": self.root_path, "path": path, "raw_path": path.encode()}


def events_response(events: AsyncIterator[str]) -> Response:
    """Server-sent events, passed on at once by proxies that know the header."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _add_file(app: FastAPI, path: str, name: str) -> None:
    content = (FOLDER / name).read_bytes()  # read once, so that no request reaches the disk

    async def file() -> Response:
        return Response(content, headers={"content-type": _KINDS[Path(name).suffix]})

    app.get(path)(file)


def _is_json(scope: Scope) -> bool:
    kinds = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"]
    return [kind.partition(";")[0].strip().lower() for kind in kinds] == ["application/json"]


def _first_fault(errors: Sequence[Any]) -> str:
    """Where the first fault of a body is and what it is; never what was sent."""
    first = errors[0]
    return f"{'.'.join(map(str, first['loc'][1:])) or 'the body'}: {first['msg']}."
