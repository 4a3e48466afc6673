"""Who may talk to a server: addresses, tokens, ports."""

import signal
import socket
import weakref
from typing import Any

import httpx
import pytest
import uvicorn

from jaegpt.chat.access import bind, choose_token
from jaegpt.chat.connections import serve
from jaegpt.errors import JaegptError


def test_tokens_are_for_other_addresses_and_where_one_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JAEGPT_TOKEN", raising=False)
    assert [choose_token(host) for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3")] == [None] * 4
    assert capsys.readouterr().err == ""
    tokens = {choose_token(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org")}
    assert len(tokens) == 4
    assert min(len(token or "") for token in tokens) > 20
    assert "warning: 0.0.0.0 can be reached from other machines" in capsys.readouterr().err
    monkeypatch.setenv("JAEGPT_TOKEN", "mine")
    assert choose_token("0.0.0.0") == choose_token("127.0.0.1") == "mine"
    for bad in ("two words", "a;b", "a&b", "gé"):
        monkeypatch.setenv("JAEGPT_TOKEN", bad)
        with pytest.raises(JaegptError, match="JAEGPT_TOKEN: may hold"):
            choose_token("0.0.0.0")


def test_a_taken_port_is_one_clear_line() -> None:
    clear = r"cannot listen on 127.0.0.1, port \d+ .*Give another --host or --port"
    with bind("127.0.0.1", 0) as listener, pytest.raises(JaegptError, match=clear):
        bind("127.0.0.1", listener.getsockname()[1])
    for host in ("not a host", "203.0.113.7"):
        with pytest.raises(JaegptError, match="cannot listen on"):
            bind(host, 8000)
    with pytest.raises(JaegptError, match="--port must be from 0 to 65535, found 70000"):
        bind("127.0.0.1", 70_000)


class Thing:
    """Something that is collected."""


@pytest.mark.parametrize("moment", ["before", "as it starts", "while it serves"])
def test_an_interrupt_ends_the_server_whenever_it_comes(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    run = uvicorn.Server.run

    def interrupted(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        if moment == "before":  # and where Python drops what a handler raises
            thing = Thing()
            watcher = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
            del thing
            assert watcher() is None
        run(server, sockets)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        await receive()
        if moment == "as it starts":
            signal.raise_signal(signal.SIGINT)
        await send({"type": "lifespan.startup.complete"})
        if moment == "while it serves":
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}")).status_code == 204
            signal.raise_signal(signal.SIGINT)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    monkeypatch.setattr(uvicorn.Server, "run", interrupted)
    with bind("127.0.0.1", 0) as listener:
        serve(app, listener, "ready")
    assert capsys.readouterr().out == "ready\n"
    assert signal.getsignal(signal.SIGINT) is handler
