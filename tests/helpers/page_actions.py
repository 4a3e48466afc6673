"""What a person does on the page of `jaegpt web`, and what it shows them."""

from typing import Any

import pytest
from playwright.sync_api import TimeoutError

SLOW = 60_000  # milliseconds


def bubbles(page: Any, model: str) -> list[str]:
    """The texts shown in one column."""
    return page.locator(f"#column-{model} .said").all_inner_texts()


def wait_for_replies(page: Any, expected: dict[str, list[str]]) -> None:
    """Until both columns show these texts and nothing is on its way; an empty one shows as dots."""
    try:
        page.wait_for_function(
            """expected => Object.entries(expected).every(([model, texts]) => {
                const column = document.querySelector(`#column-${model}`);
                const shown = [...column.querySelectorAll(".said")].map(e => e.textContent);
                return column.ariaBusy !== "true" && JSON.stringify(shown) === JSON.stringify(texts.map(t => t || "…"));
            })""",
            arg=expected,
            timeout=SLOW,
        )
    except TimeoutError as error:
        pytest.fail(f"{error}\nshown: { {model: bubbles(page, model) for model in expected} }\nexpected: {expected}")


def message_box(page: Any) -> Any:
    return page.get_by_role("textbox", name="Message", exact=True)


def send(page: Any, text: str) -> None:
    page.wait_for_selector("body[data-ready]")
    box = message_box(page)
    box.fill(text)
    box.press("Enter")


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def wait_for_pieces(page: Any, turns: int) -> None:
    """Until the fine-tuned model's reply has begun and is not yet whole."""
    page.wait_for_function(
        """turns => { const said = document.querySelectorAll("#column-jaegpt[aria-busy=true] .said");
            return said.length === turns && said[turns - 1].textContent !== "…"; }""",
        arg=turns,
        timeout=SLOW,
    )


def open_settings(page: Any) -> None:
    page.locator("summary").click()
