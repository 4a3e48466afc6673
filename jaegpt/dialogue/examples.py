"""Sessions -> examples: each of the owner's turns as a reply, with its history and wrong candidates.

Which distractors and which side of the split is drawn from the seed and the row's own name alone (`draws.py`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints, Words
from jaegpt.dialogue.draws import draw_others, mix, text_hashes, thread_key, uniform
from jaegpt.dialogue.sessions import places, session_begins
from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS, column, thread_starts

# Why a turn of the owner gives no example.
REASONS = ("no_turn_before_in_session", "too_few_different_turns_in_thread", "left_out_of_train")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """What an example is made of.

    Attributes:
        num_history: most turns of context before the reply, at least 1.
        num_distractors: wrong candidates beside the reply, at least 1.
        valid_fraction: share of the drawn units kept for validation, above 0 and below 1.
        split: what is drawn: `session`; `thread` (people the model never saw); `time` (the last sessions of each
            thread); or `row`, only for comparison: a session's overlapping windows land on both sides, so it leaks.
        train_fraction: share of the training examples that is kept, above 0 and at most 1.
        max_repeats: most training examples with the same reply; 0: any number (`repeats.py`).
    """

    num_history: int
    num_distractors: int
    valid_fraction: float
    split: Literal["session", "thread", "time", "row"]
    train_fraction: float = 1.0
    max_repeats: int = 0

    def __post_init__(self) -> None:
        for name in ("num_history", "num_distractors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if self.max_repeats < 0:
            raise ValueError(f"max_repeats cannot be negative, found {self.max_repeats}. 0 keeps all.")
        if not 0 < self.valid_fraction < 1:
            raise ValueError(f"valid_fraction must be above 0 and below 1, found {self.valid_fraction:g}.")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must be above 0 and at most 1, found {self.train_fraction:g}.")


@dataclass
class ExampleReport:
    """What became of the owner's turns.

    Attributes:
        owner_turns: all of them.
        train, valid: examples on each side.
        dropped: owner turns that gave no example, by reason.
        train_replies: the different replies of the training side, as sorted 64-bit hashes.
        train_distractors: the different distractors of the training side, as sorted hashes.
        valid_replies: every reply of the validation side, as hashes.
    """

    owner_turns: int = 0
    train: int = 0
    valid: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    train_replies: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    train_distractors: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    valid_replies: Words = field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(cls, examples: pa.Table, owner_turns: int, dropped: Counter[str]) -> "ExampleReport":
        """Of a part of `examples`, and what it was made of."""
        is_valid = pc.equal(column(examples, "split"), "valid")
        train, valid = examples.filter(pc.invert(is_valid)), examples.filter(is_valid)
        return cls(
            owner_turns=owner_turns,
            train=len(train),
            valid=len(valid),
            dropped=dropped,
            train_replies=text_hashes(pc.unique(column(train, "reply"))),
            train_distractors=text_hashes(pc.unique(column(train, "distractors").flatten())),
            valid_replies=text_hashes(column(valid, "reply")),
        )

    @classmethod
    def total(cls, reports: Iterable["ExampleReport"]) -> "ExampleReport":
        """The reports of all parts as one."""
        rows = list(reports)
        whole = cls(*(sum(getattr(row, name) for row in rows) for name in ("owner_turns", "train", "valid")))
        for row in rows:
            whole.dropped += row.dropped
        if rows:
            whole.train_replies = np.unique(np.concatenate([row.train_replies for row in rows]))
            whole.train_distractors = np.unique(np.concatenate([row.train_distractors for row in rows]))
            whole.valid_replies = np.concatenate([row.valid_replies for row in rows])
        return whole

    def refuse_one_sided(self, config: DatasetConfig) -> None:
        """A JaegptError when there is nothing to train on or nothing to validate on."""
        if not self.train + self.valid:
            raise JaegptError(
                f"dataset: none of the owner's {self.owner_turns:,} turns gives an example "
                f"({', '.join(f'{reason} {self.dropped[reason]:,}' for reason in REASONS)}). "
                "Raise session.percentile, lower dataset.num_distractors, or check export.owner."
            )
        if not self.train or not self.valid:
            raise JaegptError(
                f"dataset: {self.train:,} examples for training, {self.valid:,} for validation by {config.split}. "
                "Change dataset.valid_fraction or dataset.split."
            )

    def valid_replies_in_train(self) -> int:
        """How many validation replies stand word for word among the training replies."""
        return int(np.isin(self.valid_replies, self.train_replies).sum())

    def valid_share_in_train_distractors(self) -> float:
        """Share of the validation replies that stand word for word among the training distractors; to 4 places.

        Distractors come from all that the owner said in the thread, whatever the side of the split, so training may
        show a validation reply as the wrong answer to another context. The language modelling loss never reads a
        distractor. The classification task may learn that such a text was wrong elsewhere, which speaks against the
        true reply: if its validation figures err by this, they err low.
        """
        shared = np.isin(self.valid_replies, self.train_distractors)
        return round(float(shared.mean()), 4) if len(shared) else 0.0


def build_examples(sessions: pa.Table, config: DatasetConfig, seed: int) -> tuple[pa.Table, ExampleReport]:
    """A part of `sessions` -> a part of `examples`, and what was dropped."""
    threads = column(sessions, "thread_id")
    starts = thread_starts(threads)
    thread = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(sessions)))
    thread_ids = threads.take(starts).to_pylist()
    is_owner = column(sessions, "is_owner").to_numpy(zero_copy_only=False)
    texts = column(sessions, "text")
    place = places(session_begins(sessions))

    pool = _Pool.of(texts, thread, is_owner, len(starts))
    # The seed's rule: a thread needs more different turns than the candidates of one example.
    enough = pool.sizes[thread] > config.num_distractors + 1
    rows = np.flatnonzero(is_owner & (place > 0) & enough)  # [examples] the reply's row
    valid = _valid(sessions, rows, thread, thread_ids, config, seed)
    turn_index = column(sessions, "turn_index").to_numpy()[rows].astype(np.int64)
    kept = valid | (uniform(mix(_keys(seed, "train", thread_ids)[thread[rows]], turn_index)) < config.train_fraction)
    num_per_reason = (
        int((is_owner & (place == 0)).sum()),
        int((is_owner & (place > 0) & ~enough).sum()),
        int((~kept).sum()),
    )
    rows, valid, turn_index = rows[kept], valid[kept], turn_index[kept]

    keys = _keys(seed, "distractors", thread_ids)[thread[rows]]
    others = draw_others(mix(keys, turn_index), pool.place[rows], pool.sizes[thread[rows]], config.num_distractors)
    drawn = pool.rows[pool.starts[thread[rows]][:, None] + others]  # [examples, num_distractors] rows of their texts
    ids = threads.take(rows)
    numbers = pc.utf8_lpad(pa.array(turn_index).cast(pa.string()), 6, "0")
    columns = {
        "example_id": pc.binary_join_element_wise(ids, numbers, "-"),
        "thread_id": ids,
        "session_index": column(sessions, "session_index").take(rows),
        "split": pa.array(np.where(valid, "valid", "train"), pa.string()),
        "replied_at": column(sessions, "started_at").take(rows),
        "history": _history(sessions, rows, np.minimum(place[rows], config.num_history)),
        "reply": texts.take(rows),
        "distractors": pa.ListArray.from_arrays(
            pa.array(np.arange(len(rows) + 1) * config.num_distractors, pa.int32()), texts.take(drawn.ravel())
        ),
    }
    examples = pa.table(columns, schema=SCHEMAS["examples"])
    dropped = Counter(dict(zip(REASONS, num_per_reason, strict=True)))
    return examples, ExampleReport.of(examples, int(is_owner.sum()), dropped)


@dataclass(frozen=True)
class _Pool:
    """The owner's different turn texts of each thread, in the order they were first said.

    Attributes:
        rows: [texts] the row where each was first said, thread after thread.
        starts, sizes: [threads] where a thread's texts begin in `rows`, and how many there are.
        place: [turns] the place of a turn's text among its thread's; -1 on other people's turns.
    """

    rows: Ints
    starts: Ints
    sizes: Ints
    place: Ints

    @classmethod
    def of(cls, texts: pa.Array, thread: Ints, is_owner: Bools, num_threads: int) -> "_Pool":
        own = np.flatnonzero(is_owner)
        code = texts.take(own).dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
        # One number for (thread, text); `np.unique` tells where each first stands.
        pairs = thread[own] * (len(texts) + 1) + code
        _, first, of_turn = np.unique(pairs, return_index=True, return_inverse=True)
        by_time = np.argsort(first)  # rows of a thread stand together, so this keeps threads apart
        rank = np.empty_like(by_time)
        rank[by_time] = np.arange(len(by_time))
        rows = own[first[by_time]]
        sizes = np.bincount(thread[rows], minlength=num_threads)
        starts = np.cumsum(sizes) - sizes
        place = np.full(len(texts), -1, dtype=np.int64)
        place[own] = rank[of_turn] - starts[thread[own]]
        return cls(rows, starts, sizes, place)


def _keys(seed: int, purpose: str, thread_ids: list[str]) -> Words:
    return np.array([thread_key(seed, purpose, name) for name in thread_ids], dtype=np.uint64)


def _history(sessions: pa.Table, rows: Ints, lengths: Ints) -> pa.Array:
    """[examples] the `lengths` turns before each of `rows`: row 7, length 2 -> rows 5, 6."""
    ends = np.cumsum(lengths)
    before = np.repeat(rows - ends, lengths) + np.arange(ends[-1] if len(ends) else 0)
    values = pa.StructArray.from_arrays(
        [column(sessions, name).take(before) for name in ("is_owner", "text")], names=["is_owner", "text"]
    )
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), values)


def _valid(
    sessions: pa.Table, rows: Ints, thread: Ints, thread_ids: list[str], config: DatasetConfig, seed: int
) -> Bools:
    """[examples] whether an example is for validation."""
    own_thread = thread[rows]
    session = column(sessions, "session_index").to_numpy()[rows].astype(np.int64)
    if config.split == "time":
        return _last_sessions(own_thread, session, config.valid_fraction)
    keys = _keys(seed, f"split by {config.split}", thread_ids)[own_thread]
    turn_index = column(sessions, "turn_index").to_numpy()[rows].astype(np.int64)
    index = {"session": session, "thread": np.zeros_like(session), "row": turn_index}[config.split]
    return uniform(mix(keys, index)) < config.valid_fraction


def _last_sessions(thread: Ints, session: Ints, valid_fraction: float) -> Bools:
    """[examples] the last whole sessions of each thread, as many as stay within `valid_fraction` of its examples.

    Ten examples in sessions of 6, 3, 1 and a fraction of 0.3: the last session only, as the last two hold 4.
    """
    rows = np.arange(len(thread))
    begins = np.diff(thread, prepend=-1) != 0
    new_session = begins | (np.diff(session, prepend=-1) != 0)
    session_start = np.maximum.accumulate(np.where(new_session, rows, 0)) if len(rows) else rows
    thread_start = np.maximum.accumulate(np.where(begins, rows, 0)) if len(rows) else rows
    sizes = np.bincount(thread, minlength=thread[-1] + 1 if len(rows) else 0)
    remaining = sizes[thread] - (session_start - thread_start)  # examples from this session to the thread's end
    return remaining <= valid_fraction * sizes[thread]
