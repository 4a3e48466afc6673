"""Examples -> token ids, by the base model's tokenizer. Run: python -m stages.encode"""

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.dialogue.encode_table import encode_examples
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import run
from jaegpt.transform import transform_table


@cache
def encoder() -> Encoder:
    """The base model's, read once a process."""
    return Encoder("data/base_model")


def encode_part(examples: pa.Table) -> tuple[pa.Table, tuple[int, int]]:
    """The tokens of a part, and its numbers of examples and of tokens."""
    tokens = encode_examples(examples, encoder())
    num_tokens = sum(
        pc.sum(pc.list_value_length(ids)).as_py() or 0
        for ids in (tokens["history_ids"], pc.list_flatten(tokens["candidate_ids"]))
    )
    return tokens, (len(tokens), num_tokens)


def main() -> None:
    counts = transform_table(encode_part, ("data/examples", "examples"), ("data/tokens", "tokens"), "encode")
    examples, tokens = map(sum, zip(*counts, strict=True))
    print(f"encode: {examples:,} examples, {tokens:,} tokens, {tokens / max(examples, 1):.1f} an example")


if __name__ == "__main__":
    run(main)
