"""Other web sites against the pages, in headless Chromium: nothing is read, started or saved, and nobody is called.

The attacker stands on another port of the same host (the same site to a browser, so that cookies go along) and on
another host name.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from helpers.browser import open_page
from helpers.page_models import Watched, load_both, save_both, web_running
from helpers.page_server import listening, page_running
from starlette.responses import HTMLResponse
from test_turing import contexts, generated

from jaegpt.turing.page import Games, make_page

TOKEN = "sesame"
ASK = {"text": "tell me", "before": [], "attempt": 0, "settings": {}, "seed": "7"}


def spellings(address: str) -> list[str]:
    """Paths that would have a server fetch `address`, or open a file."""
    once = quote(address, safe="")
    forms = [address, once, quote(once, safe=""), address.replace("//", "/"), "//" + address.partition("//")[2]]
    forms += ["/etc/passwd", quote("/etc/passwd", safe=""), "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"]
    places = ["file=", "file/", "proxy=", "file?path=", "component_server?fn_name=ls&data=", "static/", "assets/", ""]
    return [f"{prefix}{place}{form}" for prefix in ("", "gradio_api/") for place in places for form in forms]


class Listener:
    """Another web server of this machine, which remembers the requests that come to it."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
            await HTMLResponse("<title>elsewhere</title>secret")(scope, receive, send)


# What a page of another origin can try; the names of the attempts that gave it anything come back.
ATTACK = """async ([target, paths, ask]) => {
  const read = [];
  const settled = (made, name) => new Promise(resolve => {
    made.onload = () => { read.push(name); resolve(); };
    made.onerror = () => resolve();
    setTimeout(resolve, 5000);
    document.body.append(made);
  });
  const body = JSON.stringify(ask);
  const json = {"content-type": "application/json"};
  await Promise.all(["", "web.js", "turing.js", "page.css", "begin", "start", ...paths].map(async path => {
    for (const mode of ["no-cors", "cors"])
      try {
        const text = await (await fetch(`${target}/${path}`, {mode, credentials: "include"})).text();
        if (text) read.push(`${mode} ${path}`);
      } catch {}
  }));
  for (const path of ["begin", "start", "pick", "reply", "load"]) {
    const url = `${target}/${path}`;
    for (const data of [body, "{}"]) {
      for (const headers of [json, {"content-type": "text/plain"}, {}])
        for (const mode of ["cors", "no-cors"])
          try {
            if (await (await fetch(url, {method: "POST", body: data, headers, mode, credentials: "include"})).text())
              read.push(`POST ${mode} ${path}`);
          } catch {}
      navigator.sendBeacon(url, data);
      navigator.sendBeacon(url, new Blob([data], {type: "text/plain"}));
    }
    const form = Object.assign(document.createElement("form"),
      {action: url, method: "POST", enctype: "text/plain", target: "frame"});
    form.append(Object.assign(document.createElement("input"), {name: body.slice(0, -1) + ', "x": "', value: '"}'}));
    document.body.append(form);
    form.submit();
  }
  const parts = (tag, ...from) => from.map(path =>
    settled(Object.assign(document.createElement(tag), {src: `${target}/${path}`}), `${tag} ${path}`));
  const style = Object.assign(document.createElement("link"), {rel: "stylesheet", href: `${target}/page.css`});
  await Promise.all([...parts("img", "icon.svg", "", ...paths.slice(0, 4)), settled(style, "style"),
    ...parts("script", "web.js", "turing.js", "page.js", "")]);
  const opened = window.open(`${target}/`);
  const frame = document.querySelector("iframe");
  frame.src = `${target}/`;
  await new Promise(resolve => setTimeout(resolve, 1000));
  try { if (opened.document.title) read.push("opened window"); } catch {}
  try { if (frame.contentDocument.body.innerText) read.push("frame"); } catch {}
  return read;
}"""


def attack(target: str, token: str | None) -> None:
    """From both origins, by a browser that knows the token where there is one."""
    attacker, called = Listener(), Listener()
    with listening(attacker) as site, listening(called) as elsewhere:
        start = f"{target}/?token={token}" if token else f"{target}/"
        paths = spellings(f"{elsewhere}/x")
        with open_page(start) as (page, errors, _):
            page.wait_for_selector("#message, #pick-a")
            errors.clear()  # a browser asks for an icon of its own accord, where it comes by an address with a token
            page.reload()
            page.wait_for_selector("#message, #pick-a")
            assert errors == []
            for origin in (site, site.replace("127.0.0.1", "localhost")):
                page.goto(origin)
                page.set_content("<iframe name=frame></iframe>")
                assert page.evaluate(ATTACK, [target, paths, ASK]) == [], origin
                shown = [frame.evaluate("document.body.innerText") for frame in page.frames[1:]]
                assert shown
                assert not any("model" in text for text in shown), "no other site may frame the page"
        cookies = {"jaegpt_token": token} if token else {}
        with httpx.Client(cookies=cookies) as client:  # a program that no browser's rules hold back
            for path in paths:
                found = client.get(httpx.URL(f"{target}/{path}"))
                assert found.status_code in (404, 405), path
                assert found.json()["error"] in ("Not Found", "Method Not Allowed")
    assert attacker.paths, "the attacker was there"
    assert called.paths == [], "the server called nobody"


@contextmanager
def started(kind: str, folder: Path, token: str | None) -> Iterator[tuple[str, Any]]:
    """A page, and a function that gives what has been asked of it."""
    if kind == "web":
        with Watched(load_both(save_both(folder))) as worker, web_running(worker, token) as url:
            yield url, lambda: len(worker.given)
    else:
        games = Games(contexts(), generated(), 20, 1337, folder / "games")
        with page_running(make_page(games), token) as url:
            yield url, lambda: (games._number, sorted((folder / "games").glob("*")))


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("kind", ["web", "turing"])
def test_another_web_site_gets_nothing_from_a_page(kind: str, token: str | None, tmp_path: Path) -> None:
    with started(kind, tmp_path, token) as (url, asked):
        attack(url, token)
        # Games are started by the page itself alone; nobody picked, and nobody was answered.
        if kind == "web":
            assert asked() == 0
        else:
            number, files = asked()
            assert number <= 4, "the page itself, twice, and as a window that each of the two origins opened"
            assert files == []


@pytest.mark.parametrize("kind", ["web", "turing"])
def test_a_form_or_script_of_another_site_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    with started(kind, tmp_path, None) as (url, asked), httpx.Client() as client:
        before = asked()
        paths = ("begin", "reply", "load") if kind == "web" else ("start", "pick")
        for path in paths:
            for sent in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
                done = client.post(f"{url}/{path}", content=json.dumps(ASK), headers={"content-type": sent})
                assert done.status_code == 415, (path, sent)
            assert client.post(f"{url}/{path}", content="{}").status_code == 415, "no type at all"
            asking = {"origin": "http://evil.example", "access-control-request-method": "POST"}
            allowed = client.options(f"{url}/{path}", headers=asking)
            assert allowed.status_code in (403, 405)
            assert not any(name.startswith("access-control") for name in allowed.headers)
        assert asked() == before
