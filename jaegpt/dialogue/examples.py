"""Sessions -> examples: each of the owner's turns as a reply, with its history and wrong candidates.

The distractors and the side of the split are drawn from the seed and the row's own name alone (`draws.py`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints, Words
from jaegpt.dialogue.draws import draw_others, mix, text_hashes, thread_key, uniform
from jaegpt.dialogue.sessions import places, session_begins
from jaegpt.dialogue.speakers import Speakers, with_speakers
from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS, column, thread_starts

# Why a turn of the owner gives no example.
REASONS = ("no_turn_before_in_session", "too_few_different_turns_in_thread", "left_out_of_train")
REPEATED = "reply_repeated_in_train"  # and why an example is left out again (`repeats.py`)


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """What an example is made of, and what the language modelling loss learns from.

    Attributes:
        learn: `replies`: examples; `sessions`: whole sessions of the training side (`segments.py`).
        num_history: most turns of context before the reply, at least 1.
        num_distractors: wrong candidates beside the reply, at least 1.
        valid_fraction: share of the drawn units kept for validation, above 0 and below 1.
        split: what is drawn: `session`; `thread` (people the model never saw); `time` (the last sessions of each
            thread); or `row`, only for comparison: a session's overlapping windows land on both sides, so it leaks.
        train_fraction: share of the training examples that is kept, above 0 and at most 1; in whole sessions, of the
            owner's turns that are learned, the others being context.
        max_repeats: most training examples with the same reply; 0: any number (`repeats.py`); in whole sessions, most
            turns with the same text that are learned.
        speakers: `groups`: in threads of more than two people, the others' turns begin with invented names
            (`speakers.py`); `none`: they do not, and all others read as one.
    """

    num_history: int
    num_distractors: int
    valid_fraction: float
    split: Literal["session", "thread", "time", "row"]
    train_fraction: float = 1.0
    max_repeats: int = 0
    learn: Literal["sessions", "replies"] = "replies"
    speakers: Speakers = "none"

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
class ExampleCounts:
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
    def of(cls, examples: pa.Table, owner_turns: int, dropped: Counter[str]) -> "ExampleCounts":
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
    def total(cls, parts: Iterable["ExampleCounts"]) -> "ExampleCounts":
        """The counts of all parts as one."""
        rows = list(parts)
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

    def metrics(self) -> dict[str, Any]:
        """metrics/dataset.json."""
        return {
            "owner_turns": self.owner_turns,
            "examples": self.train + self.valid,
            "train": self.train,
            "valid": self.valid,
            "valid_replies_in_train": self.valid_replies_in_train(),
            "valid_share_in_train_distractors": self.valid_share_in_train_distractors(),
            "dropped": {reason: self.dropped[reason] for reason in (*REASONS, REPEATED)},
        }


@dataclass(frozen=True)
class OwnTurns:
    """The turns of a part of `sessions`, and what the owner said among them. Arrays are [turns] unless said otherwise.

    Attributes:
        thread: the thread's number within the part.
        thread_ids: [threads] their names.
        session, turn_index: of the thread.
        place: in the session, from 0.
        is_owner: whether the owner said it.
        pool: the owner's different texts of each thread.
        gives_example: whether it is the owner's, after another turn, in a thread with texts enough for distractors.
    """

    thread: Ints
    thread_ids: list[str]
    session: Ints
    turn_index: Ints
    place: Ints
    is_owner: Bools
    pool: "_Pool"
    gives_example: Bools

    @classmethod
    def of(cls, sessions: pa.Table, config: DatasetConfig) -> "OwnTurns":
        """From a part of `sessions`."""
        threads = column(sessions, "thread_id")
        starts = thread_starts(threads)
        thread = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(sessions)))
        session, turn_index = (
            column(sessions, name).to_numpy().astype(np.int64) for name in ("session_index", "turn_index")
        )
        place = places(session_begins(sessions))
        is_owner = column(sessions, "is_owner").to_numpy(zero_copy_only=False)
        pool = _Pool.of(column(sessions, "text"), thread, is_owner, len(starts))
        # The seed's rule: a thread needs more different turns than the candidates of one example.
        enough = pool.sizes[thread] > config.num_distractors + 1
        gives_example = is_owner & (place > 0) & enough
        return cls(thread, threads.take(starts).to_pylist(), session, turn_index, place, is_owner, pool, gives_example)

    def keys(self, seed: int, purpose: str) -> Words:
        """[turns] the key of each turn's thread for one kind of draw."""
        names = np.array([thread_key(seed, purpose, name) for name in self.thread_ids], dtype=np.uint64)
        return names[self.thread]

    def held_out(self, config: DatasetConfig, seed: int) -> Bools:
        """[turns] whether a turn is of the validation side, whether or not it gives an example."""
        if config.split == "time":
            return _last_sessions(self.thread, self.session, self.gives_example, config.valid_fraction)
        # One number per unit: all turns of a session (or thread) draw the same, so none is torn apart.
        index = {"session": self.session, "thread": np.zeros_like(self.session), "row": self.turn_index}[config.split]
        return uniform(mix(self.keys(seed, f"split by {config.split}"), index)) < config.valid_fraction

    def drawn_for_training(self, config: DatasetConfig, seed: int) -> Bools:
        """[turns] whether `train_fraction` keeps a turn of the training side."""
        return uniform(mix(self.keys(seed, "train"), self.turn_index)) < config.train_fraction


def build_examples(sessions: pa.Table, config: DatasetConfig, seed: int) -> tuple[pa.Table, ExampleCounts]:
    """A part of `sessions` -> a part of `examples`, and what was dropped."""
    turns = OwnTurns.of(sessions, config)
    pool, texts = turns.pool, column(sessions, "text")
    shown = with_speakers(sessions, config.speakers)
    held_out = turns.held_out(config, seed)
    kept = held_out | turns.drawn_for_training(config, seed)
    answers = turns.is_owner & (turns.place > 0)
    num_per_reason = (
        int((turns.is_owner & (turns.place == 0)).sum()),
        int((answers & ~turns.gives_example).sum()),
        int((turns.gives_example & ~kept).sum()),
    )
    rows = np.flatnonzero(turns.gives_example & kept)  # [examples] the reply's row
    thread, turn_index = turns.thread[rows], turns.turn_index[rows]

    # Distractors are places in the pool of the reply's own thread, which `pool.rows` turns into rows of `sessions`.
    keys = mix(turns.keys(seed, "distractors")[rows], turn_index)
    others = draw_others(keys, pool.place[rows], pool.sizes[thread], config.num_distractors)
    drawn = pool.rows[pool.starts[thread][:, None] + others]  # [examples, num_distractors] rows of their texts
    columns = {
        "example_id": turn_names(sessions, rows),
        "thread_id": column(sessions, "thread_id").take(rows),
        "session_index": column(sessions, "session_index").take(rows),
        "split": pa.array(np.where(held_out[rows], "valid", "train"), pa.string()),
        "replied_at": column(sessions, "started_at").take(rows),
        "history": _history(shown, rows, np.minimum(turns.place[rows], config.num_history)),
        "reply": texts.take(rows),
        "distractors": pa.ListArray.from_arrays(
            pa.array(np.arange(len(rows) + 1) * config.num_distractors, pa.int32()), texts.take(drawn.ravel())
        ),
    }
    examples = pa.table(columns, schema=SCHEMAS["examples"])
    dropped = Counter(dict(zip(REASONS, num_per_reason, strict=True)))
    return examples, ExampleCounts.of(examples, int(turns.is_owner.sum()), dropped)


def turn_names(sessions: pa.Table, rows: Ints) -> pa.Array:
    """[rows] the names of turns: thread and number, `06078a9942f858e4-000012`."""
    numbers = pc.utf8_lpad(column(sessions, "turn_index").take(rows).cast(pa.string()), 6, "0")
    return pc.binary_join_element_wise(column(sessions, "thread_id").take(rows), numbers, "-")


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
        # One number per (thread, text); `np.unique` finds where each first stands.
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


def _history(sessions: pa.Table, rows: Ints, lengths: Ints) -> pa.Array:
    """[examples] the `lengths` turns before each of `rows`: row 7, length 2 -> rows 5, 6."""
    ends = np.cumsum(lengths)
    before = np.repeat(rows - ends, lengths) + np.arange(ends[-1] if len(ends) else 0)
    values = pa.StructArray.from_arrays(
        [column(sessions, name).take(before) for name in ("is_owner", "text")], names=["is_owner", "text"]
    )
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), values)


def _last_sessions(thread: Ints, session: Ints, counted: Bools, valid_fraction: float) -> Bools:
    """[turns] the last whole sessions of each thread, as many as stay within `valid_fraction` of its `counted` turns.

    Ten counted in sessions of 6, 0, 3, 1 and a fraction of 0.3: the last session only, as the last two hold 4. In a
    thread with none counted nothing is held out: there is nothing to validate on.
    """
    rows = np.arange(len(thread))
    begins = np.diff(thread, prepend=-1) != 0
    new_session = begins | (np.diff(session, prepend=-1) != 0)
    session_start = np.maximum.accumulate(np.where(new_session, rows, 0)) if len(rows) else rows
    thread_start = np.maximum.accumulate(np.where(begins, rows, 0)) if len(rows) else rows
    before: Ints = np.cumsum(counted) - counted  # [turns] counted in the turns before, all threads together
    sizes = np.bincount(thread, weights=counted).astype(np.int64)[thread]
    remaining = sizes - (before[session_start] - before[thread_start])  # counted from this session to the thread's end
    held_out: Bools = (remaining <= valid_fraction * sizes) & (sizes > 0)
    return held_out
