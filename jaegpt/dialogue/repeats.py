"""`dataset.max_repeats`: of the training examples with the same reply, only so many are kept.

What someone says a hundred times the model learns by heart. Which are kept is drawn by each example's own name, so that
the order of work does not matter: the limit is a first pass over all parts, and a second one keeps what is below it.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Words
from jaegpt.dialogue.draws import text_hashes, thread_key
from jaegpt.dialogue.examples import DatasetConfig, ExampleReport, build_examples
from jaegpt.tables import column

REPEATED = "reply_repeated_in_train"


def training_draws(examples: pa.Table, seed: int) -> tuple[Words, Words]:
    """Of a part's training examples: [examples] their replies as hashes, and the numbers they were drawn."""
    train = examples.filter(pc.equal(examples["split"], "train"))
    names = column(train, "example_id").to_pylist()
    draws = np.array([thread_key(seed, "repeats", name) for name in names], dtype=np.uint64)
    return text_hashes(column(train, "reply")), draws


def repeat_limits(parts: Iterable[tuple[Words, Words]], max_repeats: int) -> dict[int, int]:
    """Reply -> the highest draw that is kept, for the replies with more than `max_repeats` examples.

    Draws 5, 2, 9 of one reply and max_repeats 2 -> its limit is 5.
    """
    replies, draws = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((draws, replies))
    replies, draws = replies[order], draws[order]
    starts = np.flatnonzero(np.concatenate([[True], replies[1:] != replies[:-1]])) if len(replies) else order
    sizes = np.diff(starts, append=len(replies))
    frequent = starts[sizes > max_repeats]
    return dict(zip(replies[frequent].tolist(), draws[frequent + max_repeats - 1].tolist(), strict=True))


def build_limited(
    sessions: pa.Table, config: DatasetConfig, seed: int, limits: dict[int, int]
) -> tuple[pa.Table, ExampleReport]:
    """`build_examples` without the training examples above their reply's limit, which are counted as dropped."""
    examples, report = build_examples(sessions, config, seed)
    if not limits:
        return examples, report
    replies, draws = training_draws(examples, seed)
    limit = np.array([limits.get(reply, 2**64 - 1) for reply in replies.tolist()], dtype=np.uint64)
    keep = pc.equal(column(examples, "split"), "valid").to_numpy(zero_copy_only=False)
    keep[~keep] = draws <= limit
    limited = examples.filter(pa.array(keep))
    dropped = report.dropped + Counter({REPEATED: len(examples) - len(limited)})
    return limited, ExampleReport.of(limited, report.owner_turns, dropped)
