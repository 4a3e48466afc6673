"""One thread that owns the models, with a bounded queue in front: for the server and the page.

Messages that wait and ask for the same model and settings are answered side by side in one batch.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jaegpt.chat.faults import report_fault
from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.generation.prompts import Prompt
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Reply, Speaker, batch_size

MOST_WAITING = 64

Event = str | Reply | Exception


class Busy(JaegptError):
    """The queue is full: nothing was taken in."""


class Failed(JaegptError):
    """The model failed on a batch; the kind and place of the error are on standard error."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one of the models: reply to `history` (turns, oldest first)."""

    speaker: str
    history: Sequence[Turn]
    config: GenerateConfig
    seed: int


class Answer:
    """A reply on its way, for one consumer in the event loop that asked: pieces of text, then the whole Reply."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.wanted = True
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """Called by the worker's thread."""
        with suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[str | Reply]:
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Reply):
                    return
        finally:
            self.wanted = False  # a reader that leaves early is not waited for


class Worker:
    """Starts its thread at once; `close` ends it, as does leaving a `with` block.

    Args:
        speakers: the models by name. From here on only the worker's thread may use them: neither a model nor its
            encoder can be shared between threads.
        most_waiting: questions that may wait for their turn; one more is refused.
    """

    def __init__(self, speakers: Mapping[str, Speaker], most_waiting: int = MOST_WAITING) -> None:
        self.names = list(speakers)
        self.most_waiting = most_waiting
        self._speakers = speakers
        self._waiting: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jaegpt-worker", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, *questions: Question) -> list[Answer]:
        """Queue the questions, all or none; call it from an event loop.

        Raises:
            Busy: so many are waiting already that these do not fit.
        """
        with self._changed:
            if self._closed:
                raise JaegptError("the server is closing.")
            self._drop_unwanted()  # a caller who has left does not count as waiting
            if len(self._waiting) + len(questions) > self.most_waiting:
                raise Busy(f"busy: {len(self._waiting)} messages are waiting, {self.most_waiting} may. Try again soon.")
            answers = [Answer(question) for question in questions]
            self._waiting += answers
            self._changed.notify()
        return answers

    def close(self) -> None:
        """Finish the batch in hand, refuse what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _drop_unwanted(self) -> None:
        self._waiting = deque(answer for answer in self._waiting if answer.wanted)

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._reply(batch)
            except Exception as error:  # the thread must outlive any one batch; whoever asked gets the error
                failure = _failure(error)
                for answer in batch:
                    answer.put(failure)

    def _next_batch(self) -> list[Answer]:
        """The question that has waited longest, and all others that can be answered with it; empty at the end."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if self._closed:
                    for answer in self._waiting:
                        answer.put(JaegptError("the server is closing."))
                    return []
                if self._waiting:
                    break
                self._changed.wait()
            # The oldest question decides on model and settings, so that none waits for ever. Others with the same go
            # along, since a batch takes far less time than its rows one after the other.
            first = self._waiting[0].question
            alike = [
                answer
                for answer in self._waiting
                if (answer.question.speaker, answer.question.config) == (first.speaker, first.config)
            ]
            batch = alike[: batch_size(first.config)]
            taken = set(map(id, batch))
            self._waiting = deque(answer for answer in self._waiting if id(answer) not in taken)
            return batch

    def _reply(self, batch: list[Answer]) -> None:
        speaker, config = self._speakers[batch[0].question.speaker], batch[0].question.config
        asked: list[tuple[Answer, Prompt]] = []
        for answer in batch:
            try:
                asked.append((answer, speaker.prompt(answer.question.history, config)))
            except Exception as error:  # of one question; the others of the batch are answered
                answer.put(_failure(error))
        if not asked:
            return
        seeds = [answer.question.seed for answer, _ in asked]
        for number, event in speaker.converse([prompt for _, prompt in asked], config, seeds):
            asked[number][0].put(event)
            if not any(answer.wanted for answer, _ in asked):
                return


def _failure(error: Exception) -> JaegptError:
    """The error that the asker gets; any but the project's own is reported on standard error, without its words."""
    if isinstance(error, JaegptError):
        return error
    report_fault(error)
    return Failed(f"the model failed ({type(error).__name__}). See the server's output.")
