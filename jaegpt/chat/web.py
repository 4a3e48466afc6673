"""`jaegpt web`: a page with the fine-tuned and the base model side by side, made of this machine's files alone."""

import dataclasses
import html
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Any

# Read when gradio is imported: it counts its uses and asks for newer versions otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI

from jaegpt.chat.conversation import MODELS, Conversation, Exchange, attempt_seed
from jaegpt.chat.generation import MOST_CANDIDATES, GenerateConfig, Reply
from jaegpt.chat.prompts import clean_text
from jaegpt.chat.web_layout import CSS, Latest, lay_out, theme
from jaegpt.chat.worker import Question, Worker
from jaegpt.errors import JaegptError

Exchanges = list[dict[str, Any]]


class Page:
    """What the page's buttons do. Each visitor's exchanges live in their own session; nothing is kept here.

    Args:
        worker: answers with the models jaegpt and base.
        config: the settings shown at first. seed: likewise.
        shape: what else the replies depend on, for saved conversations, such as block_size.
    """

    def __init__(self, worker: Worker, config: GenerateConfig, seed: int, shape: dict[str, Any]) -> None:
        self.worker = worker
        self.config = config
        self.seed = seed
        self.shape = shape

    async def say(
        self, text: str, latest: Latest, exchanges: Exchanges, *values: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Both replies to a message, as they come: (message box, exchanges, both columns)."""
        asked = clean_text(text)
        if not asked:
            gr.Info("Type a message first.")
            yield text, exchanges, *_columns(exchanges)
            return
        box: Any = ""  # emptied once, so that what is typed meanwhile stays
        with latest.reply() as mine:
            async for exchange, failed in self._answer(asked, exchanges, 0, values):
                if latest.number != mine:
                    return
                if failed:
                    yield text, exchanges, *_columns(exchanges)
                else:
                    yield box, [*exchanges, exchange], *_columns([*exchanges, exchange])
                    box = gr.update()

    async def retry(self, latest: Latest, exchanges: Exchanges, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        """The last message answered anew."""
        if not exchanges:
            gr.Info("Nothing has been said yet.")
            yield exchanges, *_columns(exchanges)
            return
        *before, last = exchanges
        with latest.reply() as mine:
            async for exchange, failed in self._answer(last["text"], before, last["attempt"] + 1, values):
                if latest.number != mine:
                    return
                shown = [*before, last if failed else exchange]
                yield shown, *_columns(shown)

    async def undo(self, text: str, latest: Latest, exchanges: Exchanges) -> AsyncIterator[tuple[Any, ...]]:
        """Take the last message back, into the box if that is empty."""
        box: Any = text or (exchanges[-1]["text"] if exchanges else "")
        async for shown in _show(exchanges[:-1], latest):
            yield box, *shown
            box = gr.update()

    async def reset(self, latest: Latest) -> AsyncIterator[tuple[Any, ...]]:
        """Forget the conversation."""
        box: Any = ""
        async for shown in _show([], latest):
            yield box, *shown
            box = gr.update()

    def save(self, exchanges: Exchanges, *values: Any) -> str:
        """The saved form, for the browser to write to a file; empty where nothing has been said."""
        if not exchanges:
            gr.Info("Nothing has been said yet.")
            return ""
        config, seed = self._settings(values)
        return _conversation(exchanges).to_json({"seed": seed, **dataclasses.asdict(config), **self.shape})

    async def load(
        self, content: bytes, latest: Latest, exchanges: Exchanges, *values: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        """A saved conversation and its settings; what is no such thing changes nothing."""
        try:
            conversation, settings = Conversation.from_json(content)
        except JaegptError as error:
            gr.Warning(str(error))
            yield exchanges, *_columns(exchanges), *values
            return
        loaded = [dataclasses.asdict(exchange) for exchange in conversation.exchanges]
        names = [*(field.name for field in dataclasses.fields(GenerateConfig)), "seed"]
        restored = [settings.get(name, value) for name, value in zip(names, values, strict=True)]
        try:
            config, _ = self._settings(restored)
            for name, (low, high) in self.limits().items():
                if not low <= getattr(config, name) <= high:  # a slider would refuse it at each message
                    raise gr.Error(f"Settings: {name}", print_exception=False)
        except gr.Error:
            gr.Warning("The saved settings cannot be used here. The settings stay as they are.")
            restored = list(values)
        async for shown in _show(loaded, latest):
            yield *shown, *restored
            restored = [gr.update()] * len(restored)

    def limits(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each setting's slider; they leave room for those of params.yaml."""
        limits: dict[str, tuple[float, float]] = {
            "top_p": (0.01, 1),
            "top_k": (0, 1000),
            "temperature": (0, 2),
            "no_repeat_ngram": (0, 10),
            "max_tokens": (1, self.shape["block_size"] // 2),
            "candidates": (1, MOST_CANDIDATES),
        }
        given = dataclasses.asdict(self.config)
        return {name: (min(low, given[name]), max(high, given[name])) for name, (low, high) in limits.items()}

    def _settings(self, values: Any) -> tuple[GenerateConfig, int]:
        """The settings' values, in the order of GenerateConfig's fields, then the seed."""
        *sampling, seed = values
        fields = dataclasses.fields(GenerateConfig)
        try:
            numbers: dict[str, Any] = {
                field.name: (int if isinstance(getattr(self.config, field.name), int) else float)(value)
                for field, value in zip(fields, sampling, strict=True)
            }
            config, number = GenerateConfig(**numbers), int(seed)
            if not 0 <= number < 2**63:
                raise ValueError("seed must be between 0 and 2^63 - 1.")
        except (TypeError, ValueError, OverflowError) as error:
            raise gr.Error(f"Settings: {error}", print_exception=False) from None
        return config, number

    async def _answer(
        self, text: str, before: Exchanges, attempt: int, values: Any
    ) -> AsyncIterator[tuple[dict[str, Any], bool]]:
        """The exchange as its replies grow, and whether it failed: what went wrong is shown as a warning."""
        config, seed = self._settings(values)
        conversation = _conversation(before)
        exchange: dict[str, Any] = {"text": text, "replies": dict.fromkeys(MODELS, ""), "attempt": attempt}
        yield exchange, False
        try:
            answers = self.worker.ask(
                *(
                    Question(
                        speaker=model,
                        history=conversation.history(model, text),
                        config=config,
                        seed=attempt_seed(seed, attempt),
                    )
                    for model in MODELS
                )
            )
            shortened = False
            for model, answer in zip(MODELS, answers, strict=True):
                async for event in answer:
                    if isinstance(event, Reply):
                        shortened |= event.shortened
                    else:
                        exchange["replies"][model] += event
                        yield exchange, False
        except JaegptError as error:
            gr.Warning(str(error))
            yield exchange, True
            return
        if shortened:
            gr.Info("The message is longer than the models read: only its end counts.")


def make_page(page: Page) -> FastAPI:
    """The page as an application at `/`."""
    with gr.Blocks(title="jaegpt", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        lay_out(page)
    blocks.queue(api_open=False, default_concurrency_limit=None)  # the worker's queue is the one that counts
    # Where gradio puts files that visitors load: private, and gone when the program ends.
    private = tempfile.TemporaryDirectory(prefix="jaegpt-")
    os.environ["GRADIO_TEMP_DIR"] = blocks.GRADIO_CACHE = private.name
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.private = private
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size="10mb",
        theme=theme(),
        css=CSS,
    )


def _conversation(exchanges: Exchanges) -> Conversation:
    return Conversation([Exchange(**exchange) for exchange in exchanges])


async def _show(exchanges: Exchanges, latest: Latest) -> AsyncIterator[tuple[Any, ...]]:
    """The exchanges and both columns at once, and again when a reply that was on its way can show no more of itself."""
    mine = latest.begin()
    yield exchanges, *_columns(exchanges)
    if await latest.quiet(mine):
        yield exchanges, *_columns(exchanges)


def _columns(exchanges: Exchanges) -> tuple[list[dict[str, str]], ...]:
    """What the two columns show; an empty reply that is still awaited shows as dots.

    Even without Markdown the browser takes a message's HTML tags for tags (and drops most), so they are escaped.
    """
    conversation = _conversation(exchanges)
    return tuple(
        [{**turn, "content": html.escape(turn["content"]) or "…"} for turn in conversation.log(model)]
        for model in MODELS
    )
