"""Examples -> token ids, by the base model's tokenizer. Run: python -m stages.encode"""

from functools import partial
from pathlib import Path

from jaegpt.base_model import load_tokenizer
from jaegpt.dialogue.encoding import Encoder, encode_examples
from jaegpt.errors import run
from jaegpt.files import writing_folder
from jaegpt.parallel import map_parts
from jaegpt.tables import part_paths, read_part, write_part


def encode_part(path: Path, folder: Path) -> tuple[int, int]:
    """Encode one part; the number of examples and of their tokens."""
    tokens = encode_examples(read_part(path, "examples"), Encoder(load_tokenizer("data/base_model")))
    write_part(tokens, folder / path.name, "tokens")
    history = tokens.column("history_ids").combine_chunks().flatten()
    candidates = tokens.column("candidate_ids").combine_chunks().flatten().flatten()
    return len(tokens), len(history) + len(candidates)


def main() -> None:
    with writing_folder("data/tokens") as folder:
        counts = map_parts(partial(encode_part, folder=folder), part_paths("data/examples"), "encode")
    examples, tokens = map(sum, zip(*counts, strict=True))
    print(f"encode: {examples:,} examples, {tokens:,} tokens, {tokens / max(examples, 1):.1f} an example")


if __name__ == "__main__":
    run(main)
