"""Headless Chromium, for tests that look at a page as a person would."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def open_page(url: str, width: int = 1200) -> Iterator[tuple[Any, list[str], list[str]]]:
    """(page, console errors, requests that left the machine's files) of `url`, while the block runs.

    Skips where no chromium is installed; under CI=true that is a failure.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium on this machine; .ci/run installs it")
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    requests: list[str] = []
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url) if request.url[:4] == "http" else None)
        page.goto(url)
        yield page, errors, requests
        browser.close()
