"""What the server makes of requests as programs send them: nulls, parts, roles, limits, stops, odd bodies."""

import json
import random
from typing import Any

import httpx
import openai
import pytest
from helpers.chat_models import CONFIG, config
from test_chat_server import address, client, client_of, folders, reference, user  # noqa: F401  (fixtures too)

from jaegpt.chat.stops import Stops
from jaegpt.generation.speaker import Speaker

# ruff: noqa: F811

COMPLETIONS = "/v1/chat/completions"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def post(address: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "jaegpt", "messages": user("hello"), **fields}
    return httpx.post(address + COMPLETIONS, json=body, headers=headers, timeout=60)


def error_of(response: httpx.Response) -> str:
    assert response.headers["content-type"].startswith("application/json"), response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    return response.json()["error"]["message"]


def test_null_is_as_good_as_none(address: str) -> None:
    nulls = ("stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed")
    expected = post(address).json()["choices"]
    assert post(address, **dict.fromkeys((*nulls, "n", "tools", "user"))).json()["choices"] == expected
    for field in nulls:
        assert post(address, **{field: None}).json()["choices"] == expected, field
    assert "messages" in error_of(post(address, messages=None))
    assert post(address, model=None).status_code == 404


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_kind_is_refused_with_the_header(address: str, kind: str | None) -> None:
    body = json.dumps({"model": "jaegpt", "messages": user("hi")}).encode()
    response = httpx.post(address + COMPLETIONS, content=body, headers={} if kind is None else {"content-type": kind})
    assert response.status_code == 415
    assert "Send the header `Content-Type: application/json`, found" in error_of(response)
    for fine in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"):
        assert httpx.post(address + COMPLETIONS, content=body, headers={"content-type": fine}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 500_000, b'{"a":' * 150_000, b"9" * 5000, b"NaN"),
        b'{"model": "jaegpt", "messages": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model": "jaegpt", "messages": [{"role": "user", "content": "hi"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "jaegpt", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
        b'{"model": "jaegpt", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"model": "jaegpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1e400}',
        b'{"model": "jaegpt", "messages": [{"role": "user", "content": '
        + b'[{"type":' * 900
        + b"1"
        + b"}]" * 900
        + b"}]}",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_odd_json_is_a_400(address: str, body: bytes) -> None:
    response = httpx.post(address + COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert len(error_of(response)) < 400


def test_long_numbers_that_are_numbers_are_answered(address: str) -> None:
    assert post(address, seed=int("9" * 4000)).status_code == 200
    assert post(address, seed=-5).status_code == 200


def test_a_long_body_is_a_413_and_the_server_goes_on(address: str, reference: dict[str, Speaker]) -> None:
    for size in (2**20, 10 * 2**20, 100 * 2**20):
        response = httpx.post(
            address + COMPLETIONS, content=b"x" * size + b"x", headers={"content-type": "application/json"}, timeout=60
        )
        assert response.status_code == 413
        assert "The body is longer than 1,048,576 bytes" in error_of(response)

    def pieces() -> Any:
        for _ in range(200):
            yield b"x" * 10_000

    response = httpx.post(address + COMPLETIONS, content=pieces(), headers={"content-type": "application/json"})
    assert (response.status_code, "longer" in error_of(response)) == (413, True)
    done = post(address, messages=user("x" * 1_000_000)).json()
    assert done["usage"]["prompt_tokens"] == len(reference["jaegpt"].prompt([(False, "x" * 1000)], CONFIG).ids)


def test_many_messages_are_answered_by_the_last(address: str, reference: dict[str, Speaker]) -> None:
    many = [{"role": role, "content": "hi"} for _ in range(10_000) for role in ("user", "assistant")]
    done = post(address, messages=many + user("yes")).json()
    turns = [(False, "hi"), (True, "hi")] * 2 + [(False, "yes")]
    assert done["choices"][0]["message"]["content"] == reference["jaegpt"].replies([turns], CONFIG, 7)[0].text


def test_an_old_picture_does_not_block_a_conversation(address: str) -> None:
    words = {"type": "text", "text": "look at this"}
    talk = [
        {"role": "user", "content": [words, PICTURE]},
        {"role": "user", "content": [PICTURE]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "nice"}]},
        {"role": "user", "content": "how are you?"},
    ]
    plain = [user("look at this")[0], {"role": "assistant", "content": "nice"}, *user("how are you?")]
    left_out = "messages.0.content.1 (image_url), messages.1.content.0 (image_url), messages.2.content.0 (refusal)"
    for stream in (False, True):
        response = post(address, messages=talk, stream=stream)
        assert response.status_code == 200
        assert response.headers["x-jaegpt-notice"] == f"left out: {left_out}"
    expected = post(address, messages=plain)
    assert "x-jaegpt-notice" not in expected.headers
    assert post(address, messages=talk).json()["choices"] == expected.json()["choices"]
    many = [{"role": "user", "content": [PICTURE, words]}] * 9 + user("hi")
    assert post(address, messages=many).headers["x-jaegpt-notice"].endswith(" and 4 more")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([PICTURE], "messages.1.content.0 (image_url): only text can be read."),
        ([{"type": "text", "text": "hi"}, {"type": "input_audio"}], "messages.1.content.1 (input_audio): only text"),
        ([{"type": "a\r\nb: c\u00e9"}], "messages.1.content.0 (a??b??c?): only text"),
        ([{"type": "text", "text": 5}], "messages.1.content.0.text: must be a text."),
        ([{"type": "text"}], "messages.1.content.0.text: must be a text."),
        ([{"text": "hi"}], "messages.1.content.0: must be a part with a type"),
        (["hi"], "messages.1.content.0: must be a part with a type"),
        ({"type": "text", "text": "hi"}, "messages.1.content: must be a text, a list of parts, or null."),
        (5, "messages.1.content: must be a text"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(address: str, content: Any, said: str) -> None:
    response = post(address, messages=[*user("hi"), {"role": "user", "content": content}])
    assert response.status_code == 400
    assert said in error_of(response)


def test_a_tools_words_are_left_out(address: str) -> None:
    talk = [
        *user("what time is it?"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "content": "12:00", "tool_call_id": "1"},
        {"role": "function", "name": "time", "content": "12:00"},
    ]
    response = post(address, messages=talk)
    assert response.headers["x-jaegpt-notice"] == "left out: messages.2 (tool), messages.3 (function)"
    assert response.json()["choices"] == post(address, messages=talk[:1]).json()["choices"]


def test_minus_one_token_is_as_many_as_the_block_holds(address: str, reference: dict[str, Speaker]) -> None:
    expected = reference["jaegpt"].replies([[(False, "hello")]], config(max_tokens=64), 7)[0]
    for field in ("max_tokens", "max_completion_tokens"):
        done = post(address, **{field: -1}).json()
        assert done["choices"][0]["message"]["content"] == expected.text
        assert done["usage"]["completion_tokens"] == expected.num_tokens > CONFIG.max_tokens
        for wrong in (0, -2, 1.5, "many"):
            assert field in error_of(post(address, **{field: wrong}))


def test_the_routes_of_programs_that_look_first(address: str) -> None:
    for path in ("/v1/models", "/v1/models/base", "/health"):
        head, get = httpx.head(address + path), httpx.get(address + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/docs", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", COMPLETIONS, 405),
        ("OPTIONS", COMPLETIONS, 405),
        ("POST", "/health", 405),
    ):
        response = httpx.request(method, address + path)
        assert response.status_code == status, path
        assert error_of(response)
    assert "DELETE" not in httpx.delete(f"{address}/v1/models").headers["allow"]


def test_stops_end_a_reply(client: openai.OpenAI, reference: dict[str, Speaker]) -> None:
    """Wherever they stand, across the pieces of a stream too; what comes after them is never sent."""
    whole = reference["jaegpt"].replies([[(False, "hello")]], CONFIG, 7)[0].text
    assert len(whole) > 5
    middle = whole[2:4]
    for stop, expected in (
        (middle, whole[: whole.index(middle)]),
        (["not in it", middle], whole[: whole.index(middle)]),
        ([whole[:1]], ""),
        ([whole[-2:]], whole[: whole.index(whole[-2:])]),
        ([whole + "and more", ""], whole),
        ([], whole),
    ):
        asked: dict[str, Any] = {"model": "jaegpt", "messages": user("hello"), "stop": stop}
        done = client.chat.completions.create(**asked).choices[0]
        assert done.message.content == expected, stop
        for usage in ({}, {"stream_options": {"include_usage": True}}):
            chunks = [c for c in client.chat.completions.create(**asked, stream=True, **usage) if c.choices]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected, stop
            assert chunks[-1].choices[0].finish_reason == done.finish_reason
        if expected != whole:
            assert done.finish_reason == "stop"
    for wrong, said in (
        (["a"] * 5, "stop: may hold 4 texts, found 5"),
        (5, "stop: must be a text"),
        ([5], "stop: must"),
    ):
        with pytest.raises(openai.BadRequestError, match=said):
            client.chat.completions.create(model="jaegpt", messages=user("hi"), stop=wrong)


def test_a_stop_is_found_however_a_text_is_cut_into_pieces() -> None:
    """Against reading letter by letter: the text ends where the first stop that has been read began."""
    rng = random.Random(0)
    cut = 0
    for _ in range(3000):
        text = "".join(rng.choices("abc", k=rng.randrange(12)))
        strings = ["".join(rng.choices("abc", k=rng.randrange(1, 4))) for _ in range(rng.randrange(4))]
        expected = text
        for end in range(len(text) + 1):
            starts = [end - len(stop) for stop in strings if text[:end].endswith(stop)]
            if starts:
                expected = text[: min(starts)]
                break
        stops, said, place = Stops(strings), "", 0
        while place < len(text):
            size = rng.randrange(1, 5)
            said += stops.take(text[place : place + size])
            assert expected.startswith(said), "nothing is sent that had to be taken back"
            place += size
        assert said + stops.rest() == expected
        assert stops.found == any(stop in text for stop in strings)
        cut += expected != text
    assert cut > 500
