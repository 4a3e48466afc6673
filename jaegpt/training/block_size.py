"""How many examples a block size holds, and how many tokens the packed layout saves over the seed's padded one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Ints32
from jaegpt.errors import JaegptError
from jaegpt.tables import column

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024)
ENOUGH = 0.99  # the seed chose 128, which held 99.06 % of its examples


@dataclass(frozen=True)
class Sizes:
    """The examples of a part, or of all parts.

    Attributes:
        needed: [examples] tokens of the history and the longest candidate together: the block size an example needs.
        packed: [examples] tokens of the history and all candidates: what an example takes in a packed row.
        candidates: [examples] number of candidates.
    """

    needed: Ints32
    packed: Ints32
    candidates: Ints32

    @classmethod
    def of(cls, tokens: pa.Table) -> "Sizes":
        """From a part of `tokens`."""
        history = pc.list_value_length(column(tokens, "history_ids")).to_numpy(zero_copy_only=False).astype(np.int64)
        listed = column(tokens, "candidate_ids")
        count = pc.list_value_length(listed).to_numpy(zero_copy_only=False).astype(np.int64)
        if len(count) and count.min() < 1:
            raise JaegptError("table `tokens` holds an example without candidates. Run `dvc repro`.")
        lengths = pc.list_value_length(listed.flatten()).to_numpy(zero_copy_only=False).astype(np.int64)
        starts = np.cumsum(count) - count
        # `reduceat` refuses an empty list of starts, and only then is there nothing to reduce.
        longest, total = (
            (np.maximum.reduceat(lengths, starts), np.add.reduceat(lengths, starts)) if len(count) else (count,) * 2
        )
        # In half the bytes, because the stage holds these arrays of all parts at once.
        return cls(*(values.astype(np.int32) for values in (history + longest, history + total, count)))

    @classmethod
    def total(cls, parts: Iterable["Sizes"]) -> "Sizes":
        """All parts as one."""
        rows = [(part.needed, part.packed, part.candidates) for part in parts]
        return cls(*(np.concatenate(values) for values in zip(*rows, strict=True)))

    def share_that_fits(self, block_size: int) -> float:
        """The yield of a block size, 0 to 1."""
        return float((self.needed <= block_size).mean()) if len(self.needed) else 0.0

    def recommended(self) -> int | None:
        """The smallest of BLOCK_SIZES that holds at least 99 % of the examples; None when none does."""
        return next((size for size in BLOCK_SIZES if self.share_that_fits(size) >= ENOUGH), None)

    def warning(self, block_size: int) -> str | None:
        """What to do about a block size that most examples do not fit; None where half of them do."""
        if 2 * self.share_that_fits(block_size) >= 1:
            return None
        size = self.recommended()
        share = f"warning: only {self.share_that_fits(block_size):.0%} of the examples fit into {block_size:,} tokens."
        return f"{share} `dvc exp run -S block_size={size}` keeps 99 % of them." if size else share

    def fitting(self, block_size: int) -> "Sizes":
        """Those that fit a block.

        Raises:
            JaegptError: none does.
        """
        fits = self.needed <= block_size
        if not fits.any():
            shortest = f"the shortest needs {self.needed.min():,}" if len(fits) else "there are no examples"
            raise JaegptError(
                f"block_size: none of {len(fits):,} examples fits into {block_size:,} tokens ({shortest}). "
                f"Set block_size to {self.recommended() or BLOCK_SIZES[-1]}."
            )
        return Sizes(self.needed[fits], self.packed[fits], self.candidates[fits])

    def metrics(self, block_size: int, pack_fill: float) -> dict[str, Any]:
        """metrics/block_size.json, `pack_fill` being the share of a packed row that holds tokens."""
        fitting = self.fitting(block_size)
        return {
            "examples": len(self.needed),
            "examples_kept": len(fitting.needed),
            "dropped": {"longer_than_block": len(self.needed) - len(fitting.needed)},
            "yield": {str(size): round(self.share_that_fits(size), 4) for size in BLOCK_SIZES},
            "recommended": self.recommended(),
            "tokens_padded": int(fitting.candidates.sum()) * block_size,
            "tokens_packed": int(fitting.packed.sum()),
            "pack_fill": pack_fill,
        }
