"""Decoding on CUDA: a step of one token recorded as a graph of kernels and replayed, so that the host launches none.

A step of few rows is a thousand kernels and more, each of microseconds, and the card waits for the host that launches
them. A graph replays them at once, but at the addresses and in the shapes of its recording. So keys and values lie in
memory that stays, rows and cache length are rounded up to powers of two, where a key is written and what is seen are
tensors, and rows that have ended write on, unread, until half of the rows or fewer are left.

Nothing here ends a reply: a model whose step cannot be recorded, or does not give the plain step's logits when it is
replayed, is decoded by the plain step, with one warning. Prompts are read by the plain pass.
"""

import jaegpt.environment  # noqa: F401

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from jaegpt.generation.decoding import GrowingRows, ReadPrompts, Rows, forward
from jaegpt.training.cuda import asking_nothing, beside, record
from jaegpt.training.heads import DoubleHeads

SHORTEST = 128  # tokens of a cache; fewer would save nothing beside the weights that each step reads
SHARE = 4  # the cache may take one part in so many of the memory that is free
APART = (
    0.1  # of the probability may lie on other tokens than in the plain step; rounding to bf16 moves some thousandths
)

Step = Callable[[], Tensor]


class Recordings:
    """The recorded steps of one model, kept from one decoding to the next, and the rows of the decoding that has them.

    Args:
        record: makes a replay out of a step.
    """

    def __init__(self, model: DoubleHeads, record: Callable[[Step], Step] = record) -> None:
        self._model, self._record = model, record
        self._found: dict[tuple[int, int], _FixedStep] = {}  # by rows and length
        self._memory: list[list[Tensor]] = []  # each layer's keys and values; all steps share it
        self._current: _FixedStep | None = None  # of the decoding under way
        self._used, self._given_up = 0, False

    def begin(self, read: ReadPrompts, source: Tensor, steps: int) -> Rows | None:
        """Rows after the prompts; None where the plain step has to do. [rows] `source`: the prompt of each."""
        layers, used = read.cache.layers, read.mask.shape[1]
        if self._given_up or self._current or not all(_is_whole(layer, used) for layer in layers):
            return None
        shape = rows, length = _power(len(source)), max(SHORTEST, _power(used + steps))
        try:
            if not self._has_memory(rows * length, layers):
                return None
            # With all that it may narrow to: a first run writes into the memory that the rows will have.
            shapes = [(rows >> halvings, length) for halvings in range(rows.bit_length())]
            if missing := [one for one in shapes if one not in self._found]:
                with beside(source.device):  # its end brings the usual stream back, even where a recording breaks off
                    self._found |= {one: self._recorded(*one, layers) for one in missing}
                self._compare(self._found[shape], read, source)
            self._found[shape].fill(layers, source, read.mask, read.positions[:, -1:], used)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            tqdm.write(
                f"warning: decoding cannot be recorded ({type(error).__name__}: {reason}); it is slower as it is"
            )
            self._given_up, self._found, self._memory = True, {}, []
            return None
        self._current, self._used = self._found[shape], used
        return self

    @property
    def num_recorded(self) -> int:
        """Shapes of steps that are recorded."""
        return len(self._found)

    def narrows(self, count: int) -> bool:
        return _power(count) < self._now.shape[0]

    def keep(self, rows: Tensor) -> None:
        wide, length = self._now, self._now.shape[1]
        self._current = self._found[_power(len(rows)), length]
        self._current.fill(wide.layers, rows, wide.mask, wide.positions, self._used)

    def step(self, last: Tensor) -> Tensor:
        self._used += 1
        return self._now(last)

    def close(self) -> None:
        self._current = None

    @property
    def _now(self) -> "_FixedStep":
        assert self._current, "no decoding is under way"
        return self._current

    def _has_memory(self, tokens: int, layers: Sequence[Any]) -> bool:
        """Take memory for so many keys where there is less. What was recorded is bound to the old, and goes with it."""
        sizes = [[tokens * states.shape[1] * states.shape[3] for states in _states(layer)] for layer in layers]
        if self._memory and self._memory[0][0].numel() >= sizes[0][0]:
            return True
        keys, held = layers[0].keys, sum(part.nbytes for of_layer in self._memory for part in of_layer)
        if sum(map(sum, sizes)) * keys.element_size() * SHARE > _free(keys.device) + held:
            return False
        self._found, self._memory = {}, []
        # Zeros, as a NaN that nobody looks at still makes one: 0 * NaN.
        self._memory = [[keys.new_zeros(size) for size in of_layer] for of_layer in sizes]
        return True

    def _recorded(self, rows: int, length: int, layers: Sequence[Any]) -> "_FixedStep":
        fixed = []
        for layer, memory in zip(layers, self._memory, strict=True):
            shapes = [(rows, states.shape[1], length, states.shape[3]) for states in _states(layer)]
            fixed.append([part[: math.prod(shape)].view(shape) for part, shape in zip(memory, shapes, strict=True)])
        step = _FixedStep(self._model, fixed)
        step.run()  # libraries choose their kernels and ask for their memory
        with asking_nothing(step.mask.device):
            step.run()
        step.replay = self._record(step.run)
        return step

    def _compare(self, step: "_FixedStep", read: ReadPrompts, source: Tensor) -> None:
        """A decoder that minds the cache's width, or counts by itself, records without an error, and is wrong."""
        last = read.logits[source].argmax(-1)
        expected = GrowingRows(self._model, read, source).step(last)
        step.fill(read.cache.layers, source, read.mask, read.positions[:, -1:], read.mask.shape[1])
        found = step(last)
        apart = (found.float().softmax(-1) - expected.float().softmax(-1)).abs().sum(-1).mean().item() / 2
        if not apart <= APART:  # NaN is not
            raise RuntimeError(f"{apart:.0%} of the probability moved to other tokens")


class _FixedStep:
    """A step of one shape, on memory of its own but for keys and values, [rows, heads, length, size] of each layer."""

    replay: Step  # of `run`, once it is recorded

    def __init__(self, model: DoubleHeads, states: Sequence[Sequence[Tensor]]) -> None:
        rows, _, length, _ = states[0][0].shape
        self._model, self.shape = model, (rows, length)
        self._at, self.mask, self._ids, self.positions = (
            torch.zeros(size, dtype=torch.long, device=states[0][0].device)
            for size in ((1,), (rows, length), (rows, 1), (rows, 1))
        )
        self.layers = [_FixedLayer(keys, values, self._at) for keys, values in states]
        self._cache = Cache(layers=self.layers)
        self._types = torch.ones_like(self._ids)

    def run(self) -> Tensor:
        """Logits [rows, vocabulary] after one more token; what is recorded, so that it asks the device for nothing."""
        self.mask.index_fill_(1, self._at, 1)
        self.positions.add_(1)
        logits = forward(self._model, self._cache, self._ids, self.mask, self.positions, self._types)
        self._at.add_(1)
        return logits

    def __call__(self, last: Tensor) -> Tensor:
        self._ids[: len(last), 0] = last
        return self.replay()[: len(last)]

    def fill(self, layers: Sequence[Any], rows: Tensor, mask: Tensor, positions: Tensor, used: int) -> None:
        """Take over rows of other layers, of whose keys `used` are in use; surplus rows repeat the first of them."""
        rows = torch.cat([rows, rows[:1].expand(len(self.mask) - len(rows))])
        for layer, other in zip(self.layers, layers, strict=True):
            for own, states in zip(_states(layer), _states(other), strict=True):
                own[:, :, :used] = states[:, :, :used][rows]  # a copy first: both may be views of the same memory
        self.mask.zero_()
        self.mask[:, :used] = mask[rows, :used]
        self.positions.copy_(positions[rows])
        self._at.fill_(used)


class _FixedLayer(StaticLayer):
    """Keys and values of a layer that stay where they are; the next are written at `at` [1], which all layers share."""

    def __init__(self, keys: Tensor, values: Tensor, at: Tensor) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self._at, self.is_initialized = keys, values, at, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self._at, key_states)
        self.values.index_copy_(2, self._at, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> Tensor:
        return self._at[0]


def _power(number: int) -> int:
    """The next power of two: 1 -> 1, 5 -> 8, 8 -> 8."""
    return 1 << (number - 1).bit_length()


def _states(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values


def _is_whole(layer: Any, used: int) -> bool:
    """Whether a layer is keys and values of all that was read, and nothing else: no state, no window that was left."""
    if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) or not layer.is_initialized:
        return False
    return all(states.dim() == 4 and states.shape[2] == used for states in _states(layer))


def _free(device: torch.device) -> float:
    """Bytes that new tensors can have on a card; elsewhere there is no limit."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
