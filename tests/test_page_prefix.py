"""The pages behind a reverse proxy that shows them under a path of its own, which it strips or passes on."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.browser import open_page
from helpers.page_actions import SLOW, bubbles, send
from helpers.page_models import load_both, save_both, web_running
from helpers.page_server import listening, page_running
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from test_turing import contexts, generated

from jaegpt.chat.worker import Worker
from jaegpt.turing.page import Games, make_page

PREFIX = "/a/jaegpt"


class Proxy:
    """Passes requests below PREFIX on to `target`, and answers 404 to all others."""

    def __init__(self, target: str, strips: bool) -> None:
        self.target = target
        self.strips = strips
        self.outside: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        path = scope["path"]
        if path != PREFIX and not path.startswith(f"{PREFIX}/"):
            self.outside.append(path)
            return await PlainTextResponse("elsewhere", 404)(scope, receive, send)
        if self.strips:
            path = path.removeprefix(PREFIX) or "/"
        query = scope["query_string"].decode()
        async with httpx.AsyncClient(timeout=60) as client:
            asked = client.build_request(
                request.method,
                f"{self.target}{path}" + (f"?{query}" if query else ""),
                headers=request.headers.raw,
                content=await request.body(),
            )
            found = await client.send(asked, stream=True)
            answer = StreamingResponse(found.aiter_raw(), found.status_code)
            answer.raw_headers = found.headers.raw
            await answer(scope, receive, send)


@pytest.mark.parametrize("token", [None, "sesame"])
@pytest.mark.parametrize("strips", [True, False])
def test_the_page_works_behind_a_proxy(strips: bool, token: str | None, tmp_path: Path) -> None:
    with (
        Worker(load_both(save_both(tmp_path))) as worker,
        web_running(worker, token, PREFIX) as target,
        listening(proxy := Proxy(target, strips)) as outer,
        open_page(f"{outer}{PREFIX}/{f'?token={token}' if token else ''}") as (page, errors, requests),
    ):
        page.wait_for_selector("body[data-ready]")
        errors.clear()  # a browser asks for an icon of its own accord, where it comes by an address with a token
        page.reload()
        send(page, "hello")
        page.wait_for_selector("#column-base[aria-busy=false] li:nth-child(2)", timeout=SLOW)
        assert bubbles(page, "base")[1]
        assert page.url == f"{outer}{PREFIX}/"
        assert errors == []
        assert len(requests) >= 6
        outside = {path for path in proxy.outside if path != "/favicon.ico"}
        assert outside == {url for url in requests if not url.startswith(f"{outer}{PREFIX}/")} == set()


def test_turing_works_behind_a_proxy(tmp_path: Path) -> None:
    games = Games(contexts(), generated(), 20, 1337, tmp_path)
    for strips in (True, False):
        with page_running(make_page(games), None, PREFIX) as target:
            proxy = Proxy(target, strips)
            with listening(proxy) as outer, open_page(f"{outer}{PREFIX}/") as (page, errors, _):
                page.wait_for_selector("#pick-a:visible")
                page.click("#pick-a")
                page.get_by_text("Round 2 of 20").wait_for()
                assert errors == []
                assert proxy.outside == []
    assert len(list(tmp_path.glob("game-*.csv"))) == 2


def test_the_prefix_can_be_left_out_and_its_slash_is_added(tmp_path: Path) -> None:
    """A browser resolves the page's relative addresses at the slash; where to comes from the option alone."""
    app = make_page(Games(contexts(), generated(), 20, 1337, tmp_path))
    with page_running(app, None, PREFIX) as url, httpx.Client(base_url=url) as client:
        for path in ("/", "/page.js", f"{PREFIX}/", f"{PREFIX}/page.js"):
            assert client.get(path).status_code == 200, path
        for path in (f"{PREFIX}{PREFIX}/", "/a/", "/a", "//evil.example/", f"{PREFIX}/page.js/"):
            assert client.get(f"{url}{path}").status_code == 404, path
        moved = client.get(f"{PREFIX}?a=1", headers={"host": "localhost", "x-forwarded-host": "evil.example"})
        assert (moved.status_code, moved.headers["location"]) == (307, f"{PREFIX}/?a=1")
