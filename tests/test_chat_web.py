"""The page in headless Chromium: talk, change a setting, save, load; at any width, and behind a proxy."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import open_page
from helpers.chat_models import CONFIG, config
from helpers.page_actions import (
    SLOW,
    bubbles,
    message_box,
    open_settings,
    press,
    send,
    wait_for_pieces,
    wait_for_replies,
)
from helpers.page_models import SEED, VIEW, Watched, load_both, save_both, web_running
from helpers.page_server import page_running

from jaegpt.chat.conversation import Conversation
from jaegpt.chat.web import Page, make_page
from jaegpt.generation.prompts import MAX_TEXT
from jaegpt.generation.speaker import Reply, Speaker


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def reference(folders: dict[str, Path]) -> dict[str, Speaker]:
    """The same models, asked directly."""
    return load_both(folders)


@pytest.fixture(scope="module")
def worker(folders: dict[str, Path]) -> Iterator[Watched]:
    with Watched(load_both(folders)) as worker:
        yield worker


@pytest.fixture(scope="module")
def address(worker: Watched) -> Iterator[str]:
    with web_running(worker) as url:
        yield url


@pytest.fixture
def slow(worker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies come so slowly that there is time to act in their middle."""
    monkeypatch.setattr(worker, "slow", 0.15)


def expected_logs(reference: dict[str, Speaker], texts: list[str], chosen: Any = CONFIG) -> dict[str, list[str]]:
    """What each column should show after these messages."""
    logs: dict[str, list[str]] = {}
    for name, one in reference.items():
        turns: list[tuple[bool, str]] = []
        for text in texts:
            turns.append((False, text))
            turns.append((True, one.replies([turns], chosen, SEED)[0].text))
        logs[name] = [text for _, text in turns]
    return logs


def test_talk_change_a_setting_save_and_load(address: str, reference: dict[str, Speaker], tmp_path: Path) -> None:
    with open_page(address) as (page, errors, requests):
        assert "This is a model of a person, not the person" in page.inner_text("#notice")
        page.evaluate(
            """() => { window.seen = new Set(); new MutationObserver(() => {
                for (const m of ['jaegpt', 'base']) {
                    const all = [...document.querySelectorAll(`#column-${m} .said`)];
                    if (all.length > 1) window.seen.add(m + ' ' + all[1].innerText);
                }}).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
        )
        send(page, "hello")
        first = expected_logs(reference, ["hello"])
        wait_for_replies(page, first)
        seen = page.evaluate("[...window.seen]")
        for model in ("jaegpt", "base"):
            steps = [text for text in seen if text.startswith(model)]
            assert len(steps) > 3, f"the reply of {model} came in pieces: {steps}"
        assert message_box(page).input_value() == ""

        open_settings(page)
        page.get_by_label("temperature", exact=True).fill("0")
        send(page, "again")
        history = {name: [(False, "hello"), (True, first[name][1]), (False, "again")] for name in first}
        greedy = {name: one.replies([history[name]], config(temperature=0), SEED)[0] for name, one in reference.items()}
        both = {name: [*first[name], "again", greedy[name].text] for name in first}
        wait_for_replies(page, both)

        with page.expect_download() as download:
            press(page, "Save conversation")
        file = tmp_path / "conversation.json"
        download.value.save_as(file)
        saved = json.loads(file.read_text(encoding="utf-8"))
        assert saved["settings"] == {
            "seed": SEED, "top_p": 0.9, "top_k": 100, "temperature": 0, "no_repeat_ngram": 3, "max_tokens": 20,
            "candidates": 1, "min_p": 0, "guidance": 1, "rerank": "head", "num_history": 4, "block_size": 128,
        }  # fmt: skip
        conversation, settings = Conversation.load(tmp_path, "conversation")  # as the terminal does
        assert {name: [turn["content"] for turn in conversation.log(name)] for name in both} == both
        assert conversation.to_json(settings) == file.read_text(encoding="utf-8"), "to the byte"

        press(page, "Undo")
        wait_for_replies(page, first)
        assert message_box(page).input_value() == "again"
        press(page, "Reset")
        wait_for_replies(page, {"jaegpt": [], "base": []})

        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.locator("input[type=file]").set_input_files(file)
        wait_for_replies(page, both)
        open_settings(page)
        assert page.get_by_label("temperature", exact=True).input_value() == "0"

        press(page, "Retry")
        wait_for_replies(page, both)  # the likeliest reply is the same at each try
        assert errors == []
        assert requests
        assert [url for url in requests if not url.startswith(address)] == []


def test_what_the_terminal_saved_goes_on_here(address: str, tmp_path: Path) -> None:
    saved = tmp_path / "terminal.json"
    turns = [("user", "hi\nyou"), ("assistant", "<b>hey</b> 👋"), ("user", "?"), ("assistant", "")]
    log = [{"role": role, "content": text} for role, text in turns]
    settings = {"seed": 2**63 - 1, "top_p": 0.9, "top_k": 5, "temperature": 0.5, "precision": "fp32"}
    form = {"format": "jaegpt conversation 1", "settings": settings, "logs": {"jaegpt": log, "base": log}}
    saved.write_text(json.dumps(form), encoding="utf-8")
    with open_page(address) as (page, errors, _):
        page.wait_for_selector("body[data-ready]")
        page.locator("input[type=file]").set_input_files(saved)
        wait_for_replies(page, {name: [text for _, text in turns] for name in ("jaegpt", "base")})
        with page.expect_download() as download:
            press(page, "Save conversation")
        again = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
        assert again["logs"] == form["logs"]
        kept = {**settings, "top_k": 5, "temperature": 0.5}
        del kept["precision"]  # the terminal's own
        assert {name: again["settings"][name] for name in kept} == kept, "the seed to its last digit"
        send(page, "and now?")
        page.wait_for_selector("#column-base[aria-busy=false] li:nth-child(6)", timeout=SLOW)
        assert errors == []


def test_what_is_said_is_shown_as_text(address: str) -> None:
    nasty = (
        "<img src='http://example.com/x.png' onerror='window.hit=1'> **bold** $$x^2$$ ![a](http://example.com/y.png)"
    )
    with open_page(address) as (page, errors, requests):
        send(page, nasty)
        page.wait_for_selector("#column-base[aria-busy=false] li:nth-child(2)", timeout=SLOW)
        assert bubbles(page, "jaegpt")[0] == nasty
        assert page.locator("img").count() == 0
        assert page.evaluate("window.hit") is None
        assert [url for url in requests if not url.startswith(address)] == []
        assert errors == []


@pytest.mark.usefixtures("slow")
def test_what_is_typed_while_a_reply_comes_stays(address: str, reference: dict[str, Speaker]) -> None:
    with open_page(address) as (page, errors, _):
        send(page, "hello")
        wait_for_pieces(page, 2)
        message_box(page).press_sequentially("typed meanwhile")
        message_box(page).press("Enter")
        page.get_by_text("The replies to your last message are on their way").wait_for()
        wait_for_replies(page, expected_logs(reference, ["hello"]))
        assert message_box(page).input_value() == "typed meanwhile"
        assert errors == []


@pytest.mark.usefixtures("slow")
def test_a_later_action_ends_a_reply_on_its_way(
    address: str, worker: Watched, reference: dict[str, Speaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undo, reset and retry: what they took away does not come back, and the server computes no further."""
    with open_page(address) as (page, errors, _):
        for action, left in (("Undo", "hello"), ("Reset", "")):
            send(page, "hello")
            wait_for_pieces(page, 2)
            press(page, action)
            wait_for_replies(page, {"jaegpt": [], "base": []})
            assert message_box(page).input_value() == left
            for answer in worker.given[-2:]:
                assert answer.given_up.wait(10), action
        assert bubbles(page, "jaegpt") == bubbles(page, "base") == []

        send(page, "hello")
        wait_for_pieces(page, 2)
        monkeypatch.setattr(worker, "slow", 0.0)
        press(page, "Retry")
        history = [(False, "hello")]
        tried = {name: one.replies([history], CONFIG, SEED + 1_000_003)[0].text for name, one in reference.items()}
        wait_for_replies(page, {name: ["hello", text] for name, text in tried.items()})
        press(page, "Undo")
        wait_for_replies(page, {"jaegpt": [], "base": []})
        assert errors == []


def test_five_people_at_once_each_see_their_own_conversation(address: str, reference: dict[str, Speaker]) -> None:
    with open_page(address) as (page, errors, _):
        browser = page.context.browser
        pages = [page, *(browser.new_context().new_page() for _ in range(4))]
        for other in pages[1:]:
            other.on("pageerror", lambda error: errors.append(str(error)))
            other.goto(address)
        said = [[f"{word} from number {number}" for word in ("hello", "more")] for number in range(len(pages))]
        for turn in range(2):
            for one, texts in zip(pages, said, strict=True):
                send(one, texts[turn])
            for one, texts in zip(pages, said, strict=True):
                wait_for_replies(one, expected_logs(reference, texts[: turn + 1]))
        assert errors == []


def test_mistakes_are_reported_and_change_nothing(address: str, reference: dict[str, Speaker], tmp_path: Path) -> None:
    wrong, large = tmp_path / "wrong.json", tmp_path / "large.json"
    wrong.write_text('{"path": "/etc/shadow"}')
    large.write_text(" " * 1_000_001)
    with open_page(address) as (page, errors, _):
        page.wait_for_selector("body[data-ready]")
        for name, message in (("Send", "Type a message first."), ("Retry", "Nothing has been said yet.")):
            press(page, name)
            page.get_by_text(message).wait_for(timeout=SLOW)
        send(page, "hello")
        first = expected_logs(reference, ["hello"])
        wait_for_replies(page, first)
        page.locator("input[type=file]").set_input_files(wrong)
        page.get_by_text("wrong.json: not a saved conversation").wait_for(timeout=SLOW)
        page.locator("input[type=file]").set_input_files(large)
        page.get_by_text("large.json is too large for a saved conversation").wait_for(timeout=SLOW)
        open_settings(page)
        page.get_by_label("top_k", exact=True).fill("5000")
        send(page, "more")
        page.get_by_text("Settings: top_k must be a number from 0 to 1000.").wait_for(timeout=SLOW)
        assert message_box(page).input_value() == "more", "it can be sent again"
        press(page, "Retry")
        page.get_by_text("Settings: top_k must be a number from 0 to 1000.").wait_for(timeout=SLOW)
        wait_for_replies(page, first)
        page.get_by_label("top_k", exact=True).fill("100")
        # What the browser itself says of a refusal, three times; nothing else.
        assert [error[:55] for error in errors] == ["Failed to load resource: the server responded with a st"] * 3
        send(page, "long " * 20_000)
        page.get_by_text("longer than the models read").wait_for(timeout=SLOW)
        assert len(page.locator("#column-base .you .said").last.text_content()) <= MAX_TEXT
        assert len(errors) == 3


def test_the_server_itself_calls_nobody(worker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, to: Any) -> None:
        if isinstance(to, tuple) and to[0] not in ("127.0.0.1", "::1", "localhost"):
            called.append(to)
        connect(self, to)

    monkeypatch.setattr(socket.socket, "connect", watched)
    with web_running(worker, "sesame") as url, open_page(f"{url}/?token=sesame") as (page, errors, requests):
        page.wait_for_selector("body[data-ready]")
        errors.clear()  # a browser asks for an icon of its own accord, where it comes by an address with a token
        page.reload()
        send(page, "hello")
        page.wait_for_selector("#column-base[aria-busy=false] li:nth-child(2)", timeout=SLOW)
        assert errors == []
        assert "sesame" not in page.url
        assert [url for url in requests if not url.startswith("http://127.0.0.1:")] == []
    assert called == []


class Bursting:
    """A worker whose models always say the same two messages."""

    def ask(self, *questions: Any) -> list[Any]:
        return [_Burst() for _ in questions]


class _Burst:
    wanted = True

    async def __aiter__(self) -> Any:
        for piece in ("one", "\ntw", "o"):
            yield piece
        yield Reply(text="one\ntwo", score=None, num_tokens=3, prompt_tokens=1, finished=True, shortened=False)


@pytest.mark.parametrize("separator", ["newline", "space"])
def test_a_burst_is_several_bubbles_and_an_empty_start_lets_the_models_begin(separator: str) -> None:
    page_of_bursts = Page(Bursting(), CONFIG, SEED, {**VIEW, "learn": "sessions", "separator": separator})  # type: ignore[arg-type]
    said = ["one", "two"] if separator == "newline" else ["one\ntwo"]
    typed = ["hi", "there"] if separator == "newline" else ["hi\nthere"]
    with page_running(make_page(page_of_bursts)) as url, open_page(url) as (page, errors, _):
        send(page, "")
        wait_for_replies(page, {"jaegpt": said, "base": said})
        send(page, "hi\nthere")
        both = [*said, *typed, *said]
        wait_for_replies(page, {"jaegpt": both, "base": both})
        send(page, "")
        assert page.inner_text("#note") == "Type a message first."
        assert errors == []
