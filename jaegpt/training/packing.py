"""Packing: many examples share a row, each history is computed once, and every shape is fixed.

The seed runs four padded rows of history + candidate for each example. Here an example is one segment, the history
followed by its candidates, and a step is a few rows of such segments, end to end. Nothing here needs torch.

    tokens      h h h a a b b b | h h a b b          two examples, two candidates each
    example     0 0 0 0 0 0 0 0   1 1 1 1 1
    candidate   0 0 0 1 1 2 2 2   0 0 1 2 2          0 is the history
    position    0 1 2 3 4 3 4 5   0 1 2 2 3          each candidate goes on where the history ends
"""

import heapq
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Ints

IGNORED = -100  # the target of a slot that holds nothing; torch's cross_entropy passes it over
WIDTH_MULTIPLE = 16

Step = list[list[int]]  # the numbers of the examples in each row
Member = TypeVar("Member", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of the table `tokens`: ids of the history [n], roles of its tokens [n], ids of each candidate."""

    example_id: str
    history: Ints
    roles: Ints
    candidates: list[Ints]

    def fits(self, block_size: int) -> bool:
        """Whether the history with any of the candidates is at most `block_size` tokens."""
        return len(self.history) + max(map(len, self.candidates)) <= block_size

    def reply_only(self) -> "Example":
        """The same example without its distractors, for when the classification loss has no weight."""
        return Example(
            example_id=self.example_id, history=self.history, roles=self.roles, candidates=self.candidates[-1:]
        )

    def __len__(self) -> int:
        return len(self.history) + sum(map(len, self.candidates))


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
        for of_split, example_id, history, roles, candidates in rows
        if of_split == split
    ]
    return [example for example in examples if example.fits(block_size)]


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
        steps: `steps[step][row]` lists numbers of examples.
        num_parts: equal parts of each step, computed one after the other or by several processes.
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

        Each step has the same number of rows, a multiple of `row_shares` (`num_parts` where it is not given): what
        devices and accumulation share among them. `pack_width` 0 makes one row a share; otherwise rows are about that
        wide.
        """
        lengths, shares = [len(example) for example in examples], row_shares or num_parts
        wanted = round(batch_size * float(np.mean(lengths)) / pack_width) if pack_width else 1
        rows = -(-max(1, min(wanted, batch_size)) // shares) * shares
        orders = (plan_epoch(lengths, batch_size, rows, np.random.default_rng([seed, n])) for n in range(epochs))
        return cls(examples, [step for order in orders for step in order], num_parts, epochs)

    @classmethod
    def once(cls, examples: Sequence[Member], batch_size: int, rows: int = 1) -> "Plan[Member]":
        """Each example once, always in the same order: for figures."""
        return cls(examples, plan_epoch([len(example) for example in examples], batch_size, rows, rng=None))

    def members(self, step: int) -> list[Member]:
        """The examples of a step."""
        return [self.examples[index] for row in self.steps[step] for index in row]

    def parts(self: "Plan[Example]", step: int, first: int = 0, every: int = 1) -> list[Batch]:
        """The arrays of a step's parts: rows 0 1 2 3 in 2 parts -> rows 0 2 and rows 1 3.

        Args:
            first, every: of several processes each packs its own: the parts first, first + every, ...
        """
        rows = self.steps[step]
        assert len(rows) % self.num_parts == 0, (len(rows), self.num_parts)
        mine = range(first, self.num_parts, every)
        return [pack(rows[part :: self.num_parts], self.examples, self.shape) for part in mine]

    @cached_property
    def shape(self: "Plan[Example]") -> Shape:
        """The smallest shape that holds every part of every step."""
        num_labels = [len(example.candidates[-1]) + 1 for example in self.examples]
        rows = [row for step in self.steps for row in step]
        return Shape(
            rows=max(map(len, self.steps)) // self.num_parts,
            width=self.row_width,
            labels=max(sum(num_labels[index] for index in row) for row in rows),
            examples=max(map(len, rows)),
            candidates=max(len(example.candidates) for example in self.examples),
        )

    @cached_property
    def row_width(self) -> int:
        """Tokens a row needs so that every row of every step fits, a multiple of WIDTH_MULTIPLE."""
        widest = max(sum(len(self.examples[index]) for index in row) for step in self.steps for row in step)
        return -(-widest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE

    def fill(self) -> float:
        """Share of the rows' tokens that are an example's."""
        tokens = sum(len(self.examples[index]) for step in self.steps for row in step for index in row)
        return tokens / (sum(map(len, self.steps)) * self.row_width)


def plan_epoch(lengths: Sequence[int], batch_size: int, rows: int, rng: np.random.Generator | None) -> list[Step]:
    """Which examples share which row of which step: `plan[step][row]` lists example numbers, each exactly once.

    Steps hold `batch_size` examples and nearly the same number of tokens: the longest example goes where the fewest
    tokens are, then the next (Graham's longest-processing-time rule, with a limit on a step's examples). So rows are
    full without cutting an example or changing the batch size. `rng` shuffles equal lengths and the order of steps;
    without it the plan is fixed, as evaluation wants it.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    order = order[np.argsort(-np.asarray(lengths)[order], kind="stable")]
    num_steps = -(-len(lengths) // batch_size)
    steps = _spread(order.tolist(), lengths, num_steps, batch_size)
    plan = [_spread(step, lengths, rows, len(step)) for step in steps]
    return plan if rng is None else [plan[index] for index in rng.permutation(num_steps)]


def _spread(items: Sequence[int], lengths: Sequence[int], num_bins: int, most: int) -> list[list[int]]:
    """`items`, longest first, each into the bin with the fewest tokens that holds less than `most`."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    heap = [(0, index) for index in range(num_bins)]
    for item in items:
        total, index = heapq.heappop(heap)
        bins[index].append(item)
        if len(bins[index]) < most:
            heapq.heappush(heap, (total + lengths[item], index))
    return bins


def pack(rows: Step, examples: Sequence[Example], shape: Shape) -> Batch:
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
            _place(batch, row, slot, start, num_labels, examples[index])
            start += len(examples[index])
            num_labels += len(examples[index].candidates[-1]) + 1
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
    # The reply r0 r1 r2 is predicted from (last of the history) r0 r1; the slot at r2 only serves `label_self`.
    reply = example.candidates[-1]
    labels = slice(first_label, first_label + len(reply) + 1)
    batch.label_at[row, labels] = [start + history - 1, *range(end - len(reply), end)]
    batch.label[row, labels] = [*reply, IGNORED]
    batch.label_self[row, labels] = [IGNORED, *reply]
