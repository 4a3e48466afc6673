"""Invented chats of an owner and others who write differently, as the tables that evaluation reads."""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from helpers.dialogue_reference import messages_of, table, turns_and_sessions
from jaegpt.dialogue.examples import DatasetConfig, build_examples
from jaegpt.evaluation.contexts import Context

WORDS = re.findall(
    r"\w+",
    "the a train river coffee garden book friend morning window winter yellow quiet dance market paper walk dinner "
    "music street people weather holiday summer breakfast kitchen table letter story picture idea game team song movie "
    "mountain city school teacher doctor number question answer moment minute hour day week month year money work home",
)


def own_text(rng: np.random.Generator) -> str:
    """Small letters, no full stop, often a laugh."""
    words = rng.choice(WORDS, rng.integers(3, 12)).tolist()
    return " ".join(["haha", *words, ":)"] if rng.random() < 0.6 else ["well", *words])


def other_text(rng: np.random.Generator) -> str:
    """A sentence as in a letter."""
    words = rng.choice(WORDS, rng.integers(3, 12)).tolist()
    return " ".join(words).capitalize() + str(rng.choice([".", "!", "?"]))


def chat_tables(
    num_threads: int = 12, turns: int = 120, seed: int = 0, num_history: int = 4
) -> tuple[pa.Table, pa.Table]:
    """(sessions, examples): the two sides in turn, in sessions of eight."""
    rng = np.random.default_rng(seed)
    threads = [
        [
            (
                1000 if turn % 8 else 3_600_000,
                *((("Ann", True), own_text(rng)) if turn % 2 else (("Bo", False), other_text(rng))),
            )
            for turn in range(turns)
        ]
        for _ in range(num_threads)
    ]
    sessions = table(turns_and_sessions(messages_of(threads), 95, None), "sessions")
    config = DatasetConfig(num_history=num_history, num_distractors=3, valid_fraction=0.3, split="session")
    return sessions, build_examples(sessions, config, seed)[0]


def context(name: str, *history: str, reply: str = "yes") -> Context:
    """A context in which others said `history`."""
    return Context(
        example_id=name,
        thread_id="t",
        session_index=0,
        history=tuple((False, text) for text in history),
        reply=reply,
    )


def texts(make: Callable[[np.random.Generator], str], count: int, seed: int) -> list[str]:
    """`count` texts by `own_text` or `other_text`."""
    rng = np.random.default_rng(seed)
    return [make(rng) for _ in range(count)]
