"""How the page of `jaegpt web` is laid out: at any width, dark and light, for the keyboard and for screen readers."""

import dataclasses
import re
from collections.abc import Iterator

import pytest
from helpers.browser import open_page
from helpers.page_actions import SLOW, message_box, open_settings, send
from helpers.page_models import load_both, save_both, web_running

from jaegpt.chat.worker import Worker
from jaegpt.generation.settings import GenerateConfig


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Worker(load_both(save_both(tmp_path_factory.mktemp("models")))) as worker, web_running(worker) as url:
        yield url


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_any_width_in_dark_and_light(address: str, width: int, dark: bool) -> None:
    with open_page(address, width=width) as (page, _, _):
        page.emulate_media(color_scheme="dark" if dark else "light")
        send(page, "hello, this is a message that is somewhat longer than a line on a telephone" + "w" * 200)
        page.wait_for_selector("#column-base[aria-busy=false] li:nth-child(2)", timeout=SLOW)
        open_settings(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        columns = [page.locator(f"#column-{model}").bounding_box() for model in ("jaegpt", "base")]
        beside = columns[0]["y"] == columns[1]["y"]
        assert beside == (width > 800), "side by side where there is room, else one above the other"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(number) for number in re.findall(r"\d+", background)[:3]) > 380
        assert light != dark


def test_everything_can_be_reached_by_keyboard_and_has_a_name(address: str) -> None:
    with open_page(address) as (page, _, _):
        page.wait_for_selector("body[data-ready]")
        message_box(page).focus()
        reached = []
        for _ in range(7):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.innerText"))
        assert reached == ["Send", "Retry", "Undo", "Reset", "Save conversation", "Load conversation", "Settings"]
        page.keyboard.press("Enter")
        for name in (*(field.name for field in dataclasses.fields(GenerateConfig)), "seed"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.labels[0].innerText") == name
            assert page.get_by_label(name, exact=True).get_attribute("aria-describedby") == f"about-{name}"
        for model in ("jaegpt (fine-tuned)", "base model (untouched)"):
            assert page.get_by_role("log", name=model).count() == 1
