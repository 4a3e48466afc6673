"""Messages -> turns, one sender's consecutive messages as one. Run: python -m stages.merge_turns"""

from functools import partial

import pyarrow as pa

from jaegpt.dialogue.session_gaps import SessionConfig
from jaegpt.dialogue.turns import merge_turns
from jaegpt.errors import run
from jaegpt.params import Params
from jaegpt.transform import transform_table


def merge_part(messages: pa.Table, config: SessionConfig) -> tuple[pa.Table, tuple[int, int]]:
    """The turns of a part, and the number of messages and turns."""
    turns = merge_turns(messages, config)
    return turns, (len(messages), len(turns))


def main() -> None:
    config = Params().section("session", SessionConfig)
    work = partial(merge_part, config=config)
    counts = transform_table(work, ("data/filtered", "filtered"), ("data/turns", "turns"), "merge_turns")
    messages, turns = map(sum, zip(*counts, strict=True))
    print(f"merge_turns: {messages:,} messages became {turns:,} turns")


if __name__ == "__main__":
    run(main)
