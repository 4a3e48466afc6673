"""What training needs to know: section `train` of params.yaml, and the task with its loss weights and examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaegpt.arrays import Bools
from jaegpt.dialogue.draws import mix, thread_key, uniform
from jaegpt.errors import JaegptError
from jaegpt.training.packing import Example, Learned, Plan, Segment
from jaegpt.training.precision import Precision

Learn = Literal["sessions", "replies"]  # `dataset.learn`


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section `train` of params.yaml.

    learning_rate: AdamW's, at its peak.
    epochs: times each example is seen.
    batch_size: examples per step; from sessions, a step has the tokens of so many examples, distractors included.
    warmup: share of the steps in which the learning rate rises from 0 to its peak; it then falls to 0.
    weight_decay: AdamW's, on matrices only.
    max_grad_norm: a gradient with a larger norm is scaled down to it.
    pack_width: tokens a packed row should have; 0: one row per step, as wide as needed.
    precision: bf16, fp32, or auto (bf16 where the device has it natively).
    token_types: add the seed's 0/1 token type ids (GPT-2 family only).
    evaluations: how often per epoch validation runs and the tasks' gradients are compared.
    valid_examples: validation examples used for that; 0: all.
    accumulation: parts that a step is computed in, one after the other; more parts need less memory.
    mc_share: share of the examples that carry their distractors in an epoch, drawn again for each; L_MC is estimated
        from these without bias.
    lora_rank: rank of LoRA adapters, trained in place of the decoder's weights; 0: the weights themselves.
    base_bits: 4 holds the frozen weights below adapters in 4 bits; 16: in the run's precision.
    adamw_bits: 8 holds AdamW's moments in 8 bits; 32: in float32.
    checkpoint_activations: keep of each decoder layer its input alone, and compute the rest again in the backward pass.
    """

    learning_rate: float
    epochs: int
    batch_size: int
    warmup: float
    weight_decay: float
    max_grad_norm: float
    pack_width: int
    precision: Precision
    token_types: bool
    evaluations: int
    valid_examples: int
    accumulation: int
    mc_share: float
    lora_rank: int
    base_bits: int
    adamw_bits: int
    checkpoint_activations: bool

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}.")
        for name in ("weight_decay", "pack_width", "evaluations", "valid_examples", "lora_rank"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative, found {getattr(self, name)}.")
        if self.base_bits not in (4, 16):
            raise ValueError(f"base_bits must be 16 (as the run computes) or 4, found {self.base_bits}.")
        if self.base_bits == 4 and not self.lora_rank:
            raise ValueError("base_bits 4 is for frozen weights, but lora_rank is 0, which trains them. Set it to 16.")
        if self.adamw_bits not in (8, 32):
            raise ValueError(f"adamw_bits must be 32 (exact) or 8, found {self.adamw_bits}.")
        if not 0 < self.mc_share <= 1:
            raise ValueError(f"mc_share is a share of the examples, above 0 and at most 1, found {self.mc_share}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps, from 0 to below 1, found {self.warmup}.")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what: the loss weights, the seed, and the examples of both splits.

    segments: what L_LM learns from in place of the training examples; None: from these, as L_MC does.
    """

    w_lm: float
    w_mc: float
    seed: int
    train: Sequence[Example]
    valid: Sequence[Example]
    segments: Sequence[Segment] | None = None

    def __post_init__(self) -> None:
        if not self.train:
            raise JaegptError(
                "train: no training example fits block_size. See metrics/block_size.json for one that does."
            )
        if self.segments is not None and not self.segments:
            raise JaegptError(
                "train: no session of the training side gives a segment that fits block_size, or data/segments was "
                "made for replies. Raise block_size, or run `dvc repro`."
            )
        if not self.w_lm and not self.w_mc:
            raise JaegptError("w_lm and w_mc are both 0: there is nothing to learn. Give at least one a weight.")

    def plan(self, config: TrainConfig, *, pack_width: int, num_parts: int, row_shares: int) -> Plan[Learned]:
        """The steps of a training: examples, or segments beside the examples that the classification loss reads."""
        fixed = {"pack_width": pack_width, "seed": self.seed, "num_parts": num_parts, "row_shares": row_shares}
        if self.segments is None or not self.w_lm:
            if not self.w_mc or config.mc_share == 1:
                examples = [example if self.w_mc else example.reply_only() for example in self.train]
                return Plan.training(examples, batch_size=config.batch_size, epochs=config.epochs, **fixed)
            # Each example stands in the plan twice, with its distractors and without; an epoch takes one of the two.
            members = [*self.train, *(example.reply_only() for example in self.train)]
            with_choices = self.with_choices(config)
            epochs = [[np.where(drawn, 0, len(drawn)) + np.arange(len(drawn))] for drawn in with_choices]
            tokens = config.batch_size * float(np.mean([len(members[index]) for (group,) in epochs for index in group]))
            return Plan.mixed(members, epochs, tokens=tokens, **fixed)
        if config.token_types:
            raise JaegptError(
                "train.token_types: only examples have types. Set dataset.learn to replies, or it to false."
            )
        first = len(self.segments)
        choices = [example.choice_only() for example in self.train] if self.w_mc else []
        epochs = [
            [np.arange(first), first + np.flatnonzero(drawn[: len(choices)])] for drawn in self.with_choices(config)
        ]
        # The same whatever the weights, so that a step of AdamW is never spent on a few tokens.
        tokens = config.batch_size * sum(map(len, self.train)) / len(self.train)
        return Plan.mixed([*self.segments, *choices], epochs, tokens=tokens, **fixed)

    def with_choices(self, config: TrainConfig) -> list[Bools]:
        """For each epoch, [examples] whether an example carries its distractors: drawn by its name and the epoch."""
        if config.mc_share == 1:
            return [np.ones(len(self.train), bool)] * config.epochs
        keys = np.array([thread_key(self.seed, "choices", example.example_id) for example in self.train], np.uint64)
        return [uniform(mix(keys, epoch)) < config.mc_share for epoch in range(config.epochs)]

    def counts_given(self, config: TrainConfig) -> bool:
        """Whether a batch does not know what its losses are means over: a mixed step may hold none of a kind."""
        return self.segments is not None or config.mc_share < 1

    def num_choices(self, config: TrainConfig, members: Sequence[Learned]) -> float:
        """What a step's L_MC is a mean over.

        Beside segments only those examples are in a step that carry their distractors. Otherwise all are, and of those
        without any the loss is 0: the mean over the number of carriers that is expected makes up for these.
        """
        share = config.mc_share if self.segments is None or not self.w_lm else 1
        return share * sum(isinstance(member, Example) for member in members)
