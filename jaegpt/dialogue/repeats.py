"""`dataset.max_repeats`: of the training examples with the same reply, only so many are kept, and in whole sessions, of
the turns with the same text, only so many are learned.

The model learns by heart what someone says a hundred times. Each example has a number drawn from its own name, and
those with the lowest are kept, so that the order of work does not matter. That takes two readings of all parts: the
first finds the highest number to keep for each reply, the second drops what is above it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints, Words
from jaegpt.dialogue.draws import text_hashes, thread_key
from jaegpt.dialogue.examples import REPEATED, DatasetConfig, ExampleCounts, OwnTurns, build_examples, turn_names
from jaegpt.parallel import map_parts
from jaegpt.tables import column, read_part

Draws = tuple[Words, Words]  # the hashes of texts, and the number drawn for each


def find_limits(
    draws: Callable[[pa.Table, DatasetConfig, int], Draws],
    paths: Sequence[Path],
    config: DatasetConfig,
    seed: int,
    label: str,
) -> dict[int, int]:
    """The limits that `dataset.max_repeats` sets; without any, nothing is read.

    Args:
        draws: `reply_draws` or `turn_draws`.
        paths: the parts of `sessions`.
        label: names the progress bar.
    """
    if not config.max_repeats:
        return {}
    work = partial(_draws_of_part, draws=draws, config=config, seed=seed)
    return repeat_limits(map_parts(work, paths, label), config.max_repeats)


def _draws_of_part(
    path: Path, draws: Callable[[pa.Table, DatasetConfig, int], Draws], config: DatasetConfig, seed: int
) -> Draws:
    return draws(read_part(path, "sessions"), config, seed)


def reply_draws(sessions: pa.Table, config: DatasetConfig, seed: int) -> Draws:
    """The training replies of a part, and the draws that say which of equal ones are kept."""
    return training_draws(build_examples(sessions, config, seed)[0], seed)


def training_draws(examples: pa.Table, seed: int) -> Draws:
    """Of a part's training examples: [examples] the hash of the reply, and the number drawn for the example."""
    train = examples.filter(pc.equal(examples["split"], "train"))
    return _draws(column(train, "reply"), column(train, "example_id"), seed)


def _draws(texts: pa.Array, names: pa.Array, seed: int) -> Draws:
    draws = np.array([thread_key(seed, "repeats", name) for name in names.to_pylist()], dtype=np.uint64)
    return text_hashes(texts), draws


def repeat_limits(parts: Iterable[Draws], max_repeats: int) -> dict[int, int]:
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
) -> tuple[pa.Table, ExampleCounts]:
    """`build_examples` without the training examples above their reply's limit, which are counted as dropped."""
    examples, counts = build_examples(sessions, config, seed)
    if not limits:
        return examples, counts
    replies, draws = training_draws(examples, seed)
    limit = np.array([limits.get(reply, 2**64 - 1) for reply in replies.tolist()], dtype=np.uint64)
    keep = pc.equal(column(examples, "split"), "valid").to_numpy(zero_copy_only=False)
    keep[~keep] = draws <= limit
    limited = examples.filter(pa.array(keep))
    dropped = counts.dropped + Counter({REPEATED: len(examples) - len(limited)})
    return limited, ExampleCounts.of(limited, counts.owner_turns, dropped)


def turn_draws(sessions: pa.Table, config: DatasetConfig, seed: int) -> Draws:
    """As `training_draws`, of all the owner's turns of the training side, whether or not they give an example."""
    return _draws_of_turns(sessions, np.flatnonzero(_training_side(sessions, config, seed)), seed)


def learned_turns(sessions: pa.Table, config: DatasetConfig, seed: int, limits: dict[int, int]) -> Bools:
    """[turns] which of the owner's turns whole sessions teach: those of the training side that `train_fraction` keeps
    and that are not above their text's limit, as `repeat_limits` gives it for the draws of `turn_draws`.
    """
    learned = _training_side(sessions, config, seed)
    if limits:
        rows = np.flatnonzero(learned)
        texts, draws = _draws_of_turns(sessions, rows, seed)
        learned[rows] = draws <= np.array([limits.get(text, 2**64 - 1) for text in texts.tolist()], dtype=np.uint64)
    return learned


def _training_side(sessions: pa.Table, config: DatasetConfig, seed: int) -> Bools:
    turns = OwnTurns.of(sessions, config)
    side: Bools = turns.is_owner & ~turns.held_out(config, seed) & turns.drawn_for_training(config, seed)
    return side


def _draws_of_turns(sessions: pa.Table, rows: Ints, seed: int) -> Draws:
    return _draws(column(sessions, "text").take(rows), turn_names(sessions, rows), seed)
