"""An OpenAI-compatible server: /v1/chat/completions, streaming included, /v1/models and /health.

`transformers serve` is not used: it renders messages with the chat template as one text, so that a message that spells
out a control token becomes one, shows the model as much history as it is sent, and knows no classification head.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jaegpt.chat.bodies import until_left
from jaegpt.chat.chat_request import Unsupported, notice, read_request
from jaegpt.chat.faults import error_body
from jaegpt.chat.stops import Stops
from jaegpt.chat.worker import Answer, Busy, Failed, Question, Worker
from jaegpt.errors import JaegptError
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Reply


def make_app(worker: Worker, config: GenerateConfig, seed: int, block_size: int) -> FastAPI:
    """The server's application.

    Args:
        config: settings where a request names none.
        seed: of replies to requests that bring none.
        block_size: a reply may take half of it at most, so that there is room for what it answers.
    """
    # Without pages about it, which load scripts from elsewhere, and redirects to where the Host header says.
    app = FastAPI(title="jaegpt", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    started = int(time.time())

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/v1/models", methods=["GET", "HEAD"])
    async def models() -> dict[str, Any]:
        listed = [{"id": name, "object": "model", "created": started, "owned_by": "jaegpt"} for name in worker.names]
        return {"object": "list", "data": listed}

    @app.api_route("/v1/models/{name}", methods=["GET", "HEAD"])
    async def model(name: str) -> Any:
        if name not in worker.names:
            return _unknown_model(name, worker)
        return {"id": name, "object": "model", "created": started, "owned_by": "jaegpt"}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        try:
            body = b"".join([piece async for piece in request.stream()])  # unlike body(), it keeps none of it
            asked = read_request(request.headers.get("content-type"), body)
            del body
            if asked.model not in worker.names:
                return _unknown_model(asked.model or "", worker)
            # Each turn takes a token or more, so that no more of them can matter.
            turns, left_out = asked.turns(block_size)
            question = Question(
                speaker=asked.model,
                history=turns,
                config=asked.config(config, block_size // 2),
                seed=(seed if asked.seed is None else asked.seed) % 2**63,
            )
            (answer,) = worker.ask(question)
            head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
            if asked.stream:
                return _Stream(answer, _chunks(answer, head, asked.stop, asked.with_usage), notice(left_out))
            done = await _unless_left(_completion(answer, head, asked.stop), request)
            return Response() if done is None else JSONResponse(done, headers=notice(left_out))
        except Busy as error:
            return _error(503, str(error), {"retry-after": "1"})
        except Failed as error:
            return _error(500, str(error))
        except Unsupported as error:
            return _error(415, str(error))
        except JaegptError as error:
            return _error(400, str(error))

    return app


class _Stream(StreamingResponse):
    """An answer's events; however their sending ends, the answer is wanted no longer."""

    def __init__(self, answer: Answer, events: AsyncIterator[str], headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._answer = answer

    async def __call__(self, *arguments: Any) -> None:
        try:
            await super().__call__(*arguments)
        finally:
            self._answer.wanted = False


async def _unless_left(work: Awaitable[dict[str, Any]], request: Request) -> dict[str, Any] | None:
    """What `work` gives, or None as soon as the caller has left: the work is then cancelled."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(until_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _completion(answer: Answer, head: dict[str, Any], stop: Sequence[str]) -> dict[str, Any]:
    async for event in answer:
        if isinstance(event, Reply):
            stops = Stops(stop)
            text = stops.take(event.text) + stops.rest()
            reason = _finish_reason(event, stops)
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
            return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(event)}
    raise AssertionError("an answer ends with its Reply")


async def _chunks(answer: Answer, head: dict[str, Any], stop: Sequence[str], with_usage: bool) -> AsyncIterator[str]:
    """Server-sent events: the role, the text piece by piece, why it ended, the usage where asked for, [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}
    stops = Stops(stop)

    def line(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]

    yield line(choice({"role": "assistant", "content": ""}))
    try:
        async for event in answer:
            text = stops.rest() if isinstance(event, Reply) else stops.take(event)
            if text:
                yield line(choice({"content": text}))
            if isinstance(event, Reply):
                yield line(choice({}, _finish_reason(event, stops)))
                if with_usage:
                    yield line([], usage=_usage(event))
            elif stops.found and not with_usage:  # the usage is known at the reply's end only
                yield line(choice({}, "stop"))
                break
    except JaegptError as error:  # the status line has been sent; an event is how clients learn of errors later
        yield f"data: {json.dumps(error_body(500, str(error)))}\n\n"
    yield "data: [DONE]\n\n"


def _finish_reason(reply: Reply, stops: Stops) -> str:
    return "stop" if reply.finished or stops.found else "length"


def _usage(reply: Reply) -> dict[str, int]:
    """Tokens read and drawn, those after a stop included."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.num_tokens,
        "total_tokens": reply.prompt_tokens + reply.num_tokens,
    }


def _unknown_model(name: str, worker: Worker) -> JSONResponse:
    return _error(404, f"model {name[:100]!r} is not here. Choose one of: {', '.join(worker.names)}.")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(status, message), status, headers)
