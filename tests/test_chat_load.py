"""The server under load: many askers at once, a full queue, a model or a question that fails."""

import gc
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from helpers.chat_models import CONFIG, speaker
from helpers.chat_server import running
from test_chat_server import address, client_of, folders, reference, user  # noqa: F401  (fixtures too)

from jaegpt.chat.server import make_app
from jaegpt.chat.worker import Worker
from jaegpt.generation.speaker import Speaker

# ruff: noqa: F811


def test_fifty_requests_eight_at_a_time_each_get_their_own_answer(address: str, reference: dict[str, Speaker]) -> None:
    """Both models, with and without streaming; none is lost or mixed up, and memory stays where it was."""
    histories = [[(False, f"I am number {n}"), (True, "ok"), (False, f"who am I? {n * n}")] for n in range(50)]
    names = ["jaegpt" if n % 3 else "base" for n in range(50)]
    expected = [
        reference[name].replies([h], CONFIG, n)[0].text
        for n, (name, h) in enumerate(zip(names, histories, strict=True))
    ]
    assert len(set(expected)) > 40, "the answers identify the conversations"

    def ask(number: int) -> str:
        messages = [{"role": "assistant" if owner else "user", "content": text} for owner, text in histories[number]]
        stream = bool(number % 2)
        with client_of(address) as client:
            done = client.chat.completions.create(
                model=names[number], messages=messages, seed=number, stream=stream, timeout=60
            )
            if not stream:
                return done.choices[0].message.content
            return "".join(chunk.choices[0].delta.content or "" for chunk in done if chunk.choices)

    used = []
    for at_a_time in (8, 50, 8, 8):
        with ThreadPoolExecutor(at_a_time) as users:
            assert list(users.map(ask, range(50))) == expected
        gc.collect()
        used.append(resident_mb())
    assert used[-1] - used[1] < 30, f"memory grew: {used} MB"


def resident_mb() -> float:
    """Memory of this process that is in use now."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("this system does not say how much memory is in use now")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


class Held:
    """A speaker that waits until the test lets it begin."""

    def __init__(self, inner: Speaker) -> None:
        self.inner = inner
        self.begun = threading.Event()
        self.go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def converse(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.go.wait(60)
        return self.inner.converse(*arguments)


def test_a_full_queue_is_a_clear_503_and_what_waits_is_answered(folders: dict[str, Path]) -> None:
    held = Held(speaker(folders["jaegpt"]))
    with (
        Worker({"jaegpt": held}, most_waiting=3) as worker,
        running(make_app(worker, CONFIG, 7, 128)) as address,
        ThreadPoolExecutor(8) as users,
    ):
        client = client_of(address)

        def ask(text: str) -> str:
            return client.chat.completions.create(model="jaegpt", messages=user(text)).choices[0].message.content

        first = users.submit(ask, "first")
        assert held.begun.wait(60)
        waiting = []
        for number in range(3):
            waiting.append(users.submit(ask, f"waiting {number}"))
            while len(worker._waiting) <= number:
                assert not waiting[-1].done(), waiting[-1].exception()
        with pytest.raises(openai.InternalServerError, match="busy: 3 messages are waiting, 3 may") as caught:
            ask("one too many")
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        held.go.set()
        expected = held.inner.replies(
            [[(False, text)] for text in ("first", *(f"waiting {n}" for n in range(3)))], CONFIG, 7
        )
        assert [first.result(60), *(future.result(60) for future in waiting)] == [reply.text for reply in expected]
        assert ask("one too many"), "the queue takes messages again"


def test_a_failing_model_is_an_error_and_not_the_end(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    one = speaker(folders["jaegpt"])
    with Worker({"jaegpt": one}) as worker, running(make_app(worker, CONFIG, 7, 128)) as address:
        client = client_of(address)
        original = one.converse

        def fail(*_: Any) -> Any:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(one, "converse", fail)
        with pytest.raises(openai.InternalServerError, match=r"the model failed \(RuntimeError\)"):
            client.chat.completions.create(model="jaegpt", messages=user("hi"))
        monkeypatch.setattr(one, "converse", original)
        assert client.chat.completions.create(model="jaegpt", messages=user("hi")).choices[0].message.content


def test_a_question_that_cannot_be_asked_does_not_spoil_the_others(folders: dict[str, Path]) -> None:
    one = speaker(folders["jaegpt"])
    prompt = one.prompt

    def picky(history: Any, config: Any) -> Any:
        if history[-1][1] == "bad":
            raise TypeError("no text")
        return prompt(history, config)

    one.prompt = picky  # type: ignore[method-assign]
    with (
        Worker({"jaegpt": one}) as worker,
        running(make_app(worker, CONFIG, 7, 128)) as address,
        ThreadPoolExecutor(8) as users,
    ):

        def ask(text: str) -> str:
            with client_of(address) as client:
                try:
                    return (
                        client.chat.completions.create(model="jaegpt", messages=user(text)).choices[0].message.content
                    )
                except openai.InternalServerError as error:
                    return str(error)

        said = list(users.map(ask, ["good", "bad", "good", "bad", "good", "good", "good", "bad"]))
    assert ["TypeError" in text for text in said] == [False, True, False, True, False, False, False, True]
    assert len({said[number] for number in (0, 2, 4, 5, 6)}) == 1
