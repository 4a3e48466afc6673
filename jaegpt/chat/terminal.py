"""`jaegpt chat`: the fine-tuned model and the base model answer in turn, in a terminal or through a pipe."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaegpt.chat.conversation import BASE, MODELS, TUNED, Conversation, Exchange, attempt_seed
from jaegpt.errors import JaegptError
from jaegpt.generation.prompts import clean_text
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker

_SAVE = re.compile(r"save [\w.-]+")  # as the original's program has it
HELP = """/save NAME         write the conversation and the settings to a file
/load NAME         go on with a saved conversation
/undo              take your last message and its replies back
/first             let the models speak first
/retry             answer your last message again
/reset             forget the conversation
/set               show the settings
/set top_p 0.9     change one
/quit              leave (also Ctrl-D); Ctrl-C stops a reply"""


class Chat:
    """The conversation behind the prompt: one line in, text out through `write`.

    Args:
        speakers: by name, jaegpt and base.
        folder: where /save writes.
        write: takes text as it comes, line breaks included.
    """

    def __init__(
        self,
        speakers: Mapping[str, Speaker],
        config: GenerateConfig,
        seed: int,
        folder: Path,
        write: Callable[[str], None],
    ) -> None:
        self.speakers = speakers
        self.config = config
        self.seed = seed
        self.folder = folder
        self.write = write
        self.conversation = Conversation()

    def take(self, line: str) -> bool:
        """Answer a message or follow a command; False at /quit. What the user got wrong is written, not raised."""
        text = clean_text(line)
        try:
            if _SAVE.fullmatch(text):
                text = f"/{text}"
            if text.startswith("/"):
                return self._command(text)
            if text:
                self._say(text, 0)
            else:
                self.write("(nothing to answer: the message is empty)\n")
        except JaegptError as error:
            self.write(f"error: {error}\n")
        except KeyboardInterrupt:
            self.write("\n(stopped; the conversation is as it was before)\n")
        return True

    def begin(self) -> None:
        """Let the models speak first.

        Raises:
            JaegptError: something has been said, or the model never learned first words.
        """
        if self.conversation.exchanges:
            raise JaegptError("/first: the conversation has begun. /reset forgets it.")
        self._say("", 0)

    def settings(self) -> dict[str, Any]:
        """All that the replies depend on besides the messages."""
        speaker = self.speakers[TUNED]
        return {
            "seed": self.seed,
            **dataclasses.asdict(self.config),
            **speaker.view,
            "precision": speaker.device.precision,
        }

    def _say(self, text: str, attempt: int) -> None:
        replies = {}
        prompts = {
            model: self.speakers[model].prompt(self.conversation.history(model, text), self.config) for model in MODELS
        }
        for model in MODELS:
            self.write(f"{model}: ")
            history = self.conversation.history(model, text)
            pieces = []
            for piece in self.speakers[model].stream(history, self.config, attempt_seed(self.seed, attempt)):
                self.write(_under_name(self.speakers[model], model, piece))
                pieces.append(piece)
            self.write("\n")
            if prompts[model].shortened:
                self.write("(the message is longer than the model reads: only its end counts)\n")
            replies[model] = "".join(pieces)
        self.conversation.exchanges.append(Exchange(text=text, replies=replies, attempt=attempt))

    def _command(self, text: str) -> bool:
        name, *arguments = text.split()
        match name, arguments:
            case "/quit" | "/exit", []:
                return False
            case "/help", []:
                self.write(HELP + "\n")
            case "/first", []:
                self.begin()
            case "/undo", []:
                self.write(f"(taken back: {self._last(name).text or 'what they began with'})\n")
                self.conversation.exchanges.pop()
            case "/retry", []:
                self._retry()
            case "/reset", []:
                self.conversation = Conversation()
                self.write("(forgotten)\n")
            case "/save", [file]:
                self.write(f"(saved: {self.conversation.save(self.folder, file, self.settings())})\n")
            case "/load", [file]:
                self.conversation, _ = Conversation.load(self.folder, file)
                self.write(f"(loaded: {len(self.conversation.exchanges):,} messages; the settings stay as they are)\n")
            case "/set", []:
                self.write("".join(f"{key} = {value}\n" for key, value in self.settings().items()))
            case "/set", [key, value]:
                self._set(key, value)
                self.write(f"({key} = {value})\n")
            case _:
                raise JaegptError(f"{text.split()[0]} is no command in this form. /help lists them.")
        return True

    def _last(self, command: str) -> Exchange:
        if not self.conversation.exchanges:
            raise JaegptError(f"{command}: nothing has been said yet.")
        return self.conversation.exchanges[-1]

    def _retry(self) -> None:
        last = self._last("/retry")
        self.conversation.exchanges.pop()
        try:
            self._say(last.text, last.attempt + 1)
        except BaseException:
            self.conversation.exchanges.append(last)
            raise

    def _set(self, key: str, value: str) -> None:
        kinds = {"seed": int, **{field.name: field.type for field in dataclasses.fields(GenerateConfig)}}
        if key not in kinds:
            raise JaegptError(f"/set: no setting {key!r}. There are: {', '.join(kinds)}.")
        number: Any = value
        if key != "rerank":
            try:
                number = int(value) if kinds[key] is int else float(value)
            except ValueError:
                raise JaegptError(f"/set {key}: needs a number, found {value!r}.") from None
        if key == "seed":
            if not 0 <= number < 2**63:
                raise JaegptError(f"/set seed: must be between 0 and 2^63 - 1, found {value}.")
            self.seed = number
            return
        try:
            self.config = dataclasses.replace(self.config, **{key: number})
        except ValueError as error:
            raise JaegptError(f"/set {error}") from None


def chat_once(chat: Chat, text: str, as_json: bool) -> str:
    """One message answered: two lines, or {"reply": ..., "base_reply": ..., "settings": ...}.

    Raises:
        JaegptError: the message is empty.
    """
    asked = clean_text(text)
    if not asked:
        raise JaegptError("--once: the message is empty.")
    seed = attempt_seed(chat.seed, 0)
    replies = {model: "".join(chat.speakers[model].stream([(False, asked)], chat.config, seed)) for model in MODELS}
    if as_json:
        content = {"reply": replies[TUNED], "base_reply": replies[BASE], "settings": chat.settings()}
        return json.dumps(content, ensure_ascii=False)
    named = (_under_name(chat.speakers[model], model, reply) for model, reply in replies.items())
    return "\n".join(f"{model}: {text}" for model, text in zip(replies, named, strict=True))


def _under_name(speaker: Speaker, model: str, text: str) -> str:
    """Each message of a burst on a line of its own, under the model's name."""
    return text.replace("\n", f"\n{model}: ") if speaker.separator == "newline" else text


def run_terminal(chat: Chat) -> None:
    """Read lines until the end of input or /quit: with editing and a history in a terminal, plainly from a pipe."""
    for line in _edited_lines() if sys.stdin.isatty() else _plain_lines():
        if not chat.take(line):
            return


def _plain_lines() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip():
            print(f"> {line.rstrip()}")
            yield line


def _edited_lines() -> Iterator[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import InMemoryHistory

    words = [line.split()[0] for line in HELP.splitlines()]
    # The history is of this session only: what was said is not left in a file unasked.
    session: PromptSession[str] = PromptSession(
        history=InMemoryHistory(), completer=WordCompleter(sorted(set(words)), sentence=True)
    )
    while True:
        try:
            line = session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line.strip():
            yield line
