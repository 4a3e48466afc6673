"""The server under bad connections: half-open, slow, too many, garbage, callers who leave. None of it shuts it."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.chat_server import running
from helpers.slow_server import CONFIG, Slow

from jaegpt.chat.connections import Limits
from jaegpt.chat.server import make_app
from jaegpt.chat.worker import Worker

BODY = {"model": "jaegpt", "messages": [{"role": "user", "content": "hello"}]}
LENGTH = b"content-length: %d" % len(json.dumps(BODY))
CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    + LENGTH
    + b"\r\n\r\n"
)


def answers(address: str) -> float:
    """Seconds until /health is answered; fails where it is not."""
    before = time.monotonic()
    assert httpx.get(f"{address}/health", timeout=5).json() == {"status": "ok"}
    return time.monotonic() - before


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def until_closed(connection: socket.socket, seconds: float) -> bytes:
    """What the server sends until it closes; fails where it does not in time."""
    connection.settimeout(seconds)
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server that may open 512 files; at its end it has said nothing, and ends on an interrupt."""
    log = tmp_path_factory.mktemp("server") / "log"
    script = str(Path(__file__).parent / "helpers/slow_server.py")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, script, "512", "0.1"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert (process.returncode, log.read_text()) == (0, "")


def test_half_open_and_slow_connections_do_not_shut_the_server(
    limited: tuple[str, subprocess.Popen[str]],
) -> None:
    """More than it may open files; some say nothing, some send a byte now and then."""
    address, process = limited
    with ExitStack() as stack:
        connections = []
        for number in range(700):
            connection = stack.enter_context(connect(address))
            connection.sendall((b"", b"GET / HT", CHAT)[number % 3])
            connections.append(connection)
            if number % 100 == 99:
                assert answers(address) < 5
        for _ in range(3):
            for connection in connections[1::3]:
                with suppress(OSError):
                    connection.sendall(b"x")
            assert answers(address) < 5
        assert httpx.post(f"{address}/v1/chat/completions", json=BODY).json()["choices"]
        assert process.poll() is None


def test_many_at_once_are_answered_or_refused_as_busy(limited: tuple[str, subprocess.Popen[str]]) -> None:
    async def ask() -> tuple[list[int], list[float]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            asks = [asyncio.ensure_future(client.post("/v1/chat/completions", json=BODY)) for _ in range(200)]
            waits = []
            while not all(ask.done() for ask in asks):
                waits.append(await asyncio.to_thread(answers, address))
                await asyncio.sleep(0.1)
            done = [await ask for ask in asks]
            assert all("error" in response.json() for response in done if response.status_code != 200)
            return [response.status_code for response in done], waits

    address, _ = limited
    statuses, waits = asyncio.run(ask())
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 64
    assert max(waits) < 5
    assert len(waits) > 1


@contextmanager
def fake(seconds: float = 0.0, limits: Limits | None = None, most_waiting: int = 64) -> Iterator[tuple[str, Slow]]:
    slow = Slow(seconds)
    with (
        Worker({"jaegpt": slow}, most_waiting) as worker,  # type: ignore[dict-item]
        running(make_app(worker, CONFIG, 7, 128), limits=limits or Limits()) as address,
    ):
        yield address, slow


def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    """Nor one that comes a byte at a time, nor after an answer on the same connection."""
    get = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
    with fake(limits=Limits(head_s=0.4)) as (address, _):
        for first in (b"", b"GET / HT", get, get + b"\r\n" + get, get + b"x: " + b"y" * 1000):
            with connect(address) as connection:
                connection.sendall(first)
                before = time.monotonic()
                closed = threading.Event()

                def drip(connection: socket.socket = connection, closed: threading.Event = closed) -> None:
                    while not closed.wait(0.05):
                        try:
                            connection.sendall(b"z")
                        except OSError:
                            return

                dripping = threading.Thread(target=drip, daemon=True)
                dripping.start()
                got = until_closed(connection, 5)
                closed.set()
                dripping.join()
                assert 0.3 < time.monotonic() - before < 3, first
                assert (b'{"status":"ok"}' in got) == (b"\r\n\r\n" in first)
        with connect(address) as connection:  # a keep-alive connection may go on
            for _ in range(4):
                connection.sendall(get + b"\r\n")
                got = b""
                while not got.endswith(b'{"status":"ok"}'):
                    got += connection.recv(65536)
                time.sleep(0.2)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", CHAT, CHAT + b"{"])
def test_where_there_are_too_many_the_one_awaited_longest_goes(begun: bytes) -> None:
    with fake(limits=Limits(connections=5, head_s=30)) as (address, _), ExitStack() as stack:
        silent = []
        for _ in range(5):
            silent.append(stack.enter_context(connect(address)))
            silent[-1].sendall(begun)
            time.sleep(0.02)
        assert answers(address) < 1
        assert until_closed(silent[0], 5) == b""
        silent[1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[1].recv(1)


def test_where_all_are_being_answered_one_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asks: list[Any] = []
    ask = Worker.ask
    monkeypatch.setattr(Worker, "ask", lambda worker, *questions: asks.append(questions) or ask(worker, *questions))
    with fake(1.0, Limits(connections=3)) as (address, _), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(address)).sendall(CHAT + json.dumps(BODY).encode())
        wait_until(lambda: len(asks) == 3)
        with connect(address) as connection:
            connection.sendall(CHAT + json.dumps(BODY).encode())
            got = until_closed(connection, 5)
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in got
        assert json.loads(got.split(b"\r\n\r\n")[1])["error"]["message"].startswith("busy: too many connections")


def test_garbage_is_one_json_error_and_no_line_on_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    head = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
    with fake(0.2) as (address, _):
        for garbage in (
            *(b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"\r\n" * 50 + b"x\r\n\r\n"),
            *(b"GET / HTTP/1.1\r\n\r\n", head + b"host: evil.example\r\n\r\n", head + b"x y: z\r\n\r\n"),
            head + b"x: " + b"y" * 100_000,
            CHAT[:-2] + b"content-length: 7\r\n\r\n",
            CHAT.replace(LENGTH, b"transfer-encoding: chunked") + b"zz\r\nx",
            CHAT + json.dumps(BODY).encode() + b"garbage\r\n\r\n",
        ):
            with connect(address) as connection:
                connection.sendall(garbage)
                got = until_closed(connection, 15)
            if got:  # what was sent on may have been thrown away with the connection
                statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
                assert statuses in ([b"400"], [b"200", b"400"]), garbage
                assert "error" in json.loads(got.split(b"\r\n\r\n")[-1]), garbage
        upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "x" * 22 + "=="}
        assert httpx.get(f"{address}/health", headers=upgrade).status_code == 200
        assert answers(address) < 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("stream", [False, True])
def test_callers_who_left_are_not_answered(stream: bool) -> None:
    """Nor do they take a place in the queue."""
    with fake(0.6, most_waiting=8) as (address, slow), ExitStack() as stack:
        body = json.dumps({**BODY, "stream": stream}).encode()
        request = CHAT.replace(LENGTH, b"content-length: %d" % len(body)) + body
        with connect(address) as first:
            first.sendall(CHAT + json.dumps(BODY).encode())
            wait_until(lambda: slow.asked)
            for _ in range(8):
                stack.enter_context(connect(address)).sendall(request)
            wait_until(lambda: httpx.post(f"{address}/v1/chat/completions", json=BODY).status_code == 503)
            stack.close()
            # 503 until the server has noticed that they left: then their places are free.
            wait_until(lambda: httpx.post(f"{address}/v1/chat/completions", json=BODY, timeout=30).status_code == 200)
            assert slow.asked == 2, "and nobody was asked for them"


def wait_until(happens: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_long_body_is_refused_at_once_and_an_unread_one_is_not_kept() -> None:
    with fake() as (address, slow), connect(address) as connection:
        connection.sendall(CHAT.replace(LENGTH, b"content-length: 10000000"))
        before = time.monotonic()
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - before < 0.5
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(b"x" * 20_000_000)
        assert slow.asked == 0


def test_what_a_model_raises_is_reported_without_its_words(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in the answer nor on the console: it may hold what was said."""
    with fake() as (address, slow):

        def fail(*_: Any) -> Any:
            raise RuntimeError("cannot read: hello")

        for broken in ("converse", "prompt"):
            setattr(slow, broken, fail)
            response = httpx.post(f"{address}/v1/chat/completions", json=BODY)
            assert response.status_code == 500
            assert response.json()["error"]["message"] == "the model failed (RuntimeError). See the server's output."
            delattr(slow, broken)
        assert httpx.post(f"{address}/v1/chat/completions", json=BODY).status_code == 200
    said = capfd.readouterr()
    assert "hello" not in said.err + said.out
    places = re.findall(
        r"error: RuntimeError at \S+:\d+ \(fail\), from jaegpt/chat/worker.py:\d+ \(_reply\)\n", said.err
    )
    assert "".join(places) == said.err
    assert len(places) == 2
