"""Examples and whole sessions -> token ids, by the base model's tokenizer. Run: python -m stages.encode"""

from functools import partial
from pathlib import Path
from typing import Any

from jaegpt.dialogue.encode_table import encode_part, tokenizer_digest
from jaegpt.dialogue.examples import DatasetConfig
from jaegpt.dialogue.repeats import find_limits, turn_draws
from jaegpt.dialogue.segments import SegmentCounts, encode_sessions_part
from jaegpt.dialogue.separators import JOINTS, Separator
from jaegpt.errors import run
from jaegpt.files import writing_folder
from jaegpt.params import Params
from jaegpt.tables import SCHEMAS, part_name, part_paths, write_part
from jaegpt.transform import transform_table

SESSIONS, SEGMENTS = ("data/sessions", "sessions"), ("data/segments", "segments")


def main() -> None:
    params = Params()
    config = params.section("dataset", DatasetConfig)
    seed, block_size = params.value("seed"), params.value("block_size")
    base = Path("data/base_model").absolute()
    encoder: dict[str, Any] = {
        "base": base,
        "digest": tokenizer_digest(base),
        "joint": JOINTS[params.field("session.separator", Separator)],
    }
    work = partial(encode_part, **encoder)
    counts = transform_table(work, ("data/examples", "examples"), ("data/tokens", "tokens"), "encode")
    examples, tokens = map(sum, zip(*counts, strict=True))
    print(f"encode: {examples:,} examples, {tokens:,} tokens, {tokens / max(examples, 1):.1f} an example")
    if config.learn == "replies":
        with writing_folder(SEGMENTS[0]) as folder:
            write_part(SCHEMAS["segments"].empty_table(), folder / part_name(0), "segments")
        return
    limits = find_limits(turn_draws, part_paths(SESSIONS[0]), config, seed, "encode: repeats")
    learn = partial(encode_sessions_part, config=config, seed=seed, limits=limits, block_size=block_size, **encoder)
    total = SegmentCounts.total(transform_table(learn, SESSIONS, SEGMENTS, "encode: sessions"))
    print(f"  {total.segments:,} segments of sessions, {total.tokens:,} tokens, {total.labelled_turns:,} turns learned")
    if total.longer_than_block:
        print(f"  {total.longer_than_block:,} turns are longer than a block with the turn before them, and not learned")


if __name__ == "__main__":
    run(main)
