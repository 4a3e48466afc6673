"""Examples -> token ids, by the base model's tokenizer. Run: python -m stages.encode"""

from functools import partial
from pathlib import Path

from jaegpt.dialogue.encode_table import encode_part, tokenizer_digest
from jaegpt.errors import run
from jaegpt.transform import transform_table


def main() -> None:
    base = Path("data/base_model").absolute()
    work = partial(encode_part, base=base, digest=tokenizer_digest(base))
    counts = transform_table(work, ("data/examples", "examples"), ("data/tokens", "tokens"), "encode")
    examples, tokens = map(sum, zip(*counts, strict=True))
    print(f"encode: {examples:,} examples, {tokens:,} tokens, {tokens / max(examples, 1):.1f} per example")


if __name__ == "__main__":
    run(main)
