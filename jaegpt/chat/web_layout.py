"""How the page of `jaegpt web` looks, and which of its controls does what."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gradio as gr

from jaegpt.chat.conversation import BASE, TUNED
from jaegpt.chat.generation import GenerateConfig

if TYPE_CHECKING:
    from jaegpt.chat.web import Page

NOTICE = """# jaegpt
**This is a model of a person, not the person.** It says things the person never said, and it may repeat messages it
was trained on. Do not take its words for theirs, and do not pass them on as theirs."""
CSS = """
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


class Latest:
    """Counts what one visitor does: a reply on its way must not bring back what a later action took away."""

    def __init__(self) -> None:
        self.number = 0
        self._replies = 0

    def begin(self) -> int:
        """The number of an action that begins now; those before it are no longer the latest."""
        self.number += 1
        return self.number

    @contextmanager
    def reply(self) -> Iterator[int]:
        """An action that shows a reply as it grows: its number."""
        self._replies += 1
        try:
            yield self.begin()
        finally:
            self._replies -= 1

    async def quiet(self, mine: int) -> bool:
        """Wait until no reply grows, or action `mine` is no longer the latest; whether one grew and it still is.

        What a reply has given is with the browser by then: gradio asks for more only after it has sent what it got.
        """
        grew = bool(self._replies)
        while self._replies and self.number == mine:
            await asyncio.sleep(0.02)
        return grew and self.number == mine


def theme() -> gr.themes.Base:
    """The visitor's own fonts, and small print dark enough to read."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(block_info_text_color="*neutral_600", input_placeholder_color="*neutral_500")


def lay_out(page: Page) -> None:
    gr.Markdown(NOTICE, elem_id="notice")
    exchanges = gr.State([], time_to_live=24 * 3600)
    latest = gr.State(Latest(), time_to_live=24 * 3600)  # each visitor gets a copy
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
    gr.on([message.submit, send.click], page.say, [message, latest, exchanges, *settings], shown, **hidden)
    retry.click(page.retry, [latest, exchanges, *settings], [exchanges, *columns], **hidden)
    hidden["trigger_mode"] = "multiple"  # a second click counts while the first still waits for a reply to end
    undo.click(page.undo, [message, latest, exchanges], shown, **hidden)
    for cleared in (reset.click, *(column.clear for column in columns)):
        cleared(page.reset, latest, shown, **hidden)
    load.upload(page.load, [load, latest, exchanges, *settings], [exchanges, *columns, *settings], **hidden)
    save.click(page.save, [exchanges, *settings], saved, **hidden).then(None, saved, None, js=_DOWNLOAD)


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
    config, limits = page.config, page.limits()
    # name -> (step, explanation)
    sliders = {
        "top_p": (0.01, "Draw from the likeliest words that together have this probability. Low: safe, high: bold"),
        "top_k": (1, "And from this many words at most. 0: any number"),
        "temperature": (0.05, "Above 1 makes unlikely words likelier. 0: always the likeliest word"),
        "no_repeat_ngram": (1, "No run of this many words comes twice in a reply. 0: it may"),
        "max_tokens": (1, "Longest reply, in tokens (about 0.75 words each)"),
        "candidates": (1, "Replies drawn, of which the likeliest to be the person's is shown"),
    }
    assert list(sliders) == list(limits) == [field.name for field in dataclasses.fields(GenerateConfig)]
    with gr.Row():
        controls: list[gr.components.Component] = [
            gr.Slider(
                *limits[name], getattr(config, name), step=step, label=name, info=info, elem_id=f"set-{name}",
                min_width=280,
            )
            for name, (step, info) in sliders.items()
        ]  # fmt: skip
        info = "The same seed, settings and messages give the same replies"
        controls.append(gr.Number(page.seed, label="seed", info=info, precision=0, minimum=0, min_width=280))
    return controls
