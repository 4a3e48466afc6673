"""`jaegpt turing`: a page that shows a context and two replies, one real and one the model's, to be told apart.

It answers to this machine alone and loads nothing from elsewhere; the contexts are the owner's private messages.
"""

import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read when gradio is imported: it counts its uses and asks for newer versions otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI

from jaegpt.chat.turing_rounds import SIDES, Round, Side, history_html, make_rounds, save_picks, verdict
from jaegpt.evaluation.contexts import Context

_TITLE = "Which reply is real?"
_INTRODUCTION = f"""# {_TITLE}
One reply is what the person really wrote, the other is the model's. Pick the real one, by click or the keys A and B."""
_CSS = """
footer { display: none !important; }
.history p { margin: 0.3rem 0; padding: 0.5rem 0.75rem; border-radius: 0.5rem; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); width: fit-content; max-width: 90%; }
.history p.own { margin-left: auto; }
.history b { font-size: 0.8em; opacity: 0.75; display: block; }
#pick-a, #pick-b { white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; justify-content: flex-start;
  font-weight: normal; min-height: 4rem; height: auto; }
"""
_KEYS = """() => document.addEventListener('keydown', event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = {a: 'pick-a', b: 'pick-b'}[event.key.toLowerCase()];
  if (button) document.getElementById(button)?.click();
})"""

State = dict[str, Any]  # game: its number; picks: the sides picked so far


class Games:
    """All games of this run. A game's rounds follow from the seed and its number; picks live in the visitor's session.

    Args:
        contexts, generated: what is shown, as `make_rounds` takes it.
        count: rounds a game.
        folder: where each game is saved, as game-0001.csv and so on; numbers that are taken are passed over.

    Raises:
        JaegptError: there are not enough contexts.
    """

    def __init__(
        self, contexts: Sequence[Context], generated: Sequence[str], count: int, seed: int, folder: Path
    ) -> None:
        self.contexts = contexts
        self.generated = generated
        self.count = count
        self.seed = seed
        self.folder = folder
        self.rounds(1)
        taken = [
            int(found[1]) for path in folder.glob("game-*.csv") if (found := re.search(r"-(\d+)\.csv$", path.name))
        ]
        self._number = max(taken, default=0)
        self._lock = threading.Lock()

    def rounds(self, game: int) -> list[Round]:
        """The rounds of game number `game`."""
        return make_rounds(self.contexts, self.generated, self.count, (self.seed, game))

    def start(self) -> tuple[Any, ...]:
        """A new game: its state and what is shown."""
        with self._lock:
            self._number += 1
            state: State = {"game": self._number, "picks": []}
        return state, *self._shown(state)

    def pick(self, side: Side, state: State) -> tuple[Any, ...]:
        """The visitor's choice in this round; it is saved at once. A page left open for a day starts anew."""
        if not state:
            return self.start()
        rounds = self.rounds(state["game"])
        picks = [*state["picks"], side][: len(rounds)]
        save_picks(self.folder / f"game-{state['game']:04d}.csv", rounds, picks)
        state = {**state, "picks": picks}
        return state, *self._shown(state)

    def _shown(self, state: State) -> tuple[Any, ...]:
        """Updates of: progress, context, both buttons, the button for another game."""
        rounds, picks = self.rounds(state["game"]), state["picks"]
        if len(picks) == len(rounds):
            saved = f"\n\nSaved as game-{state['game']:04d}.csv."
            return f"## {verdict(rounds, picks)}{saved}", "", *[gr.update(visible=False)] * 2, gr.update(visible=True)
        now = rounds[len(picks)]
        buttons = [gr.update(value=f"{side}   {now.replies[side] or '(nothing)'}", visible=True) for side in SIDES]
        progress = f"Round {len(picks) + 1} of {len(rounds)}"
        return progress, history_html(now.history), *buttons, gr.update(visible=False)


def make_page(games: Games) -> FastAPI:
    """The page as an application at `/`."""
    with gr.Blocks(title=f"jaegpt: {_TITLE}", analytics_enabled=False) as blocks:
        gr.Markdown(_INTRODUCTION)
        state = gr.State({}, time_to_live=24 * 3600)
        progress = gr.Markdown(elem_id="progress")
        context = gr.HTML(elem_id="context")
        with gr.Row(equal_height=True):
            picks = {
                side: gr.Button("", elem_id=f"pick-{side.lower()}", min_width=280, visible=False) for side in SIDES
            }
        again = gr.Button("Another game", elem_id="again", variant="primary", visible=False)
        shown = [state, progress, context, *picks.values(), again]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        for side, button in picks.items():
            button.click(lambda state, side=side: games.pick(side, state), state, shown, **hidden)
        gr.on([blocks.load, again.click], games.start, None, shown, **hidden)
    blocks.queue(api_open=False)
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_CSS,
        js=_KEYS,
    )
