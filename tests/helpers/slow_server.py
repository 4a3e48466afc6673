"""`jaegpt serve` with a model that takes its time and says nothing, in a process of its own, which may open few files.

python slow_server.py FILES SECONDS prints the line that serve prints, and serves until it is interrupted.
"""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from jaegpt.chat.access import Guard, bind
from jaegpt.chat.connections import serve
from jaegpt.chat.server import make_app
from jaegpt.chat.worker import Worker
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Reply

CONFIG = GenerateConfig(
    top_p=0.9, top_k=100, temperature=1.0, no_repeat_ngram=3, max_tokens=20, candidates=5, rerank="head"
)


class Slow:
    """A speaker that replies to a batch after some seconds; it counts how many questions it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0

    def prompt(self, history: Any, _: GenerateConfig) -> Any:
        self.asked += 1
        return SimpleNamespace(ids=[0], roles=[0], history=history)

    def converse(self, prompts: Sequence[Any], *_: Any) -> Iterator[tuple[int, str | Reply]]:
        time.sleep(self.seconds)
        for number, _ in enumerate(prompts):
            yield number, "yes"
            yield (
                number,
                Reply(text="yes", score=None, num_tokens=1, prompt_tokens=1, finished=True, shortened=False),
            )


def main() -> None:
    files, seconds = int(sys.argv[1]), float(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with Worker({"jaegpt": Slow(seconds)}) as worker, bind("127.0.0.1", 0) as listener:
        app = make_app(worker, CONFIG, 7, 128)
        serve(Guard(app, None), listener, f"http://127.0.0.1:{listener.getsockname()[1]}")


if __name__ == "__main__":
    main()
