"""The longest text that a base model can attend to, as its configuration says."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError


def check_block(folder: str | Path, block_size: int) -> None:
    """Refuse a block that the base model in `folder` cannot attend to whole, or that changes how it reads short texts.

    Its configuration is read as a file: importing transformers would take longer than the stage that asks.

    Raises:
        JaegptError: `block_size` is too large for the model.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config  # multimodal models have one per modality
    positions = config.get("max_position_embeddings") or config.get("n_positions") or block_size
    if block_size > positions:
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model has {positions:,} positions. Lower it.")
    window = config.get("sliding_window")
    if window and window < block_size and config.get("use_sliding_window", True):
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model sees only {window:,} back. Lower it.")
    for rope in _ropes(config):
        # LongRoPE switches frequencies when any text of a batch is long, so a short text's result would depend on what
        # happens to share its batch.
        short = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
        if rope.get("rope_type", rope.get("type")) == "longrope" and short and block_size > short:
            raise JaegptError(
                f"block_size: {block_size:,} tokens, but the model sees texts of more than {short:,} tokens in another "
                "way (LongRoPE). Lower it."
            )


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions, whether one for all layers or one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name) or {}
        yield rope
        yield from (each for each in rope.values() if isinstance(each, dict))
