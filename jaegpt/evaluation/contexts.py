"""The validation contexts that fidelity is measured on, and the small tables of what the models answered to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.dialogue.draws import thread_key
from jaegpt.dialogue.encoding import Turn
from jaegpt.dialogue.separators import Separator
from jaegpt.errors import JaegptError
from jaegpt.files import writing_folder
from jaegpt.tables import SCHEMAS, part_name, read_table, write_part

if TYPE_CHECKING:
    from jaegpt.generation.settings import GenerateConfig
    from jaegpt.training.devices import Device


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


def choose_contexts(examples: pa.Table, count: int, seed: int) -> list[Context]:
    """`count` validation examples, or all where there are fewer, in the table's order.

    Each example's draw depends on the seed and its own name alone, so that one more example changes at
    most one of the chosen.
    """
    valid = contexts_of(examples, "valid")
    draws = {context.example_id: thread_key(seed, "fidelity", context.example_id) for context in valid}
    chosen = set(sorted(draws, key=lambda name: (draws[name], name))[:count])
    return [context for context in valid if context.example_id in chosen]


def answer_contexts(
    folder: str | Path,
    contexts: Sequence[Context],
    config: "GenerateConfig",
    seed: int,
    *,
    block_size: int,
    token_types: bool,
    separator: Separator = "space",
    device: "Device",
) -> list[str]:
    """The replies of the model in `folder`, as the chat would give them: one for each context, in their order.

    Raises:
        JaegptError: the folder holds no model that can be loaded, or a reply of `config.max_tokens` leaves no room for
            a history in `block_size`.
    """
    from jaegpt.generation.speaker import Speaker  # torch takes seconds to load, and the blind test only reads replies

    longest = max((len(context.history) for context in contexts), default=1)  # examples hold num_history at most
    view: dict[str, Any] = {"num_history": longest, "block_size": block_size, "token_types": token_types}
    speaker = Speaker(folder, **view, separator=separator, device=device)
    return [reply.text for reply in speaker.replies([context.history for context in contexts], config, seed)]


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
