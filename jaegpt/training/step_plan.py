"""Which examples share which row of which step: steps of nearly the same number of tokens, in an order drawn by chance.

Nothing here needs more of an example than its length.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from jaegpt.arrays import Ints

Step = list[list[int]]  # the numbers of the examples in each row


def plan_epoch(lengths: Sequence[int], batch_size: int, rows: int, rng: np.random.Generator | None) -> list[Step]:
    """Which examples share which row of which step: `plan[step][row]` lists example numbers, each exactly once.

    Steps hold `batch_size` examples and nearly the same number of tokens: the longest example goes where the fewest
    tokens are, then the next (Graham's longest-processing-time rule, with a limit on a step's examples). So rows are
    full without cutting an example or changing the batch size. `rng` shuffles examples of equal length and the order of
    the steps; without it the plan is always the same, as evaluation wants it.
    """
    return plan_groups([(np.arange(len(lengths)), batch_size)], lengths, -(-len(lengths) // batch_size), rows, rng)


def plan_groups(
    groups: Sequence[tuple[Ints, int]],
    lengths: Sequence[int] | Ints,
    num_steps: int,
    rows: int,
    rng: np.random.Generator | None,
) -> list[Step]:
    """As `plan_epoch`, for `num_steps` steps that hold some of each group.

    Args:
        groups: (numbers of its members, most of them in one step) of each group; they are spread over the steps one
            group after the other, so that each step has its share of every group's tokens.
    """
    steps: list[list[int]] = [[] for _ in range(num_steps)]
    for group, most in groups:
        order = group if rng is None else rng.permutation(group)
        # A stable sort keeps the shuffled order among members of equal length, so each epoch pairs them differently.
        order = order[np.argsort(-np.asarray(lengths)[order], kind="stable")]
        for step, items in zip(steps, _spread(order.tolist(), lengths, num_steps, most), strict=True):
            step.extend(items)
    # The same rule twice: members over steps, then a step's members, of all groups, over its rows.
    longest_first = (sorted(step, key=lambda item: -lengths[item]) for step in steps)
    plan = [_spread(step, lengths, rows, len(step)) for step in longest_first]
    return plan if rng is None else [plan[index] for index in rng.permutation(num_steps)]


def _spread(items: Sequence[int], lengths: Sequence[int] | Ints, num_bins: int, most: int) -> list[list[int]]:
    """`items`, longest first, each into the bin with the fewest tokens that holds less than `most`."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    heap = [(0, index) for index in range(num_bins)]
    for item in items:
        total, index = heapq.heappop(heap)  # the emptiest bin; a full one is not put back
        bins[index].append(item)
        if len(bins[index]) < most:
            heapq.heappush(heap, (total + lengths[item], index))
    return bins
