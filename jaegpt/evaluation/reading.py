"""What the untouched base model makes of replies: it reads each after its context, and once more after none.

It has learned nothing of the owner, so what it finds likely is sensible English (or whatever it knows), and not what
the owner tends to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from jaegpt.arrays import Floats, Ints
from jaegpt.dialogue.encode_table import encode_candidate, encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.separators import JOINTS, Separator
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.scoring import score_candidates, token_likelihoods
from jaegpt.generation.prompts import make_prompt
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads, decoder_layers, round_weights, to_tensors
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing import Batch, Example, Plan

DEPTH = 2 / 3  # of the layers, where the states are read: 20 of 30
_AT_ONCE = 128  # replies in a step
_TOGETHER = 16  # replies that share an empty history


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the model made of one writer's replies, one to each context.

    states: [replies, 2 * hidden] of a middle layer, at the reply's last token and their mean over the reply.
    in_context, alone: [replies] log-likelihood of the reply after its context, and after an empty history.
    lowest: [replies] log-likelihood of its least likely token, in context.
    num_tokens: [replies] what ends the turn included.
    """

    states: Floats
    in_context: Floats
    alone: Floats
    lowest: Floats
    num_tokens: Ints

    @property
    def features(self) -> Floats:
        """[replies, features] what the judge that reads goes by."""
        return np.column_stack([self.states, self.in_context / self.num_tokens, self.lowest, self.num_tokens])

    @property
    def likelihood(self) -> float:
        """Mean log-likelihood per token, in context."""
        return float(self.in_context.sum() / self.num_tokens.sum())

    @property
    def gain(self) -> float:
        """How much likelier the contexts make their replies, in nats per token."""
        return float((self.in_context - self.alone).sum() / self.num_tokens.sum())


def fit(readings: Readings, owner: Readings) -> float | None:
    """How much likelier a writer's contexts make its replies, as a ratio to the owner's; below 1: it answers less.

    None where the owner's own contexts make the owner's replies no likelier: the base model cannot read them.
    """
    return readings.gain / owner.gain if owner.gain > 0 else None


class Reader:
    """The untouched base model, reading.

    Args:
        folder: data/base_model. block_size: tokens of a context and its reply together, at most.
        separator: what keeps a turn's messages apart, `session.separator`.

    Raises:
        JaegptError: the folder holds no model that can be loaded.
    """

    def __init__(
        self, folder: str, *, block_size: int, token_types: bool, separator: Separator, device: Device
    ) -> None:
        self.model = load_base(folder, 0, token_types).to(device.torch_device).eval()
        round_weights(self.model, device.dtype)
        self.encoder = Encoder(folder, JOINTS[separator])
        self.device, self.block_size = device, block_size

    @torch.no_grad()
    def read(self, writers: Mapping[str, Sequence[str]], contexts: Sequence[Context]) -> dict[str, Readings]:
        """What the model makes of what each writer replied to each context.

        The replies to one context stand side by side after it, so that it is read once. A reply beyond half of the
        block is read up to there.

        Args:
            writers: name -> [contexts] replies.
        """
        if not contexts:
            return {}
        examples = [self._example(context, texts) for context, *texts in zip(contexts, *writers.values(), strict=True)]
        states, in_context, lowest = _read(self.model, examples, self.device)
        # The same reply (to one context, or to several) is read without a context once.
        different = sorted({tuple(ids.tolist()) for example in examples for ids in example.candidates})
        alone = dict(zip(different, self._alone(different), strict=True))
        result = {}
        for number, name in enumerate(writers):
            replies = [example.candidates[number] for example in examples]
            result[name] = Readings(
                states=states[:, number],
                in_context=in_context[:, number],
                lowest=lowest[:, number],
                alone=np.array([alone[tuple(ids.tolist())] for ids in replies]),
                num_tokens=np.array([len(ids) for ids in replies]),
            )
        return result

    def _example(self, context: Context, texts: Sequence[str]) -> Example:
        half = max(1, self.block_size // 2)
        candidates = [np.array(encode_candidate(self.encoder, text)[:half]) for text in texts]
        room = self.block_size - max(map(len, candidates))
        prompt = make_prompt(self.encoder, context.history, len(context.history), room)
        return Example(
            example_id=context.example_id,
            history=np.array(prompt.ids),
            roles=np.array(prompt.roles),
            candidates=candidates,
        )

    def _alone(self, replies: Sequence[tuple[int, ...]]) -> Sequence[float]:
        """The log-likelihood of each reply after an empty history."""
        ids, roles = encode_history(self.encoder, [])
        examples = [
            Example(
                example_id=str(first),
                history=np.array(ids),
                roles=np.array(roles),
                candidates=[np.array(reply) for reply in replies[first : first + _TOGETHER]],
            )
            for first in range(0, len(replies), _TOGETHER)
        ]
        scores = score_candidates(self.model, examples, self.device, "reading without context")
        return np.concatenate([score.log_likelihood for score in scores]).tolist()


def _read(model: DoubleHeads, examples: Sequence[Example], device: Device) -> tuple[Floats, Floats, Floats]:
    """States [examples, candidates, 2 * hidden]; log-likelihoods and each one's lowest token [examples, candidates]."""
    kept: list[Tensor] = []
    layers = decoder_layers(model.lm)

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = layers[max(0, round(DEPTH * len(layers)) - 1)].register_forward_hook(keep)
    states: dict[int, Floats] = {}
    figures: dict[int, tuple[Floats, Floats]] = {}
    try:
        plan = Plan.once(examples, max(1, _AT_ONCE // len(examples[0].candidates)))
        for step, (members,) in enumerate(tqdm(plan.steps, desc="reading", unit="batch", delay=2, disable=None)):
            (packed,) = plan.parts(step)
            batch = to_tensors(packed, device.torch_device, device.dtype)
            hidden = model.trunk(batch)
            values, group = token_likelihoods(model, hidden, batch, packed)
            shape = packed.score_at.shape[1:]  # examples, candidates
            sums = np.bincount(group, values, packed.score_at[0].size).reshape(shape)
            lowest = np.zeros(packed.score_at[0].size)
            np.minimum.at(lowest, group, values)
            found = _states(kept.pop(), packed, group)
            for slot, member in enumerate(members):
                states[member] = found[slot]
                figures[member] = sums[slot], lowest.reshape(shape)[slot]
    finally:
        handle.remove()
    order = range(len(examples))
    return (
        np.stack([states[member] for member in order]),
        np.stack([figures[member][0] for member in order]),
        np.stack([figures[member][1] for member in order]),
    )


def _states(hidden: Tensor, packed: Batch, group: Ints) -> Floats:
    """[examples, candidates, 2 * hidden] at each candidate's last token, and the mean over its tokens."""
    row = hidden[0].float().cpu().numpy()  # [width, hidden]
    last = row[packed.score_at[0].clip(min=0)]  # [examples, candidates, hidden]
    sums = np.zeros((packed.score_at[0].size, row.shape[1]))
    np.add.at(sums, group, row[packed.candidate[0] > 0])
    counts = np.bincount(group, minlength=len(sums)).clip(min=1)[:, None]
    return np.concatenate([last, (sums / counts).reshape(last.shape)], axis=-1)
