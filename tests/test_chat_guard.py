"""The guard in front of the page and the server: hosts, origins, tokens, bodies. Asked as a server would ask it."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from helpers.guard_asking import Got, ask, asked, guard

from jaegpt.chat.access import Guard
from jaegpt.chat.origins import opened_origins
from jaegpt.errors import JaegptError

NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none, cross-site", "", "anything"])
@pytest.mark.parametrize("token", [None, "sesame"])
def test_pages_elsewhere_get_nothing(site: str, token: str | None) -> None:
    """Another port of this machine is the same site, and its requests bring the cookie along."""
    known = {"sec-fetch-site": site, "cookie": "jaegpt_token=sesame", "authorization": "Bearer sesame"}
    for method, path, more in (
        ("POST", "/v1/chat/completions", {}),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models", NAVIGATION),
        ("GET", "/", {}),
        ("GET", "/", {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}),
        ("GET", "/", {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}),
        ("GET", "/", {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}),
        ("GET", "/", {"sec-fetch-mode": "navigate", "sec-fetch-dest": "embed"}),
        ("POST", "/", NAVIGATION),
        ("OPTIONS", "/", {"access-control-request-method": "POST", "origin": "http://localhost:3000"}),
    ):
        got = asked(guard(token, origins=[]), method, path, {**known, **more})
        assert (got.status, got.reached) == (403, []), (method, path, more)
        assert not [name for name in got.headers if name.startswith("access-control")]
    assert asked(guard(token), "GET", "/", {**known, **NAVIGATION}).reached, "a link elsewhere opens the page"
    assert asked(guard(token), "GET", "/p/", {**known, **NAVIGATION}, root_path="/p").reached, "behind a prefix too"


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://LOCALHOST:8000", "localhost.:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("https://localhost", "localhost:80", False),
        ("http://localhost:8000.evil.example", "localhost:8000", False),
        ("http://localhost:8000@evil.example", "localhost:8000", False),
        ("http://evil.example", "localhost:8000", False),
        ("file://localhost:8000", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("localhost:8000", "localhost:8000", False),
    ],
)
def test_where_browsers_say_no_site_the_origin_counts(origin: str, host: str, own: bool) -> None:
    got = asked(guard(), "POST", "/v1/chat/completions", {"host": host, "origin": origin})
    assert (got.status == 200) == own
    both = [("host", host), ("origin", "http://localhost:8000"), ("origin", origin)]
    assert own or asked(guard(), "POST", "/", both).status == 403
    typed = {"host": host, "origin": origin, "sec-fetch-site": "none"}
    assert (asked(guard(), "POST", "/", typed).status == 200) == own


def test_an_origin_can_be_opened_and_no_other() -> None:
    one = guard("sesame", origins=["http://localhost:3000/", "HTTPS://Chat.Example:443"])
    here = {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}
    before = {
        **here,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
        "access-control-request-private-network": "true",
    }
    got = asked(one, "OPTIONS", "/v1/chat/completions", before)
    assert (got.status, got.reached) == (204, [])
    assert got.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert got.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert "POST" in got.headers["access-control-allow-methods"]
    assert got.headers["access-control-allow-private-network"] == "true"
    assert got.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in got.headers
    split = {**before, "access-control-request-headers": "a\r\nset-cookie: b"}
    assert asked(one, "OPTIONS", "/", split).headers["access-control-allow-headers"] == "authorization, content-type"

    got = asked(one, "POST", "/v1/chat/completions", {**here, "authorization": "Bearer sesame"})
    assert (got.status, got.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
    refused = asked(one, "POST", "/v1/chat/completions", {**here, "cookie": "jaegpt_token=sesame"})
    assert refused.status == 401, "a cookie is not a page's to bring"
    assert refused.headers["access-control-allow-origin"] == "http://localhost:3000", "its script can read why"
    assert asked(one, "GET", "/", {"origin": "https://chat.example", "authorization": "bearer sesame"}).status == 200

    for origin in ("http://localhost:3001", "https://localhost:3000", "http://127.0.0.1:3000", "null"):
        for headers in ({"origin": origin}, {**before, "origin": origin}):
            got = asked(one, "OPTIONS" if headers is not here else "GET", "/", headers)
            assert got.status == 403, origin
            assert not [name for name in got.headers if name.startswith("access-control")]
    assert "--allow-origin" in asked(one, "GET", "/", {"origin": "http://x.example"}).text
    assert "--allow-origin" not in asked(guard(), "GET", "/", {"origin": "http://x.example"}).text, "web has none"


@pytest.mark.parametrize("text", ["*", "null", "localhost:3000", "http://a.example/path", "http://", "http://a b", ""])
def test_what_is_no_origin_cannot_be_opened(text: str) -> None:
    with pytest.raises(JaegptError, match="--allow-origin: must be where a page comes from"):
        opened_origins(["http://fine.example", text])


def test_only_this_machines_names_are_answered() -> None:
    for host in ("localhost", "LocalHost:8000", "localhost.", "localhost.:1", "127.0.0.1", "127.9.9.9:80", "[::1]:9"):
        assert asked(guard(), headers={"host": host}).status == 200, host
    for host in (
        *("evil.example", "localhost.evil.example", "localhost:8000@evil.example", "evil.example#localhost", "0.0.0.0"),
        *("localhost..", "[::1", "::1", "[localhost]", "localhost:8000:8000", "localhost, evil.example", "", "127.1"),
        *("[::1%25lo]", "localhost\\evil.example", "localhost/evil.example", " localhost evil.example"),
    ):
        assert asked(guard(), headers={"host": host}).status == 403, host
    got = asked(guard(), headers={"host": "host.docker.internal:8000"})
    assert got.status == 403
    assert "was asked as 'host.docker.internal:8000'" in got.text
    assert "--host" in got.text
    assert "--network host" in got.text
    assert asked(guard("sesame"), headers={"host": "host.docker.internal", "authorization": "Bearer sesame"}).reached
    local = guard("sesame", local=True)  # a token does not open this machine's address to other names
    assert asked(local, headers={"host": "evil.example", "authorization": "Bearer sesame"}).status == 403
    assert asked(local, headers={"authorization": "Bearer sesame"}).status == 200
    assert asked(local).status == 401
    for token in (None, "sesame"):
        both = [("host", "localhost"), ("host", "evil.example"), ("authorization", "Bearer sesame")]
        assert asked(guard(token), headers=both).status == 400


def test_the_token_in_a_header_or_a_cookie() -> None:
    one = guard("sesame")
    for known in ("Bearer sesame", "bearer sesame", "BEARER sesame", "bEaReR  sesame"):
        assert asked(one, headers={"authorization": known}).status == 200, known
    for wrong in ("sesame", "Bearer", "Bearer sesam", "Basic sesame", "Bearersesame", "Bearer sesame x", "Bearer \xff"):
        assert asked(one, headers={"authorization": wrong}).status == 401, wrong
    assert asked(one, headers=[("cookie", "a=b"), ("cookie", "jaegpt_token=sesame")]).status == 200
    assert asked(one, headers={"cookie": "jaegpt_token=x"}).status == 401


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "//evil.example",
            "//evil.example/",
            "///evil.example/x",
            "/\\evil.example",
            "/\\/evil.example",
            "\\\\e",
        ),
        *("/%2f%2fevil.example", "/%2Fevil.example/..", "/a//evil.example", "http://evil.example", "http:evil.example"),
        *(
            "/https:evil.example",
            "/javascript:alert(1)",
            "/x\r\nset-cookie: a=b",
            "/.//evil.example",
            "/..//e",
            "",
            "/@e",
        ),
        *("/p", "/p/", "/p//evil.example", "/v1/models", "/é", "/a b", '/"><script>alert(1)</script>'),
    ],
)
@pytest.mark.parametrize("query", ["token=sesame", "token=sesame&next=//evil.example&a=%0d%0ab:c", "a=&token=sesame"])
@pytest.mark.parametrize("accept", ["*/*", "text/html,*/*"])
def test_the_way_on_from_a_token_stays_on_the_server(path: str, query: str, accept: str) -> None:
    for prefix in ("", "/p"):
        got = asked(guard("sesame"), "GET", f"{path}?{query}", {"accept": accept}, root_path=prefix)
        assert got.reached == []
        location = got.headers.get("location", "")
        if "html" in accept:
            (location,) = re.findall(r'content="0; url=([^"]*)">$', got.text)
        assert location.startswith("./")
        assert re.fullmatch(r"[!-~]*", location)
        assert "sesame" not in location
        assert "/" not in location[2:].partition("?")[0]
        for base in ("http://here.example:1/p/", "http://here.example:1/p/x", "http://here.example:1//evil.example/x"):
            to = urlsplit(urljoin(base, location))
            assert (to.scheme, to.netloc) == ("http", "here.example:1")
        cookie = got.headers["set-cookie"]
        assert cookie == f"jaegpt_token=sesame; HttpOnly; SameSite=Strict; Path={prefix or '/'}"
        assert not any("\r" in value or "\n" in value for value in got.headers.values())


def test_bodies_are_read_so_far_and_no_further() -> None:
    one = guard(most_bytes=100)
    assert asked(one, "POST", body=[b"x" * 60, b"y" * 40]).reached == [b"x" * 60 + b"y" * 40]
    for headers, body in (
        ({"content-length": "101"}, []),  # not a piece is asked for
        ({"content-length": "99999999999999999999"}, []),
        ({"transfer-encoding": "chunked"}, [b"x" * 60, b"y" * 41, b"never asked for"]),
        ({"content-length": "5"}, [b"x" * 101]),
    ):
        got = asked(one, "POST", headers=headers, body=body)
        assert (got.status, got.reached, got.headers["connection"]) == (413, [], "close")
        assert json.loads(got.text)["error"]["message"].startswith("The body is longer than 100 bytes.")
    assert one.bodies.held == 0
    assert asked(one, "POST", body=[b"x"] * 3 + [b""]).reached == [b"xxx"], "it goes on"


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    got = asked(guard(body_s=0.05), "POST", headers={"content-length": "9"}, body=[b"x", None])
    assert (got.status, got.reached) == (408, [])
    left = asked(guard(), "POST", headers={"content-length": "9"}, body=[])
    assert (left.status, left.reached) == (0, [])


def test_all_bodies_together_are_bounded() -> None:
    async def many() -> list[Got]:
        one = guard(most_bytes=100, most_held=250, body_s=0.2)
        slow = [ask(one, "POST", headers={"content-length": "100"}, body=[b"x" * 90, None]) for _ in range(4)]
        return await asyncio.gather(*slow)

    assert sorted(got.status for got in asyncio.run(many())) == [408, 408, 503, 503]


def test_errors_are_json_for_programs_and_text_for_people() -> None:
    for token, headers, status in ((None, {"host": "evil.example"}, 403), ("sesame", {}, 401)):
        got = asked(guard(token), headers=headers)
        assert (got.status, got.headers["content-type"]) == (status, "application/json; charset=utf-8")
        assert json.loads(got.text)["error"]["type"] == "invalid_request_error"
        seen = asked(guard(token), headers={**headers, "accept": "text/html"})
        assert (seen.status, seen.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert seen.headers["x-content-type-options"] == "nosniff"
        assert "{" not in seen.text


def test_what_an_application_raises_is_reported_without_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret words")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"secret words"}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(broken, None)(scope, receive, send))
    assert sent[0]["status"] == 500
    printed = capsys.readouterr().err
    assert re.fullmatch(
        r"error: RuntimeError at .*test_chat_guard\.py:\d+ \(broken\), from .*access\.py:\d+ .*\n", printed
    )
    assert "secret" not in printed + sent[1]["body"].decode()
