"""A page of another origin in a real browser: what it can get from the server, with and without being let in."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import open_page
from helpers.chat_server import running
from helpers.slow_server import CONFIG, Slow

from jaegpt.chat.origins import opened_origins
from jaegpt.chat.server import make_app
from jaegpt.chat.worker import Worker

ASK = """async ([url, headers, credentials]) => {
  const json = {"content-type": "application/json", ...headers};
  const body = JSON.stringify({model: "jaegpt", messages: [{role: "user", content: "hello"}]});
  const read = async (path, options) => {
    try {
      const response = await fetch(url + path, {credentials, ...options});
      return [response.status, await response.text()];
    } catch (error) { return [0, String(error)]; }
  };
  const image = new Promise(done => {
    const element = new Image();
    element.onload = () => done("load");
    element.onerror = () => done("error");
    element.src = url + "/health";
  });
  return {
    models: await read("/v1/models", {headers}),
    simple: await read("/v1/chat/completions", {method: "POST", body, headers: {"content-type": "text/plain"}}),
    blind: (await read("/v1/chat/completions", {method: "POST", body, mode: "no-cors"}))[1],
    chat: await read("/v1/chat/completions", {method: "POST", body, headers: json}),
    image: await image,
  };
}"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Another program's page on another port of this machine: the same site, but another origin."""
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = functools.partial(QuietFiles, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("token", [None, "sesame"])
def test_a_page_elsewhere_gets_nothing_unless_it_is_let_in(elsewhere: str, token: str | None) -> None:
    slow = Slow(0.0)
    headers = {"authorization": f"bearer {token}"} if token else {}
    with Worker({"jaegpt": slow}) as worker:  # type: ignore[dict-item]
        app = make_app(worker, CONFIG, 7, 128)
        other = elsewhere.replace("127.0.0.1", "localhost")  # another site than the server
        with running(app, token, origins=opened_origins(["http://localhost:1"])) as url:
            for page_url in (elsewhere, other):
                with open_page(page_url) as (page, _, _):
                    if token:
                        page.goto(f"{url}/?token={token}")  # it has been here, so its cookie would go along
                        page.wait_for_function("location.search === ''")
                        assert page.context.cookies(url)[0]["sameSite"] == "Strict"
                        page.goto(page_url)
                    for credentials in ("include", "omit"):
                        got = page.evaluate(ASK, [url, headers, credentials])
                        assert [got[name][0] for name in ("models", "simple", "chat")] == [0, 0, 0], got
                        assert (got["blind"], got["image"]) == ("", "error")
            assert slow.asked == 0
        with running(app, token, origins=opened_origins([elsewhere])) as url:
            with open_page(elsewhere) as (page, _, _):
                got = page.evaluate(ASK, [url, headers, "same-origin"])
                assert [got[name][0] for name in ("models", "chat")] == [200, 200], got
                assert '"content":"yes"' in got["chat"][1]
                assert page.evaluate(ASK, [url, headers, "include"])["chat"][0] == 0, "no credentials of the browser's"
            with open_page(other) as (page, _, _):
                assert page.evaluate(ASK, [url, headers, "omit"])["chat"][0] == 0
