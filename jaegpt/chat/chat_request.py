"""A request to /v1/chat/completions: what is read of it, what is left out, and what is refused."""

import dataclasses
import json
import re
from email.message import Message as Header
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.generation.prompts import clean_text
from jaegpt.generation.settings import GenerateConfig

MOST_STOPS = 4  # as OpenAI has it


class Unsupported(JaegptError):
    """A body of another kind than JSON."""


def _stops(value: object) -> object:
    strings = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
        raise ValueError("must be a text, or a list of texts")
    if len(strings) > MOST_STOPS:
        raise ValueError(f"may hold {MOST_STOPS} texts, found {len(strings)}")
    return [text for text in strings if text]  # an empty one would end every reply before it begins


def _limit(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("must be at least 1, or -1 for as many as the block holds")
    return value


Limit = Annotated[int, AfterValidator(_limit)]


class Message(BaseModel):
    """One message. The owner is the assistant. Other roles than user are left out: training had no one else."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Any = None

    def read(self, place: str) -> tuple[str, list[str]]:
        """The content as one clean text, and the parts that are no text, each as `place (type)`.

        Raises:
            JaegptError: it is neither a text nor a list of parts.
        """
        content = "" if self.content is None else self.content
        if isinstance(content, str):
            return clean_text(content), []
        if not isinstance(content, list):
            raise JaegptError(f"{place}: must be a text, a list of parts, or null.")
        texts, others = [], []
        for number, part in enumerate(content):
            here = f"{place}.{number}"
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str):
                raise JaegptError(f'{here}: must be a part with a type, like {{"type": "text", "text": "hi"}}.')
            if kind != "text":
                others.append(f"{here} ({re.sub(r'[^A-Za-z0-9_-]', '?', kind[:40])})")
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                raise JaegptError(f"{here}.text: must be a text.")
        return clean_text(" ".join(texts)), others


class ChatRequest(BaseModel):
    """What is read of a request. Other fields are ignored, and null counts as absent."""

    model: str | None = None
    messages: list[Message]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    stop: Annotated[list[str], BeforeValidator(_stops)] = []
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool((self.stream_options or {}).get("include_usage"))

    def turns(self, most: int) -> tuple[list[Turn], list[str]]:
        """The last `most` messages that say something as turns, and what was left out of the others.

        A picture in an earlier message is left out; one in the message to be answered is an error.

        Raises:
            JaegptError: there is no user's message to answer, or it holds what cannot be read.
        """
        last = max((number for number, message in enumerate(self.messages) if message.role == "user"), default=-1)
        turns: list[Turn] = []
        left_out: list[str] = []
        for number in range(len(self.messages) - 1, -1, -1):
            message = self.messages[number]
            if message.role in ("tool", "function"):
                left_out.append(f"messages.{number} ({message.role})")
            if message.role not in ("user", "assistant") or len(turns) == most:
                continue
            text, others = message.read(f"messages.{number}.content")
            if others and number >= last:
                raise JaegptError(f"{others[0]}: only text can be read. Send parts of the type text.")
            left_out += others[::-1]
            if text:
                turns.append((message.role == "assistant", text))
        if all(is_owner for is_owner, _ in turns):
            raise JaegptError("`messages` holds no user message with any text: there is nothing to reply to.")
        return turns[::-1], left_out[::-1]

    def config(self, default: GenerateConfig, most_tokens: int) -> GenerateConfig:
        """The server's settings with what the request asks for; never more than `most_tokens` tokens."""
        limit = self.max_completion_tokens or self.max_tokens
        wanted: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": None if self.top_p is None else max(self.top_p, 1e-6),  # 0 means the likeliest token
            "max_tokens": most_tokens if limit == -1 else limit,
        }
        config = dataclasses.replace(default, **{key: value for key, value in wanted.items() if value is not None})
        return dataclasses.replace(config, max_tokens=min(config.max_tokens, most_tokens))


def read_request(content_type: str | None, body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        Unsupported: the header Content-Type does not say JSON; a page elsewhere could send that without asking.
        JaegptError: the body is no JSON, or a field is wrong.
    """
    header = Header()
    header["content-type"] = content_type or ""
    kind = header.get_content_subtype()
    if header.get_content_maintype() != "application" or not (kind == "json" or kind.endswith("+json")):
        found = f"found {content_type[:100]!r}" if content_type else "found none"
        raise Unsupported(f"Send the header `Content-Type: application/json`, {found}.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:  # numbers of more than 4,300 digits are ValueErrors too
        place = f" at character {error.pos:,}" if isinstance(error, json.JSONDecodeError) else ""
        raise JaegptError(f"the body: is no JSON that can be read ({type(error).__name__}{place}).") from None
    try:
        return ChatRequest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:200] or "the body"
        raise JaegptError(f"{place}: {first['msg'].removeprefix('Value error, ')}.") from None


def notice(left_out: list[str]) -> dict[str, str]:
    """The response header that says what was left out."""
    if not left_out:
        return {}
    more = f" and {len(left_out) - 5:,} more" if len(left_out) > 5 else ""
    return {"x-jaegpt-notice": f"left out: {', '.join(left_out[:5])}{more}"}
