"""The page in headless Chromium: talk, change a setting, save, load; offline, at any width."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import open_page
from chat_models import CONFIG, config, save_base, save_tuned, speaker
from chat_server import running
from playwright.sync_api import TimeoutError

from jaegpt.chat.generation import Speaker
from jaegpt.chat.web import Page, make_page
from jaegpt.chat.worker import Worker

SEED = 7
SLOW = 60_000  # milliseconds


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    base = save_base(folder / "base")
    return {"jaegpt": save_tuned(folder / "tuned", base), "base": base}


@pytest.fixture(scope="module")
def reference(folders: dict[str, Path]) -> dict[str, Speaker]:
    """The same models, asked directly."""
    return {name: speaker(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def worker(folders: dict[str, Path]) -> Iterator[Worker]:
    with Worker({name: speaker(folder) for name, folder in folders.items()}) as worker:
        yield worker


@pytest.fixture(scope="module")
def address(worker: Worker) -> Iterator[str]:
    with running(make_page(Page(worker, CONFIG, SEED, {"num_history": 4, "block_size": 128}))) as url:
        yield url


def bubbles(page: Any, model: str) -> list[str]:
    """The texts shown in one column."""
    found = page.locator(f"#column-{model} .message-content").all_inner_texts()
    return [text.strip() for text in found]


def wait_for_replies(page: Any, expected: dict[str, list[str]]) -> None:
    """Until both columns show these texts; spaces between words do not matter, and an empty one shows as dots."""
    try:
        page.wait_for_function(
            """expected => Object.entries(expected).every(([model, texts]) => {
                const plain = text => text.split(/\\s+/).join(' ').trim() || '…';
                const shown = [...document.querySelectorAll(`#column-${model} .message-content`)];
                return JSON.stringify(shown.map(e => plain(e.innerText))) == JSON.stringify(texts.map(plain));
            })""",
            arg=expected,
            timeout=SLOW,
        )
    except TimeoutError as error:
        pytest.fail(f"{error}\nshown: { {model: bubbles(page, model) for model in expected} }\nexpected: {expected}")


def message_box(page: Any) -> Any:
    return page.get_by_role("textbox", name="Message", exact=True)


def send(page: Any, text: str) -> None:
    box = message_box(page)
    box.fill(text)
    box.press("Enter")


def set_number(page: Any, name: str, value: str) -> None:
    """Type a setting's value; again where the page was still drawing the settings and took no notice."""
    box, slider = page.get_by_label(f"number input for {name}"), page.locator(f"#set-{name} input[type=range]")
    for _ in range(20):
        box.fill(value)
        box.press("Tab")
        page.wait_for_timeout(300)
        if slider.input_value() == value:
            return
    pytest.fail(f"{name} stays at {slider.input_value()}")


def expected_logs(reference: dict[str, Speaker], texts: list[str], chosen: Any) -> dict[str, list[str]]:
    """What each column should show after these messages."""
    logs: dict[str, list[str]] = {name: [] for name in reference}
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
                    const all = [...document.querySelectorAll(`#column-${m} .message-content`)];
                    if (all.length > 1) window.seen.add(m + ' ' + all[1].innerText.trim());
                }}).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
        )
        send(page, "hello")
        first = expected_logs(reference, ["hello"], CONFIG)
        wait_for_replies(page, first)
        seen = page.evaluate("[...window.seen]")
        for model in ("jaegpt", "base"):
            steps = [text for text in seen if text.startswith(model)]
            assert len(steps) > 3, f"the reply of {model} came in pieces: {steps}"
        assert message_box(page).input_value() == ""

        page.get_by_text("Settings").click()
        set_number(page, "temperature", "0")
        send(page, "again")
        page.wait_for_function("document.querySelectorAll('#column-base .message-content').length == 4", timeout=SLOW)
        greedy = {
            name: one.replies(
                [[(False, "hello"), (True, first[name][1]), (False, "again")]], config(temperature=0), SEED
            )[0].text
            for name, one in reference.items()
        }
        both = {name: [*first[name], "again", greedy[name]] for name in first}
        wait_for_replies(page, both)

        with page.expect_download() as download:
            page.get_by_role("button", name="Save conversation").click()
        file = tmp_path / "conversation.json"
        download.value.save_as(file)
        saved = json.loads(file.read_text(encoding="utf-8"))
        assert saved["settings"]["temperature"] == 0
        assert [turn["content"] for turn in saved["logs"]["base"]] == both["base"]

        page.get_by_role("button", name="Undo").click()
        wait_for_replies(page, first)
        assert message_box(page).input_value() == "again"
        page.get_by_role("button", name="Reset", exact=True).click()
        wait_for_replies(page, {"jaegpt": [], "base": []})

        assert errors == []
        page.reload()
        errors.clear()  # what a page that is left says of its open connections
        page.locator("input[type=file]").set_input_files(file)
        wait_for_replies(page, both)
        page.get_by_text("Settings").click()
        assert page.get_by_label("number input for temperature").input_value() == "0"

        page.get_by_role("button", name="Retry").click()
        page.wait_for_timeout(500)
        wait_for_replies(page, both)  # the likeliest reply is the same at each try
        assert errors == []
        assert requests
        assert [url for url in requests if not url.startswith(address)] == []


def test_what_is_said_is_shown_as_text(address: str) -> None:
    nasty = (
        "<img src='http://example.com/x.png' onerror='window.hit=1'> **bold** $$x^2$$ ![a](http://example.com/y.png)"
    )
    with open_page(address) as (page, errors, requests):
        send(page, nasty)
        page.wait_for_function("document.querySelectorAll('#column-base .message-content').length == 2", timeout=SLOW)
        page.wait_for_timeout(500)
        assert bubbles(page, "jaegpt")[0] == nasty
        assert page.locator("#column-jaegpt img").count() == 0
        assert page.evaluate("window.hit") is None
        assert [url for url in requests if not url.startswith(address)] == []
        assert errors == []


def test_what_is_typed_while_a_reply_comes_stays(address: str) -> None:
    with open_page(address) as (page, errors, _):
        send(page, "hello")
        page.wait_for_function("document.querySelectorAll('#column-jaegpt .message-content').length == 2", timeout=SLOW)
        message_box(page).press_sequentially("typed meanwhile", delay=20)
        page.wait_for_timeout(2000)
        assert message_box(page).input_value() == "typed meanwhile"
        assert errors == []


def test_a_reset_while_a_reply_comes_is_not_undone(address: str) -> None:
    with open_page(address) as (page, errors, _):
        send(page, "hello")
        page.wait_for_function("document.querySelectorAll('#column-jaegpt .message-content').length > 0", timeout=SLOW)
        page.get_by_role("button", name="Reset", exact=True).click()
        wait_for_replies(page, {"jaegpt": [], "base": []})
        page.wait_for_timeout(2000)
        assert bubbles(page, "jaegpt") == bubbles(page, "base") == []
        assert errors == []


def test_eight_people_at_once_each_see_their_own_conversation(address: str, reference: dict[str, Speaker]) -> None:
    with open_page(address) as (page, errors, _):
        browser = page.context.browser
        pages = [page, *(browser.new_context().new_page() for _ in range(7))]
        for other in pages[1:]:
            other.on("pageerror", lambda error: errors.append(str(error)))
            other.goto(address)
        said = [[f"{word} from number {number}" for word in ("hello", "more")] for number in range(len(pages))]
        for turn in range(2):
            for one, texts in zip(pages, said, strict=True):
                send(one, texts[turn])
            for one, texts in zip(pages, said, strict=True):
                wait_for_replies(one, expected_logs(reference, texts[: turn + 1], CONFIG))
        assert errors == []


def test_mistakes_are_told_and_change_nothing(address: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"a": 1}')
    with open_page(address) as (page, errors, _):
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Type a message first.").wait_for(timeout=SLOW)
        page.get_by_role("button", name="Retry").click()
        page.get_by_text("Nothing has been said yet.").wait_for(timeout=SLOW)
        page.locator("input[type=file]").set_input_files(wrong)
        page.get_by_text("not a saved conversation").wait_for(timeout=SLOW)
        assert bubbles(page, "jaegpt") == []
        send(page, "long " * 20_000)
        page.get_by_text("longer than the models read").wait_for(timeout=SLOW)
        assert errors == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_any_width_in_dark_and_light(address: str, width: int, dark: bool) -> None:
    with open_page(address, width=width) as (page, _, _):
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.reload()
        send(page, "hello, this is a message that is somewhat longer than a line on a telephone")
        page.wait_for_function("document.querySelectorAll('#column-base .message-content').length == 2", timeout=SLOW)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        columns = [page.locator(f"#column-{model}").bounding_box() for model in ("jaegpt", "base")]
        beside = columns[0]["y"] == columns[1]["y"]
        assert beside == (width > 800), "side by side where there is room, else one above the other"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(number) for number in re.findall(r"\d+", background)[:3]) > 380
        assert light != dark


def test_everything_can_be_reached_by_keyboard(address: str) -> None:
    with open_page(address) as (page, _, _):
        message_box(page).focus()
        page.keyboard.type("hello")
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''"))
        text = " ".join(reached)
        for name in ("Send", "Retry", "Undo", "Reset", "Settings", "Save conversation", "Load conversation"):
            assert name in text, f"{name} is not among {reached}"


def test_the_server_itself_calls_nobody(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, to: Any) -> None:
        if isinstance(to, tuple) and to[0] not in ("127.0.0.1", "::1", "localhost"):
            called.append(to)
        connect(self, to)

    monkeypatch.setattr(socket.socket, "connect", watched)
    with (
        Worker({name: speaker(folder) for name, folder in folders.items()}) as worker,
        running(make_page(Page(worker, CONFIG, SEED, {"num_history": 4, "block_size": 128})), "sesame") as url,
        open_page(f"{url}/?token=sesame") as (page, errors, requests),
    ):
        send(page, "hello")
        page.wait_for_function("document.querySelectorAll('#column-base .message-content').length == 2", timeout=SLOW)
        assert errors == []
        assert [url for url in requests if not url.startswith("http://127.0.0.1:")] == []
    assert called == []
