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

from jaegpt.chat.conversation import BASE, MODELS, TUNED, Conversation, Exchange, attempt_seed
from jaegpt.chat.generation import MOST_CANDIDATES, GenerateConfig, Reply
from jaegpt.chat.prompts import clean_text
from jaegpt.chat.worker import Question, Worker
from jaegpt.errors import JaegptError

NOTICE = """# jaegpt
**This is a model of a person, not the person.** It says things the person never said, and it may repeat messages it
was trained on. Do not take its words for theirs, and do not pass them on as theirs."""
_CSS = """
footer { display: none !important; }
#notice { border-left: 4px solid var(--color-accent); padding-left: 1rem; }
#notice h1 { margin: 0; }
#saved { display: none; }
@media (max-width: 640px) { #column-jaegpt, #column-base { height: 30vh !important; min-height: 190px !important; } }
"""
_DOWNLOAD = """text => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = 'conversation.json';
  link.click();
  URL.revokeObjectURL(link.href);
}"""

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

    async def say(self, text: str, exchanges: Exchanges, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        """Both replies to a message, as they come: (message box, exchanges, both columns)."""
        asked = clean_text(text)
        if not asked:
            gr.Info("Type a message first.")
            yield text, exchanges, *_columns(exchanges)
            return
        box: Any = ""  # emptied once, so that what is typed meanwhile stays
        async for exchange, failed in self._answer(asked, exchanges, 0, values):
            if failed:
                yield text, exchanges, *_columns(exchanges)
            else:
                yield box, [*exchanges, exchange], *_columns([*exchanges, exchange])
                box = gr.update()

    async def retry(self, exchanges: Exchanges, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        """The last message answered anew."""
        if not exchanges:
            gr.Info("Nothing has been said yet.")
            yield exchanges, *_columns(exchanges)
            return
        *before, last = exchanges
        async for exchange, failed in self._answer(last["text"], before, last["attempt"] + 1, values):
            shown = [*before, last if failed else exchange]
            yield shown, *_columns(shown)

    def undo(self, text: str, exchanges: Exchanges) -> tuple[Any, ...]:
        """Take the last message back, into the box if that is empty."""
        taken = exchanges[-1]["text"] if exchanges else ""
        return text or taken, exchanges[:-1], *_columns(exchanges[:-1])

    def reset(self) -> tuple[Any, ...]:
        """Forget the conversation."""
        return "", [], *_columns([])

    def save(self, exchanges: Exchanges, *values: Any) -> str:
        """The saved form, for the browser to write to a file; empty where nothing has been said."""
        if not exchanges:
            gr.Info("Nothing has been said yet.")
            return ""
        config, seed = self._settings(values)
        return _conversation(exchanges).to_json({"seed": seed, **dataclasses.asdict(config), **self.shape})

    def load(self, content: bytes, exchanges: Exchanges, *values: Any) -> tuple[Any, ...]:
        """A saved conversation and its settings; what is no such thing changes nothing."""
        try:
            conversation, settings = Conversation.from_json(content)
        except JaegptError as error:
            gr.Warning(str(error))
            return exchanges, *_columns(exchanges), *values
        loaded = [dataclasses.asdict(exchange) for exchange in conversation.exchanges]
        names = [*(field.name for field in dataclasses.fields(GenerateConfig)), "seed"]
        restored = [settings.get(name, value) for name, value in zip(names, values, strict=True)]
        try:
            self._settings(restored)
        except gr.Error:
            gr.Warning("The saved settings cannot be used here. The settings stay as they are.")
            restored = list(values)
        return loaded, *_columns(loaded), *restored

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
        except (TypeError, ValueError) as error:
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
        _lay_out(page)
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
        theme=_theme(),
        css=_CSS,
    )


def _theme() -> gr.themes.Base:
    """The visitor's own fonts, and small print dark enough to read."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(block_info_text_color="*neutral_600", input_placeholder_color="*neutral_500")


def _lay_out(page: Page) -> None:
    gr.Markdown(NOTICE, elem_id="notice")
    exchanges = gr.State([], time_to_live=24 * 3600)
    with gr.Row():
        columns = [_column(TUNED, "jaegpt (fine-tuned)"), _column(BASE, "base model (untouched)")]
    with gr.Row(equal_height=True):
        message = gr.Textbox(
            label="Message",
            placeholder="Say something, then Enter",
            autofocus=True,
            scale=8,
            max_lines=8,
            min_width=200,
        )
        send = gr.Button("Send", variant="primary", scale=1, min_width=80)
    with gr.Row():
        retry, undo, reset = (gr.Button(name, size="md", min_width=80) for name in ("Retry", "Undo", "Reset"))
    with gr.Accordion("Settings", open=False):
        settings = _settings_controls(page)
    with gr.Row():
        save = gr.Button("Save conversation", size="md", min_width=120)
        load = gr.UploadButton("Load conversation", file_types=[".json"], type="binary", size="md", min_width=120)
    saved = gr.Textbox(elem_id="saved", visible="hidden")

    shown = [message, exchanges, *columns]
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on([message.submit, send.click], page.say, [message, exchanges, *settings], shown, **hidden)
    retry.click(page.retry, [exchanges, *settings], [exchanges, *columns], **hidden)
    undo.click(page.undo, [message, exchanges], shown, **hidden)
    for cleared in (reset.click, *(column.clear for column in columns)):
        cleared(page.reset, None, shown, **hidden)
    save.click(page.save, [exchanges, *settings], saved, **hidden).then(None, saved, None, js=_DOWNLOAD)
    load.upload(page.load, [load, exchanges, *settings], [exchanges, *columns, *settings], **hidden)


def _column(model: str, label: str) -> gr.Chatbot:
    # Everything is shown as plain text: what a model or a visitor writes is never markup, a formula or a picture.
    return gr.Chatbot(
        label=label,
        elem_id=f"column-{model}",
        height="50vh",
        min_height=220,
        min_width=280,
        render_markdown=False,
        latex_delimiters=[],
        buttons=[],
        feedback_options=None,
        allow_file_downloads=False,
        placeholder="Nothing said yet",
    )


def _settings_controls(page: Page) -> list[gr.components.Component]:
    """One control for each field of GenerateConfig, in its order, then the seed."""
    config = page.config
    most_tokens = max(page.shape["block_size"] // 2, config.max_tokens)
    sliders = {
        "top_p": (
            0.01,
            1,
            0.01,
            "Draw from the likeliest words that together have this probability. Low: safe, high: bold",
        ),
        "top_k": (0, 1000, 1, "And from this many words at most. 0: any number"),
        "temperature": (0, 2, 0.05, "Above 1 makes unlikely words likelier. 0: always the likeliest word"),
        "no_repeat_ngram": (0, 10, 1, "No run of this many words comes twice in a reply. 0: it may"),
        "max_tokens": (1, most_tokens, 1, "Longest reply, in tokens (about 0.75 words each)"),
        "candidates": (1, MOST_CANDIDATES, 1, "Replies drawn, of which the likeliest to be the person's is shown"),
    }
    assert list(sliders) == [field.name for field in dataclasses.fields(GenerateConfig)]
    with gr.Row():
        controls: list[gr.components.Component] = [
            gr.Slider(
                low, high, getattr(config, name), step=step, label=name, info=info, elem_id=f"set-{name}", min_width=280
            )
            for name, (low, high, step, info) in sliders.items()
        ]
        info = "The same seed, settings and messages give the same replies"
        controls.append(gr.Number(page.seed, label="seed", info=info, precision=0, minimum=0, min_width=280))
    return controls


def _conversation(exchanges: Exchanges) -> Conversation:
    return Conversation([Exchange(**exchange) for exchange in exchanges])


def _columns(exchanges: Exchanges) -> tuple[list[dict[str, str]], ...]:
    """What the two columns show; an empty reply that is still awaited shows as dots.

    Even without Markdown the browser takes a message's HTML tags for tags (and drops most), so they are escaped.
    """
    conversation = _conversation(exchanges)
    return tuple(
        [{**turn, "content": html.escape(turn["content"]) or "…"} for turn in conversation.log(model)]
        for model in MODELS
    )
