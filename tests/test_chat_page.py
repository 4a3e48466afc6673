"""What the page's buttons do, without a browser."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_models import CONFIG, config, save_base, save_tuned, speaker

from jaegpt.chat.web import Latest, Page
from jaegpt.chat.worker import Worker

SEED = 7
SHAPE = {"num_history": 4, "block_size": 128}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder: Path = tmp_path_factory.mktemp("models")
    base = save_base(folder / "base")
    with Worker({"jaegpt": speaker(save_tuned(folder / "tuned", base)), "base": speaker(base)}) as worker:
        yield worker


def test_a_reset_shows_its_page_again_when_a_reply_on_its_way_has_ended(worker: Worker) -> None:
    """gradio may send what a reply gave just before the reset after what the reset gave."""
    page = Page(worker, CONFIG, SEED, SHAPE)

    async def reset_after_the_first_word() -> None:
        latest = Latest()
        reply = page.say("hello", latest, [], *dataclasses.astuple(CONFIG), SEED)
        assert (await anext(reply))[1] == [{"text": "hello", "replies": {"jaegpt": "", "base": ""}, "attempt": 0}]
        reset = page.reset(latest)
        assert await anext(reset) == ("", [], [], [])
        again = asyncio.ensure_future(anext(reset))
        await asyncio.sleep(0.2)
        assert not again.done()
        assert [shown async for shown in reply] == []
        assert (await again)[1:] == ([], [], [])
        assert [shown async for shown in reset] == []

    asyncio.run(reset_after_the_first_word())


def test_a_reset_does_not_wait_for_replies_that_began_after_it(worker: Worker) -> None:
    page = Page(worker, CONFIG, SEED, SHAPE)

    async def say_reset_say() -> None:
        latest = Latest()
        values = (*dataclasses.astuple(CONFIG), SEED)
        first = page.say("hello", latest, [], *values)
        await anext(first)
        reset = page.reset(latest)
        await anext(reset)
        second = page.say("again", latest, [], *values)
        await anext(second)
        assert [shown async for shown in reset] == []
        assert [shown async for shown in first] == []
        assert [shown async for shown in second][-1][1][0]["replies"]["base"]

    asyncio.run(say_reset_say())


def test_settings_beyond_the_sliders_are_not_loaded(worker: Worker) -> None:
    wide = Page(worker, config(top_k=5000), SEED, SHAPE)
    assert wide.limits()["top_k"] == (0, 5000), "params.yaml may go further"
    page = Page(worker, CONFIG, SEED, SHAPE)
    values = [*dataclasses.astuple(CONFIG), SEED]
    exchanges = [{"text": "a", "replies": {"jaegpt": "b", "base": "c"}, "attempt": 0}]
    whole = page.save(exchanges, *values)
    endless = whole.replace(f'"top_k": {CONFIG.top_k}', '"top_k": 1e999')
    assert endless != whole
    saves = [
        (page.save(exchanges, *dataclasses.astuple(config(**changes)), SEED), taken)
        for changes, taken in (({"top_k": 999}, True), ({"top_k": 5000}, False), ({"max_tokens": 100}, False))
    ]
    for saved, taken in [*saves, (endless, False)]:
        _, _, _, *restored = asyncio.run(anext(page.load(saved.encode(), Latest(), [], *values)))
        assert (restored != values) == taken, saved
