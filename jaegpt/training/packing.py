"""Packing: many examples share a row, each history is computed once, and every shape is fixed.

The seed runs four padded rows of history + candidate for each example. Here an example is one stretch of a row, the
history followed by its candidates, and a step is a few rows of such stretches, end to end. A segment of a session takes
the place of an example: it is a history alone, with labels of its own. Nothing here needs torch.

    tokens      h h h a a b b b | h h a b b          two examples, two candidates each
    example     0 0 0 0 0 0 0 0   1 1 1 1 1
    candidate   0 0 0 1 1 2 2 2   0 0 1 2 2          0 is the history
    position    0 1 2 3 4 3 4 5   0 1 2 2 3          each candidate goes on where the history ends
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Bools, Ints
from jaegpt.training.step_plan import Step, plan_epoch, plan_groups

IGNORED = -100  # the target of an unused slot; torch's cross_entropy ignores it
WIDTH_MULTIPLE = 16

Member = TypeVar("Member", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of the table `tokens`: ids of the history [n], roles of its tokens [n], ids of each candidate.

    labelled: whether the language modelling loss reads the reply; not where it learns from segments.
    """

    example_id: str
    history: Ints
    roles: Ints
    candidates: list[Ints]
    labelled: bool = True

    def fits(self, block_size: int) -> bool:
        """Whether the history with any of the candidates is at most `block_size` tokens."""
        return len(self.history) + max(map(len, self.candidates)) <= block_size

    def reply_only(self) -> "Example":
        """The same example without its distractors, for when the classification loss has no weight."""
        return replace(self, candidates=self.candidates[-1:])

    def choice_only(self) -> "Example":
        """The same example for the classification loss alone."""
        return replace(self, labelled=False)

    @property
    def name(self) -> str:
        """For messages."""
        return self.example_id

    @property
    def arrays(self) -> Sequence[Ints | Bools]:
        """All that is known of it."""
        return self.history, self.roles, *self.candidates

    @property
    def num_labels(self) -> int:
        """Tokens that the language modelling loss counts."""
        return len(self.candidates[-1]) if self.labelled else 0

    @property
    def label_slots(self) -> int:
        """Slots for them; one more than labels, because `label_self` is one place further on."""
        return self.num_labels + 1 if self.labelled else 0

    def __len__(self) -> int:
        return len(self.history) + sum(map(len, self.candidates))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One row of the table `segments`: ids [n], and which of them the language modelling loss counts [n]."""

    segment_id: str
    ids: Ints
    labelled: Bools

    @classmethod
    def of(cls, example: Example) -> "Segment":
        """A reply after its history, to be learned once."""
        ids = np.concatenate([example.history, example.candidates[-1]])
        labelled = np.arange(len(ids)) >= len(example.history)
        return cls(segment_id=example.example_id, ids=ids, labelled=labelled)

    @property
    def name(self) -> str:
        """For messages."""
        return self.segment_id

    @property
    def arrays(self) -> Sequence[Ints | Bools]:
        """All that is known of it."""
        return self.ids, self.labelled

    @property
    def num_labels(self) -> int:
        """Tokens that the language modelling loss counts."""
        return int(self.labelled.sum())

    label_slots = num_labels

    def __len__(self) -> int:
        return len(self.ids)


Learned = Example | Segment


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The fixed shape of a step: rows of `width` tokens, with slots for labels and examples in each row."""

    rows: int
    width: int
    labels: int
    examples: int
    candidates: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's arrays. Indices point into their own row.

    ids, positions, example, candidate, token_types: [rows, width]; example is -1 where the row is empty.
    label_at, label, label_self: [rows, labels]: where logits are wanted, the token that follows there, the token there
        itself (only where it belongs to the reply); IGNORED in unused slots.
    score_at: [rows, examples, candidates]: each candidate's last token, -1 where there is no candidate.
    reply: [rows, examples]: the number of the true reply among the candidates.
    """

    ids: Ints
    positions: Ints
    example: Ints
    candidate: Ints
    token_types: Ints
    label_at: Ints
    label: Ints
    label_self: Ints
    score_at: Ints
    reply: Ints


def examples_from_table(tokens: pa.Table, split: str, block_size: int) -> list[Example]:
    """The examples of one split that fit a block, in the table's order."""
    rows = zip(
        tokens.column("split").to_pylist(),
        tokens.column("example_id").to_pylist(),
        tokens.column("history_ids").to_numpy(),
        tokens.column("history_roles").to_numpy(),
        tokens.column("candidate_ids").to_numpy(),
        strict=True,
    )
    examples = [
        Example(
            example_id=example_id,
            history=history.astype(np.int64),
            roles=roles.astype(np.int64),
            candidates=[ids.astype(np.int64) for ids in candidates],
        )
        for its_split, example_id, history, roles, candidates in rows
        if its_split == split
    ]
    return [example for example in examples if example.fits(block_size)]


def segments_from_table(segments: pa.Table) -> list[Segment]:
    """The segments of the training side, in the table's order."""
    rows = zip(
        segments.column("split").to_pylist(),
        segments.column("segment_id").to_pylist(),
        segments.column("ids").to_numpy(),
        segments.column("labelled").to_numpy(),
        strict=True,
    )
    return [
        Segment(segment_id=name, ids=ids.astype(np.int64), labelled=labelled.astype(bool))
        for split, name, ids, labelled in rows
        if split == "train"
    ]


def subset(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    """`count` of the examples, drawn from `seed`, in their own order; 0: all."""
    if not count or count >= len(examples):
        return examples
    chosen = np.random.default_rng([seed, len(examples)]).choice(len(examples), count, replace=False)
    return [examples[index] for index in sorted(chosen)]


@dataclass(frozen=True)
class Plan(Generic[Member]):
    """Which examples share which row of which step, and the fixed shape that all steps have.

    Attributes:
        examples: what `steps` number; anything with a length serves for `fill`.
        steps: `steps[step][row]` lists the numbers of that row's examples.
        num_parts: each step is computed in so many equal parts, one after the other or by several processes.
        epochs: how often each example is planned.
    """

    examples: Sequence[Member]
    steps: list[Step]
    num_parts: int = 1
    epochs: int = 1

    @classmethod
    def training(
        cls, examples: Sequence[Member], *, batch_size: int, pack_width: int, seed: int, epochs: int = 1,
        num_parts: int = 1, row_shares: int | None = None,
    ) -> "Plan[Member]":  # fmt: skip
        """The steps of all epochs, in an order drawn from `seed`.

        Each step has the same number of rows, a multiple of `row_shares` (`num_parts` where it is not given): that many
        devices and parts have the same number of rows each. `pack_width` 0 makes one row per share; otherwise rows are
        about that wide.
        """
        lengths, shares = [len(example) for example in examples], row_shares or num_parts
        # A batch of 8 examples of 72 tokens on average is 576 tokens: 2 rows of a pack_width of 256, rounded up to a
        # multiple of the shares.
        wanted = round(batch_size * float(np.mean(lengths)) / pack_width) if pack_width else 1
        rows = -(-max(1, min(wanted, batch_size)) // shares) * shares
        orders = (plan_epoch(lengths, batch_size, rows, np.random.default_rng([seed, n])) for n in range(epochs))
        return cls(examples, [step for order in orders for step in order], num_parts, epochs)

    @classmethod
    def mixed(
        cls, members: Sequence[Member], epochs: Sequence[Sequence[Ints]], *, tokens: float, pack_width: int, seed: int,
        num_parts: int = 1, row_shares: int | None = None,
    ) -> "Plan[Member]":  # fmt: skip
        """As `training`, with about `tokens` tokens in each step, and of each group its share.

        epochs: the groups of each epoch, as numbers of members.
        """
        lengths, shares = np.array([len(member) for member in members]), row_shares or num_parts
        rows = -(-max(1, round(tokens / pack_width) if pack_width else 1) // shares) * shares
        steps: list[Step] = []
        for number, groups in enumerate(epochs):
            num_steps = max(1, round(sum(int(lengths[group].sum()) for group in groups) / tokens))
            most = [(group, -(-len(group) // num_steps)) for group in groups]
            steps += plan_groups(most, lengths, num_steps, rows, np.random.default_rng([seed, number]))
        return cls(members, steps, num_parts, len(epochs))

    @classmethod
    def once(cls, examples: Sequence[Member], batch_size: int, rows: int = 1) -> "Plan[Member]":
        """Each example once, always in the same order: for figures."""
        return cls(examples, plan_epoch([len(example) for example in examples], batch_size, rows, rng=None))

    def members(self, step: int) -> list[Member]:
        """The examples of a step."""
        return [self.examples[index] for row in self.steps[step] for index in row]

    def parts(self: "Plan[Any]", step: int, first: int = 0, every: int = 1) -> list[Batch]:
        """The arrays of a step's parts: rows 0 1 2 3 in 2 parts -> rows 0 2 and rows 1 3.

        Args:
            first, every: only the parts first, first + every, ...: of several processes each packs its own.
        """
        rows = self.steps[step]
        assert len(rows) % self.num_parts == 0, (len(rows), self.num_parts)
        mine = range(first, self.num_parts, every)
        return [pack(rows[part :: self.num_parts], self.examples, self.shape) for part in mine]

    @cached_property
    def shape(self: "Plan[Any]") -> Shape:
        """The smallest shape that holds every part of every step.

        All parts of all steps get this one shape, so that XLA compiles a training step once.
        """
        num_labels = [example.label_slots for example in self.examples]
        rows = [row for step in self.steps for row in step]
        return Shape(
            rows=max(map(len, self.steps)) // self.num_parts,
            width=self.row_width,
            labels=max(sum(num_labels[index] for index in row) for row in rows),
            examples=max(map(len, rows)),
            candidates=max(1 if isinstance(member, Segment) else len(member.candidates) for member in self.examples),
        )

    @cached_property
    def row_width(self) -> int:
        """Tokens a row needs so that every row of every step fits, a multiple of WIDTH_MULTIPLE."""
        widest = max(sum(len(self.examples[index]) for index in row) for step in self.steps for row in step)
        return -(-widest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE

    def sizes(self) -> tuple[int, int]:
        """Examples and tokens of all steps."""
        lengths = [len(self.examples[index]) for step in self.steps for row in step for index in row]
        return len(lengths), sum(lengths)

    def fill(self) -> float:
        """Share of the rows' tokens that are an example's."""
        return self.sizes()[1] / (sum(map(len, self.steps)) * self.row_width)


def pack(rows: Step, examples: Sequence[Learned], shape: Shape) -> Batch:
    """The arrays of one step of a plan."""
    row_shape = (shape.rows, shape.width)
    batch = Batch(
        ids=np.zeros(row_shape, np.int64),
        positions=np.zeros(row_shape, np.int64),
        example=np.full(row_shape, -1, np.int64),
        candidate=np.zeros(row_shape, np.int64),
        token_types=np.zeros(row_shape, np.int64),
        label_at=np.zeros((shape.rows, shape.labels), np.int64),
        label=np.full((shape.rows, shape.labels), IGNORED, np.int64),
        label_self=np.full((shape.rows, shape.labels), IGNORED, np.int64),
        score_at=np.full((shape.rows, shape.examples, shape.candidates), -1, np.int64),
        reply=np.full((shape.rows, shape.examples), IGNORED, np.int64),
    )
    for row, members in enumerate(rows):
        start = num_labels = 0
        for slot, index in enumerate(members):
            member = examples[index]
            if isinstance(member, Segment):
                _place_segment(batch, row, slot, start, num_labels, member)
            else:
                _place(batch, row, slot, start, num_labels, member)
            start += len(member)
            num_labels += member.label_slots
    return batch


def _place(batch: Batch, row: int, slot: int, start: int, first_label: int, example: Example) -> None:
    """Write one example into its row from token `start` on, its labels from label slot `first_label` on."""
    history = len(example.history)
    end = start + history
    batch.ids[row, start:end] = example.history
    batch.positions[row, start:end] = np.arange(history)
    batch.token_types[row, start:end] = example.roles
    batch.example[row, start : start + len(example)] = slot
    for number, ids in enumerate(example.candidates):
        begin, end = end, end + len(ids)
        batch.ids[row, begin:end] = ids
        batch.positions[row, begin:end] = np.arange(history, history + len(ids))
        batch.candidate[row, begin:end] = number + 1
        batch.token_types[row, begin:end] = 1
        batch.score_at[row, slot, number] = end - 1
    batch.reply[row, slot] = len(example.candidates) - 1
    if not example.labelled:
        return
    # The reply r0 r1 r2 is predicted from (last of the history) r0 r1; the slot at r2 only serves `label_self`.
    reply = example.candidates[-1]
    labels = slice(first_label, first_label + len(reply) + 1)
    batch.label_at[row, labels] = [start + history - 1, *range(end - len(reply), end)]
    batch.label[row, labels] = [*reply, IGNORED]
    batch.label_self[row, labels] = [IGNORED, *reply]


def _place_segment(batch: Batch, row: int, slot: int, start: int, first_label: int, segment: Segment) -> None:
    """Write one segment into its row; it is a history to itself, and each labelled token is predicted from before."""
    assert not segment.labelled[0], "nothing stands before the first token"
    end = start + len(segment)
    batch.ids[row, start:end] = segment.ids
    batch.positions[row, start:end] = np.arange(len(segment))
    batch.example[row, start:end] = slot
    places = np.flatnonzero(segment.labelled)
    labels = slice(first_label, first_label + len(places))
    batch.label_at[row, labels] = start + places - 1
    batch.label[row, labels] = segment.ids[places]
