"""An OpenAI-compatible server: /v1/chat/completions, streaming included, and /v1/models.

`transformers serve` is not used: it renders messages with the chat template as one text, so that a message that spells
out a control token becomes one, shows the model as much history as it is sent, and knows no classification head.
"""

import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from jaegpt.chat.generation import GenerateConfig, Reply
from jaegpt.chat.prompts import clean_text
from jaegpt.chat.worker import Answer, Busy, Failed, Question, Worker
from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError


class Part(BaseModel):
    """A part of a message's content; only text can be answered."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message. The owner is the assistant; system messages are passed over, as training had none."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    def text(self) -> str:
        """The content as one clean text."""
        content = self.content or ""
        return clean_text(content if isinstance(content, str) else " ".join(part.text for part in content))


class ChatRequest(BaseModel):
    """What is read of a request to /v1/chat/completions. Other fields are passed over."""

    model: str = ""
    messages: list[Message]
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None

    def turns(self) -> list[Turn]:
        """Messages as turns, empty ones left out.

        Raises:
            JaegptError: there is no user's message to answer.
        """
        spoken = [(m.role == "assistant", m.text()) for m in self.messages if m.role in ("user", "assistant")]
        turns = [(is_owner, text) for is_owner, text in spoken if text]
        if not any(not is_owner for is_owner, _ in turns):
            raise JaegptError("`messages` holds no user message with any text: there is nothing to reply to.")
        return turns

    def config(self, default: GenerateConfig, most_tokens: int) -> GenerateConfig:
        """The server's settings with what the request asks for; never more than `most_tokens` tokens."""
        wanted: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": None if self.top_p is None else max(self.top_p, 1e-6),  # 0 means the likeliest token
            "max_tokens": self.max_completion_tokens or self.max_tokens,
        }
        config = dataclasses.replace(default, **{key: value for key, value in wanted.items() if value is not None})
        return dataclasses.replace(config, max_tokens=min(config.max_tokens, most_tokens))


def make_app(worker: Worker, config: GenerateConfig, seed: int, block_size: int) -> FastAPI:
    """The server's application.

    Args:
        config: settings where a request names none.
        seed: of replies to requests that bring none.
        block_size: a reply may take half of it at most, so that there is room for what it answers.
    """
    app = FastAPI(title="jaegpt", docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere
    started = int(time.time())

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(400, f"{'.'.join(map(str, first['loc'][1:])) or 'the body'}: {first['msg']}.")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        listed = [{"id": name, "object": "model", "created": started, "owned_by": "jaegpt"} for name in worker.names]
        return {"object": "list", "data": listed}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Any:
        if name not in worker.names:
            return _unknown_model(name, worker)
        return {"id": name, "object": "model", "created": started, "owned_by": "jaegpt"}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        if request.model not in worker.names:
            return _unknown_model(request.model, worker)
        try:
            question = Question(
                speaker=request.model,
                history=request.turns(),
                config=request.config(config, block_size // 2),
                seed=(seed if request.seed is None else request.seed) % 2**63,
            )
            (answer,) = worker.ask(question)
            head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": request.model}
            if request.stream:
                usage = bool((request.stream_options or {}).get("include_usage"))
                return StreamingResponse(_chunks(answer, head, usage), media_type="text/event-stream")
            return await _completion(answer, head)
        except Busy as error:
            return _error(503, str(error), {"retry-after": "1"})
        except Failed as error:
            return _error(500, str(error))
        except JaegptError as error:
            return _error(400, str(error))

    return app


async def _completion(answer: Answer, head: dict[str, Any]) -> dict[str, Any]:
    async for event in answer:
        if isinstance(event, Reply):
            message = {"role": "assistant", "content": event.text}
            choice = {"index": 0, "message": message, "finish_reason": _finish_reason(event), "logprobs": None}
            return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(event)}
    raise AssertionError("an answer ends with its Reply")


async def _chunks(answer: Answer, head: dict[str, Any], with_usage: bool) -> AsyncIterator[str]:
    """Server-sent events: the role, the text piece by piece, why it ended, the usage where asked for, [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}

    def line(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]

    yield line(choice({"role": "assistant", "content": ""}))
    try:
        async for event in answer:
            if isinstance(event, Reply):
                yield line(choice({}, _finish_reason(event)))
                if with_usage:
                    yield line([], usage=_usage(event))
            else:
                yield line(choice({"content": event}))
    except JaegptError as error:  # the status line has been sent; this is how clients are told later
        yield f"data: {json.dumps(_error_body(500, str(error)))}\n\n"
    yield "data: [DONE]\n\n"


def _finish_reason(reply: Reply) -> str:
    return "stop" if reply.finished else "length"


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.num_tokens,
        "total_tokens": reply.prompt_tokens + reply.num_tokens,
    }


def _unknown_model(name: str, worker: Worker) -> JSONResponse:
    return _error(404, f"model {name!r} is not here. Choose one of: {', '.join(worker.names)}.")


def _error_body(status: int, message: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(_error_body(status, message), status, headers)
