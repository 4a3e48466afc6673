"""`jaegpt web`: a page with the fine-tuned and the base model side by side, made of this machine's files alone.

The conversation lives in the browser, which sends along what a reply needs; the server keeps nothing of a visitor.
"""

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import Field, StrictFloat, StrictInt
from starlette.concurrency import run_in_threadpool

from jaegpt.chat.conversation import BASE, FORMAT, MODELS, TUNED, Conversation, Exchange, attempt_seed
from jaegpt.chat.pages import Body, Nothing, events_response, new_page, problem
from jaegpt.chat.worker import Answer, Question, Worker
from jaegpt.errors import JaegptError
from jaegpt.generation.prompts import MAX_TEXT, clean_text
from jaegpt.generation.settings import MOST_CANDIDATES, RERANKS, GenerateConfig, Rerank
from jaegpt.generation.speaker import RECENT, Reply

# setting -> (step, explanation); a choice among words has no step
_SETTINGS = {
    "top_p": (0.01, "Draw from the likeliest words that together have this probability. Low: safe, high: bold"),
    "top_k": (1, "And from this many words at most. 0: any number"),
    "min_p": (0.01, "And from words at least this many times as probable as the likeliest. 0: from all"),
    "temperature": (0.05, "Above 1 makes unlikely words likelier. 0: always the likeliest word"),
    "guidance": (0.05, "Above 1: closer to what was said before. 1: as the model has learned"),
    "no_repeat_ngram": (1, "No run of this many words comes twice in a reply. 0: it may"),
    "max_tokens": (1, "Longest reply, in tokens (about 0.75 words each)"),
    "candidates": (1, "Replies drawn, of which one is shown"),
    "rerank": (None, "Shown is the likeliest to be the person's (head), or the one that fits what was said best (fit)"),
}
# How conversations were drawn that were saved before these were settings.
_BEFORE = {"min_p": 0.0, "guidance": 1.0, "rerank": "head"}
_ABOUT_SEED = "The same seed, settings and messages give the same replies"

MOST_BYTES = 1_000_000  # of a saved conversation that is loaded: some 5,000 messages

Text = Annotated[str, Field(max_length=MAX_TEXT)]


class Replies(Body):
    """Both models' replies to one message."""

    jaegpt: Text
    base: Text


class Said(Body):
    """An exchange of the conversation so far."""

    text: Text
    replies: Replies


class Ask(Body):
    """A message to answer.

    before: the exchanges before it, oldest first; as many as the models are shown will do.
    attempt: 0, and 1 more for each retry.
    settings: a number for each field of GenerateConfig, or a word for `rerank`.
    seed: its digits, since a browser's numbers do not reach as far.
    """

    text: str  # a longer one than MAX_TEXT is answered by its end
    before: list[Said]
    attempt: Annotated[int, Field(ge=0, le=1_000_000)]
    settings: Annotated[dict[str, StrictInt | StrictFloat | Rerank], Field(max_length=32)]
    seed: Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]


class Page:
    """What the page asks of the server.

    Args:
        worker: answers with the models jaegpt and base.
        config: the settings shown at first. seed: likewise.
        view: what else the replies depend on, for saved conversations: num_history, block_size, learn, separator.
    """

    def __init__(self, worker: Worker, config: GenerateConfig, seed: int, view: Mapping[str, Any]) -> None:
        assert list(_SETTINGS) == [field.name for field in dataclasses.fields(GenerateConfig)]
        self.worker = worker
        self.config = config
        self.seed = seed
        self.view = dict(view)
        # Exchanges of two turns each, and the replies that the next one is not to repeat.
        self.most_before = max(self.view["num_history"] // 2 + 1, RECENT)

    def begin(self) -> dict[str, Any]:
        """What the page shows at first, and the saved form of a conversation but for what was said."""
        limits = self.limits()
        settings = [
            {
                "name": name, "about": about, "value": getattr(self.config, name),
                **({"step": step, "low": limits[name][0], "high": limits[name][1]} if step else {"choices": RERANKS}),
            }
            for name, (step, about) in _SETTINGS.items()
        ]  # fmt: skip
        return {
            "settings": settings,
            "seed": {"value": str(self.seed), "about": _ABOUT_SEED},
            "mostBefore": self.most_before,
            "mostText": MAX_TEXT,
            "mostBytes": MOST_BYTES,
            "format": FORMAT,
            "view": self.view,
            "bursts": self.view.get("separator") == "newline",
            "first": self.view.get("learn") == "sessions",  # whether an empty message lets the models begin
        }

    def limits(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each setting that is a number; they leave room for those of params.yaml."""
        limits: dict[str, tuple[float, float]] = {
            "top_p": (0.01, 1),
            "top_k": (0, 1000),
            "min_p": (0, 0.5),
            "temperature": (0, 2),
            "guidance": (0, 3),
            "no_repeat_ngram": (0, 10),
            "max_tokens": (1, self.view["block_size"] // 2),
            "candidates": (1, MOST_CANDIDATES),
        }
        given = dataclasses.asdict(self.config)
        return {name: (min(low, given[name]), max(high, given[name])) for name, (low, high) in limits.items()}

    def settings(self, values: Mapping[str, Any]) -> GenerateConfig:
        """The settings' values as a config.

        Raises:
            JaegptError: one is missing, no number, or beyond its limits, or they do not go together.
        """
        limits = self.limits()
        if set(values) != set(_SETTINGS):
            raise JaegptError(f"Settings: needed are {', '.join(_SETTINGS)}.")
        taken: dict[str, Any] = {"rerank": values["rerank"]}
        for name, (low, high) in limits.items():
            value, whole = values[name], isinstance(getattr(self.config, name), int)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise JaegptError(f"Settings: {name} must be a number from {low:g} to {high:g}.")
            if whole and not float(value).is_integer():
                raise JaegptError(f"Settings: {name} must be a whole number.")
            taken[name] = int(value) if whole else float(value)
        try:
            return GenerateConfig(**taken)
        except ValueError as error:
            raise JaegptError(f"Settings: {error}") from None

    def load(self, content: bytes) -> dict[str, Any]:
        """A saved conversation: its exchanges, and its settings and seed, or None where they cannot be used here.

        Raises:
            JaegptError: it is something else.
        """
        conversation, saved = Conversation.from_json(content)
        seed = saved.get("seed", self.seed)
        if "candidates" in saved:
            saved = {**_BEFORE, **saved}
        values = {name: saved.get(name, value) for name, value in dataclasses.asdict(self.config).items()}
        try:
            config = self.settings(values)
            _check_seed(seed)
        except JaegptError:
            restored = None
        else:
            restored = {**dataclasses.asdict(config), "seed": str(seed)}
        return {"exchanges": [dataclasses.asdict(one) for one in conversation.exchanges], "settings": restored}

    def ask(self, asked: Ask) -> AsyncIterator[dict[str, Any]]:
        """Both replies as they come: the message as it is answered, then pieces of text, then how it ended.

        Raises:
            JaegptError: there is nothing to answer, or a setting is wrong; later ones come as an event of their own.
        """
        text, seed, config = clean_text(asked.text), int(asked.seed), self.settings(asked.settings)
        if not text and (asked.before or self.view.get("learn") != "sessions"):
            raise JaegptError("Type a message first.")
        _check_seed(seed)
        if len(asked.before) > self.most_before:
            raise JaegptError(f"before: at most {self.most_before} exchanges count, found {len(asked.before):,}.")
        conversation = Conversation(
            [Exchange(text=clean_text(said.text), replies=said.replies.model_dump()) for said in asked.before]
        )
        questions = [
            Question(
                speaker=model,
                history=conversation.history(model, text),
                config=config,
                seed=attempt_seed(seed, asked.attempt),
            )
            for model in (TUNED, BASE)
        ]
        return self._events(text, len(asked.text) > MAX_TEXT, questions)

    async def _events(self, text: str, shortened: bool, questions: list[Question]) -> AsyncIterator[dict[str, Any]]:
        yield {"text": text}
        answers: list[Answer] = []
        try:
            answers = self.worker.ask(*questions)
            for model, answer in zip(MODELS, answers, strict=True):
                async for event in answer:
                    if isinstance(event, Reply):
                        shortened |= event.shortened
                    else:
                        yield {"model": model, "piece": event}
            yield {"end": True, "shortened": shortened}
        except JaegptError as error:
            yield {"error": str(error)}
        finally:
            for answer in answers:  # who has left is not answered, by either model
                answer.wanted = False


def make_page(page: Page) -> FastAPI:
    """The page as an application at `/`."""
    app = new_page("web")

    @app.post("/begin")
    async def begin(_: Nothing) -> dict[str, Any]:
        return page.begin()

    @app.post("/reply")
    async def reply(asked: Ask) -> Response:
        events = page.ask(asked)
        return events_response(f"data: {json.dumps(event)}\n\n" async for event in events)

    @app.post("/load")
    async def load(request: Request) -> Any:
        if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
            return problem(413, f"A saved conversation may have {MOST_BYTES:,} bytes at most.")
        return await run_in_threadpool(page.load, await request.body())

    return app


def _check_seed(seed: Any) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise JaegptError("Settings: seed must be a whole number between 0 and 2^63 - 1.")
