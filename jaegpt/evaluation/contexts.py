"""The validation contexts that fidelity is measured on, and the small tables of what the models answered to them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.dialogue.draws import thread_key
from jaegpt.dialogue.encoding import Turn
from jaegpt.dialogue.separators import Separator
from jaegpt.errors import JaegptError
from jaegpt.files import writing_folder
from jaegpt.generation.settings import DEFAULT
from jaegpt.tables import SCHEMAS, part_name, read_table, write_part
from jaegpt.training.config import Learn

if TYPE_CHECKING:
    from jaegpt.generation.settings import GenerateConfig
    from jaegpt.generation.speaker import Speaker
    from jaegpt.training.devices import Device

LENGTH_PERCENTILE = 99


@dataclass(frozen=True, kw_only=True)
class Context:
    """One row of the table `examples`: what was said before, and what the owner replied."""

    example_id: str
    thread_id: str
    session_index: int
    history: tuple[Turn, ...]
    reply: str


def contexts_of(examples: pa.Table, split: str) -> list[Context]:
    """All examples of one side of the split, in the table's order."""
    rows = examples.filter(pc.equal(examples["split"], split)).select(
        ["example_id", "thread_id", "session_index", "history", "reply"]
    )
    return [
        Context(**row | {"history": tuple((turn["is_owner"], turn["text"]) for turn in row["history"])})
        for row in rows.to_pylist()
    ]


def choose_contexts(examples: pa.Table, count: int, seed: int, skip: int = 0) -> list[Context]:
    """`count` validation examples, or all where there are fewer, in the table's order.

    Each example's draw depends on the seed and its own name alone, so that one more example changes at
    most one of the chosen.

    Args:
        skip: so many are drawn first, and left out: those that another stage chose.
    """
    valid = contexts_of(examples, "valid")
    chosen = {context.example_id for context in drawn(valid, skip + count, seed, "fidelity")[skip:]}
    return [context for context in valid if context.example_id in chosen]


def drawn(contexts: Sequence[Context], count: int, seed: int, purpose: str) -> list[Context]:
    """`count` of the contexts, or all where there are fewer, in an order that their own names give."""
    draws = {context.example_id: thread_key(seed, purpose, context.example_id) for context in contexts}
    return sorted(contexts, key=lambda context: (draws[context.example_id], context.example_id))[:count]


def open_speaker(
    folder: str | Path,
    contexts: Sequence[Context],
    *,
    block_size: int,
    token_types: bool,
    learn: Learn = "replies",
    separator: Separator = "space",
    device: "Device",
) -> "Speaker":
    """The model in `folder`, to reply to the contexts as the chat would.

    Raises:
        JaegptError: the folder holds no model that can be loaded.
    """
    from jaegpt.generation.speaker import Speaker  # torch takes seconds to load, and the blind test only reads replies

    longest = max((len(context.history) for context in contexts), default=1)  # examples hold num_history at most
    view: dict[str, Any] = {"num_history": longest, "block_size": block_size, "token_types": token_types}
    return Speaker(folder, **view, learn=learn, separator=separator, device=device)


def answer_contexts(speaker: "Speaker", contexts: Sequence[Context], config: "GenerateConfig", seed: int) -> list[str]:
    """The replies of the model, one for each context, in their order.

    Raises:
        JaegptError: a reply of `config.max_tokens` leaves no room for a history in the block, or the settings need
            first words, which the model has not learned.
    """
    return [reply.text for reply in speaker.replies([context.history for context in contexts], config, seed)]


def longest_replies(lengths: Sequence[int], block_size: int) -> int:
    """Tokens that a reply needs at most: those of 99 of 100 of the owner's, which may fill half of a block.

    Args:
        lengths: tokens of the owner's training replies.
    """
    if not lengths:
        return min(DEFAULT.max_tokens, max(1, block_size // 2))
    return max(1, min(math.ceil(np.percentile(lengths, LENGTH_PERCENTILE)), block_size // 2))


def write_replies(folder: str | Path, contexts: Sequence[Context], replies: Sequence[str]) -> None:
    """Write a table `replies`: one reply for each context, in their order."""
    columns = {"example_id": [context.example_id for context in contexts], "reply": list(replies)}
    with writing_folder(folder) as temporary:
        write_part(pa.table(columns, schema=SCHEMAS["replies"]), temporary / part_name(0), "replies")


def read_replies(folder: str | Path, contexts: Sequence[Context]) -> list[str]:
    """The replies to `contexts`, in their order.

    Raises:
        JaegptError: the table is missing, or was written for other contexts.
    """
    table = read_table(folder, "replies")
    found: Mapping[str, str] = dict(zip(table["example_id"].to_pylist(), table["reply"].to_pylist(), strict=True))
    missing = sum(context.example_id not in found for context in contexts)
    if missing:
        raise JaegptError(f"{folder}: no reply to {missing:,} of {len(contexts):,} contexts. Run `dvc repro`.")
    return [found[context.example_id] for context in contexts]
