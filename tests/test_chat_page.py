"""The page's server without a browser: its few routes, their headers, what they take and what they refuse."""

import asyncio
import dataclasses
import json
import resource
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.chat_models import CONFIG, config
from helpers.page_models import SEED, VIEW, Watched, load_both, save_both, web_running
from helpers.page_server import page_running
from test_turing import contexts, generated

from jaegpt.chat import web
from jaegpt.chat.conversation import Conversation, Exchange
from jaegpt.chat.pages import HEADERS, checked_prefix
from jaegpt.chat.web import Page, make_page
from jaegpt.errors import JaegptError
from jaegpt.generation.prompts import MAX_TEXT, clean_text, make_prompt
from jaegpt.generation.speaker import Speaker
from jaegpt.turing import page

STATIC = {"/page.css": {"GET"}, "/page.js": {"GET"}, "/icon.svg": {"GET"}}
ROUTES = {
    "web": {**STATIC, "/": {"GET"}, "/web.js": {"GET"}} | {path: {"POST"} for path in ("/begin", "/reply", "/load")},
    "turing": {**STATIC, "/": {"GET"}, "/turing.js": {"GET"}} | {path: {"POST"} for path in ("/start", "/pick")},
}
SETTINGS = dataclasses.asdict(CONFIG)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def worker(speakers: dict[str, Path]) -> Iterator[Watched]:
    with Watched(load_both(speakers)) as worker:
        yield worker


@pytest.fixture(scope="module")
def reference(speakers: dict[str, Path]) -> dict[str, Speaker]:
    return load_both(speakers)


@pytest.fixture(scope="module")
def client(worker: Watched) -> Iterator[httpx.Client]:
    with web_running(worker) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def ask(text: str = "hello", **changes: Any) -> dict[str, Any]:
    return {"text": text, "before": [], "attempt": 0, "settings": SETTINGS, "seed": str(SEED), **changes}


def said(text: str, jaegpt: str = "a", base: str = "b") -> dict[str, Any]:
    return {"text": text, "replies": {"jaegpt": jaegpt, "base": base}}


def events(done: httpx.Response) -> list[dict[str, Any]]:
    assert done.status_code == 200, done.text
    return [json.loads(part.removeprefix("data: ")) for part in done.text.split("\n\n") if part]


def replies(found: list[dict[str, Any]]) -> dict[str, str]:
    pieces = {name: [event["piece"] for event in found if event.get("model") == name] for name in ("jaegpt", "base")}
    return {name: "".join(texts) for name, texts in pieces.items()}


@pytest.mark.parametrize("kind", ["web", "turing"])
def test_the_routes_are_these_and_no_others(kind: str, worker: Watched, tmp_path: Path) -> None:
    if kind == "web":
        app = make_page(Page(worker, CONFIG, SEED, VIEW))
    else:
        app = page.make_page(page.Games(contexts(), generated(), 20, 1337, tmp_path))
    found = {route.path: set(route.methods) for route in app.routes}  # type: ignore[attr-defined]
    assert found == ROUTES[kind]
    assert not any("{" in path for path in found), "no route takes a path or an address"
    with page_running(app) as url, httpx.Client(base_url=url) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/static/web.js", "/web.html", "/reply/", "/..%2fweb.py"):
            assert client.get(path).status_code == 404, path
        for path, methods in found.items():
            for method in {"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - methods:
                assert client.request(method, path).status_code == 405, (method, path)


def test_every_response_has_the_headers_and_pages_hold_nothing_inline(worker: Watched) -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    with web_running(worker) as url, web_running(worker, "sesame") as closed, httpx.Client() as client:
        answers = [client.get(url + path) for path in ("/", "/web.js", "/page.css", "/icon.svg", "/nothing")]
        answers += [client.post(f"{url}/begin", json={}), client.post(f"{url}/begin", json={"a": 1})]
        answers += [client.post(f"{url}/begin"), client.get(url, headers={"host": "evil.example"})]
        answers += [client.get(closed), client.get(f"{closed}/?token=sesame"), client.post(f"{url}/reply", json=ask())]
        assert [answer.status_code for answer in answers][4:10] == [404, 200, 422, 415, 403, 401]
        for answer in answers:
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
            assert not any(name.startswith("access-control") for name in answer.headers)
    files = [file for file in resources.files("jaegpt.chat").joinpath("static").iterdir() if file.is_file()]
    assert {file.name for file in files} >= {"web.html", "turing.html", "web.js", "turing.js", "page.js", "page.css"}
    for file in files:
        content = file.read_text(encoding="utf-8")
        assert "innerHTML" not in content
        assert "://" not in content.replace("http://www.w3.org/2000/svg", ""), "no address of elsewhere"
        if file.name.endswith(".html"):
            assert "style=" not in content
            assert not any(f' on{name}="' in content for name in ("click", "load", "submit", "error"))
            assert '="/' not in content, "addresses are relative"


def test_both_replies_are_those_of_the_terminal(client: httpx.Client, reference: dict[str, Speaker]) -> None:
    before = [said("hi", "hey", "yo"), said("and?", "so", "well")]
    found = events(client.post("/reply", json=ask(" how are you?\x00 ", before=before, attempt=1)))
    assert found[0] == {"text": "how are you?"}
    assert found[-1] == {"end": True, "shortened": False}
    conversation = Conversation([Exchange(**one) for one in before])
    for name, one in reference.items():
        history = conversation.history(name, "how are you?")
        assert replies(found)[name] == one.replies([history], CONFIG, SEED + 1_000_003)[0].text
    assert len(found) > 10, "they come in pieces"


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"text": " \x00\n"}, 400, "Type a message first."),
        ({"text": 5}, 422, "text: "),
        ({"before": [said("a")] * 6}, 400, "before: at most 5 exchanges count, found 6"),
        ({"before": [said("a" * (MAX_TEXT + 1))]}, 422, "before.0.text: "),
        ({"before": [{"text": "a", "replies": {"jaegpt": "b"}}]}, 422, "before.0.replies.base: "),
        ({"attempt": -1}, 422, "attempt: "),
        ({"attempt": True}, 422, "attempt: "),
        ({"seed": "9" * 19}, 400, "Settings: seed must be"),
        ({"seed": "9" * 5000}, 422, "seed: "),
        ({"seed": 7}, 422, "seed: "),
        ({"settings": {}}, 400, "Settings: needed are top_p"),
        ({"settings": {**SETTINGS, "top_k": 5000}}, 400, "Settings: top_k must be a number from 0 to 1000"),
        ({"settings": {**SETTINGS, "top_k": 1.5}}, 400, "Settings: top_k must be a whole number"),
        ({"settings": {**SETTINGS, "top_k": "5"}}, 422, "settings.top_k"),
        ({"settings": {**SETTINGS, "top_k": True}}, 422, "settings.top_k"),
        ({"settings": {**SETTINGS, "candidates": 1000}}, 400, "Settings: candidates must be"),
        ({"settings": {**SETTINGS, "rerank": "luck"}}, 422, "settings.rerank"),
        ({"settings": {**SETTINGS, "rerank": 1}}, 400, "Settings: rerank must be one of none, head, fit, found 1."),
        ({"settings": {**SETTINGS, "top_k": "head"}}, 400, "Settings: top_k must be a number"),
        (
            {"settings": {**SETTINGS, "rerank": "none", "candidates": 2}},
            400,
            "Settings: rerank is none, so nothing chooses among 2 candidates.",
        ),
        ({"path": "/etc/passwd"}, 422, "path: "),
    ],
)
def test_what_is_no_question_is_one_clear_line(
    client: httpx.Client, worker: Watched, changes: dict[str, Any], status: int, message: str
) -> None:
    given = len(worker.given)
    done = client.post("/reply", json=ask(**changes))
    assert done.status_code == status, done.text
    assert done.json()["error"].startswith(message)
    assert "\n" not in done.json()["error"]
    assert len(worker.given) == given, "no model was asked"


def test_a_message_of_ten_megabytes_costs_little(
    client: httpx.Client, reference: dict[str, Speaker], capfd: pytest.CaptureFixture[str]
) -> None:
    """Before it was cut, tokenizing took 450 times its size."""
    words = "secret words " * 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = events(client.post("/reply", json=ask(words[:900_000])))
    assert found[-1] == {"end": True, "shortened": True}
    assert len(found[0]["text"]) <= MAX_TEXT
    whole = "word " * 2_000_000
    for name, one in reference.items():
        assert make_prompt(one.encoder, [(False, whole)], 4, 100).shortened, name
        assert len(make_prompt(one.encoder, [(False, whole)] * 4 + [(False, "hi")], 4, 100).ids) <= 100
    assert len(clean_text(whole)) == MAX_TEXT
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 250, f"{grown:.0f} MB for 10 MB"
    assert "secret" not in "".join(capfd.readouterr()), "no message on the server's console"


def test_settings_beyond_the_limits_are_not_loaded(worker: Watched) -> None:
    wide = Page(worker, config(top_k=5000), SEED, VIEW)
    assert wide.limits()["top_k"] == (0, 5000), "params.yaml may go further"
    page = Page(worker, CONFIG, SEED, VIEW)
    shown = page.begin()
    *numbers, word = shown["settings"]
    assert (word["name"], word["choices"], word["value"]) == ("rerank", ("none", "head", "fit"), "head")
    assert [(one["name"], one["low"], one["high"], one["value"]) for one in numbers] == [
        (name, *page.limits()[name], value) for name, value in SETTINGS.items() if name != "rerank"
    ]
    conversation = Conversation([Exchange(text="a", replies={"jaegpt": "b", "base": "c"})])
    exchanges = [{"text": "a", "replies": {"jaegpt": "b", "base": "c"}, "attempt": 0}]
    for changes, taken in (
        ({"top_k": 999, "seed": 2**63 - 1}, True),
        ({"top_k": 5000}, False),
        ({"max_tokens": 100}, False),
        ({"top_k": float("inf")}, False),
        ({"temperature": float("nan")}, False),
        ({"top_k": "5"}, False),
        ({"top_k": None}, False),
        ({"seed": 2**63}, False),
        ({"seed": 1.5}, False),
        ({"seed": True}, False),
    ):
        saved = conversation.to_json({"seed": SEED, **SETTINGS, **changes}).encode()
        loaded = page.load(saved)
        assert loaded["exchanges"] == exchanges
        wanted = {"seed": str(SEED), **SETTINGS, **changes}
        assert loaded["settings"] == ({**wanted, "seed": str(wanted["seed"])} if taken else None), changes
    old = {name: value for name, value in SETTINGS.items() if name not in ("min_p", "guidance", "rerank")}
    guided = Page(worker, config(guidance=1.5, rerank="none"), SEED, VIEW)
    loaded = guided.load(conversation.to_json({"seed": SEED, **old, "candidates": 5}).encode())["settings"]
    assert (loaded["guidance"], loaded["rerank"], loaded["candidates"]) == (1, "head", 5), "as it was drawn then"


def test_only_saved_conversations_are_loaded(client: httpx.Client) -> None:
    whole = Conversation([Exchange(text="a", replies={"jaegpt": "b", "base": "c"})]).to_json({"seed": 7})
    json_type = {"content-type": "application/json"}
    assert client.post("/load", content=whole, headers=json_type).status_code == 200
    bad = ['{"path": "/etc/shadow"}', '"/etc/shadow"', "", "[" * 100_000, "null", whole[:-3], whole.replace('"b"', "5")]
    for content in [*bad, "1" * 10_000, '{"orig_name": "a.json", "path": "/dev/zero", "meta": {}}', "\ufeff", "\x00"]:
        done = client.post("/load", content=content, headers=json_type)
        assert (done.status_code, done.json()["error"]) == (
            400, "not a saved conversation. Choose a file that was saved here.",
        ), content[:40]  # fmt: skip
    assert client.post("/load", content=b"\xff\xfe{", headers=json_type).status_code == 400
    large = client.post("/load", content=" " * (web.MOST_BYTES + 1), headers=json_type)
    assert large.status_code == 413


def test_who_has_left_is_not_answered_by_either_model(worker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "slow", 0.2)
    with web_running(worker) as url, httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/reply", json=ask()) as response:
            lines = (line for line in response.iter_lines() if line)  # held, or the connection would be closed
            assert json.loads(next(lines).removeprefix("data: ")) == {"text": "hello"}
            assert json.loads(next(lines).removeprefix("data: "))["model"] == "jaegpt"
            asked = worker.given[-2:]
            assert all(answer.wanted for answer in asked)
        assert {answer.question.speaker for answer in asked} == {"jaegpt", "base"}
        assert all(answer.given_up.wait(10) for answer in asked), "the server still wants the replies"


def test_a_model_that_fails_is_one_event(worker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(worker, CONFIG, SEED, VIEW)

    def busy(*_: Any) -> Any:
        raise JaegptError("busy: try again soon.")

    monkeypatch.setattr(worker, "ask", busy)

    async def all_events() -> list[dict[str, Any]]:
        return [event async for event in page.ask(web.Ask(**ask()))]

    assert asyncio.run(all_events()) == [{"text": "hello"}, {"error": "busy: try again soon."}]


def test_a_prefix_is_a_plain_path() -> None:
    assert [checked_prefix(text) for text in ("", "/", "/jaegpt", "/a/b-c/")] == ["", "", "/jaegpt", "/a/b-c"]
    for bad in ("jaegpt", "//evil.example", "/a//b", "/a b", "/a?b", "http://x/y", "/..", "/a/\r\nb", "/é"):
        with pytest.raises(JaegptError, match="--root-path must be like /jaegpt"):
            checked_prefix(bad)
