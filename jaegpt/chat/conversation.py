"""A conversation with the fine-tuned and the base model side by side: what was said, and its saved form."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.files import writing_file
from jaegpt.generation.prompts import clean_text

TUNED, BASE = "jaegpt", "base"
MODELS = (TUNED, BASE)
FORMAT = "jaegpt conversation 1"
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass
class Exchange:
    """One message of the user and each model's reply; `attempt` counts its retries.

    A conversation that the models begin has an empty text in its first exchange.
    """

    text: str
    replies: dict[str, str]
    attempt: int = 0


@dataclass
class Conversation:
    """The exchanges so far, oldest first. Each model is shown its own replies only."""

    exchanges: list[Exchange] = field(default_factory=list)

    def history(self, model: str, text: str) -> list[Turn]:
        """The turns that `model` is to answer when the user says `text`; with an empty one, the model speaks first."""
        turns: list[Turn] = []
        for exchange in self.exchanges:
            turns += [(False, exchange.text), (True, exchange.replies[model])]
        return [(is_owner, said) for is_owner, said in [*turns, (False, text)] if is_owner or said]

    def log(self, model: str) -> list[dict[str, str]]:
        """What was said with one model: {"role": "user" or, for the model, "assistant", "content": text} in turn."""
        return [
            {"role": role, "content": text}
            for exchange in self.exchanges
            for role, text in (("user", exchange.text), ("assistant", exchange.replies[model]))
        ]

    def to_json(self, settings: Mapping[str, Any]) -> str:
        """The saved form: settings and both logs."""
        logs = {model: self.log(model) for model in MODELS}
        return json.dumps({"format": FORMAT, "settings": settings, "logs": logs}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes) -> tuple["Conversation", dict[str, Any]]:
        """What `to_json` wrote: the conversation, its texts cleaned as typed ones are, and its settings.

        Raises:
            JaegptError: it is something else.
        """
        try:
            saved = json.loads(content)
            settings, logs = saved["settings"], [_turns(saved["logs"][model]) for model in MODELS]
            users = [log[0::2] for log in logs]
            if saved["format"] != FORMAT or users[0] != users[1] or not isinstance(settings, dict):
                raise ValueError
            if not all(users[0][1:]):  # to say nothing is to let the models begin
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise JaegptError("not a saved conversation. Choose a file that was saved here.") from None
        exchanges = [
            Exchange(text=text, replies=dict(zip(MODELS, replies, strict=True)))
            for text, *replies in zip(users[0], *(log[1::2] for log in logs), strict=True)
        ]
        return cls(exchanges), settings

    def save(self, folder: Path, name: str, settings: Mapping[str, Any]) -> Path:
        """Write `folder`/`name`.json, whole or not at all; an existing file is never replaced.

        Raises:
            JaegptError: the name is taken or cannot be a file's, or the disk does not take it.
        """
        path = _path(folder, name)
        try:
            with writing_file(path) as temporary:
                # Asked here, where no second chat can take the name before the file is in its place.
                if path.exists():
                    raise JaegptError(f"{path} exists and is not replaced. Choose another name.")
                temporary.write_text(self.to_json(settings), encoding="utf-8", newline="\n")
        except OSError as error:
            raise JaegptError(f"{path}: cannot be saved ({error.strerror}).") from None
        return path

    @classmethod
    def load(cls, folder: Path, name: str) -> tuple["Conversation", dict[str, Any]]:
        """What `save` wrote."""
        path = _path(folder, name)
        if not path.is_file():
            raise JaegptError(f"{path}: no such conversation.")
        return cls.from_json(path.read_bytes())


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed of a message's first answer (attempt 0) and of each retry."""
    return (seed + 1_000_003 * attempt) % 2**63


def _turns(log: Iterable[Mapping[str, str]]) -> list[str]:
    """The texts of a log, in pairs of user and assistant."""
    turns = list(log)
    roles = [turn["role"] for turn in turns]
    texts = [turn["content"] for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2) or not all(isinstance(text, str) for text in texts):
        raise ValueError
    cleaned = [clean_text(text) for text in texts]
    if any(text and not left for text, left in zip(texts[0::2], cleaned[0::2], strict=True)):
        raise ValueError  # a message that says nothing is not the empty one that lets the models begin
    return cleaned


def _path(folder: Path, name: str) -> Path:
    name = name.removesuffix(".json")
    if not _NAME.fullmatch(name):
        raise JaegptError(f"{name!r} cannot be a conversation's name. Use letters, digits, dots, _ and -.")
    return folder / f"{name}.json"
