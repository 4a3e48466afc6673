"""How long a text a base model sees whole: what its configuration says."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError


def check_block(folder: str | Path, block_size: int) -> None:
    """Refuse a block that the base model in `folder` does not see whole, or not as it sees a shorter one.

    Its configuration is read as a file: importing transformers would take longer than the stage that asks.

    Raises:
        JaegptError: `block_size` is too large for the model.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config  # models that also see have one for each sense
    positions = config.get("max_position_embeddings") or config.get("n_positions") or block_size
    if block_size > positions:
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model has {positions:,} positions. Lower it.")
    window = config.get("sliding_window")
    if window and window < block_size and config.get("use_sliding_window", True):
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model sees only {window:,} back. Lower it.")
    for rope in _ropes(config):
        # Its frequencies change with the longest text of a batch, so a short one would be seen as a long one is.
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
