"""The training loop: packed steps, the two losses kept apart, validation and gradient probes at intervals."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jaegpt.errors import JaegptError
from jaegpt.training.devices import Device, Precision, peak_memory_mb
from jaegpt.training.heads import DoubleHeads, TensorBatch
from jaegpt.training.optimizer import MasterAdamW, learning_rate_at
from jaegpt.training.packing import Example, fill, pack, plan_epoch, plan_training, shape_of
from jaegpt.training.runtime import Runtime, runtime_of
from jaegpt.training.validation import measure

TRAIN_COLUMNS = ("step", "examples", "loss", "lm_loss", "mc_loss", "learning_rate")
VALID_COLUMNS = ("step", "loss", "lm_loss", "mc_loss", "token_accuracy", "mc_accuracy")
GRADIENT_COLUMNS = ("step", "lm_norm", "mc_norm", "cosine")
GRADIENT_EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section `train` of params.yaml.

    learning_rate: AdamW's, at its peak.
    epochs: times each example is seen.
    batch_size: examples a step.
    warmup: share of the steps in which the learning rate rises from 0 to its peak; it then falls to 0.
    weight_decay: AdamW's, on matrices only.
    max_grad_norm: gradients longer than this are cut to it.
    pack_width: tokens a packed row should have; 0: one row a step, as wide as needed.
    precision: bf16, fp32, or auto (bf16 where the device has it natively).
    token_types: add the seed's 0/1 token type ids (GPT-2 family only).
    evaluations: times an epoch that validation runs and the tasks' gradients are compared.
    valid_examples: validation examples used for that; 0: all.
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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}.")
        for name in ("weight_decay", "pack_width", "evaluations", "valid_examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative, found {getattr(self, name)}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps, from 0 to below 1, found {self.warmup}.")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what: the loss weights, the seed, and the examples of both splits."""

    w_lm: float
    w_mc: float
    seed: int
    train: Sequence[Example]
    valid: Sequence[Example]

    def __post_init__(self) -> None:
        if not self.train:
            raise JaegptError(
                "train: no training example fits block_size. See metrics/block_size.json for one that does."
            )
        if not self.w_lm and not self.w_mc:
            raise JaegptError("w_lm and w_mc are both 0: there is nothing to learn. Give at least one a weight.")


@dataclass
class Log:
    """Rows of plots/train.csv, plots/valid.csv and plots/gradients.csv, and the figures of metrics/train.json."""

    train: list[tuple[Any, ...]] = field(default_factory=list)
    valid: list[tuple[Any, ...]] = field(default_factory=list)
    gradients: list[tuple[Any, ...]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def train(model: DoubleHeads, task: Task, config: TrainConfig, device: Device) -> Log:
    """Train `model` in place; it is left on the device in the device's precision, with float32 weights restored.

    Raises:
        JaegptError: the loss or its gradient is not finite.
    """
    started = time.monotonic()
    examples = [example if task.w_mc else example.reply_only() for example in task.train]
    lengths = [len(example) for example in examples]
    steps = plan_training(lengths, config.batch_size, config.pack_width, task.seed, config.epochs, device.num_devices)
    shape = shape_of(steps, examples)
    runtime = runtime_of(device)
    optimizer = runtime.optimizer(model.train(), config.weight_decay, config.max_grad_norm)
    valid = _subset(task.valid, config.valid_examples, task.seed)
    probe = _probe(examples, task.seed, runtime)
    evaluate_after = evaluation_steps(len(steps), len(steps) // config.epochs, config.evaluations)

    log = Log()
    waiting: list[tuple[Any, ...]] = []  # steps whose losses have not been looked at yet
    tokens = 0
    busy = 0.0
    _evaluate(model, 0, valid, probe, task, device, log)
    with tqdm(total=len(examples) * config.epochs, unit=" examples", desc="train") as bar:
        for index, step in enumerate(steps):
            began = time.monotonic()
            learning_rate = learning_rate_at(index, len(steps), config.learning_rate, config.warmup)
            batch = runtime.place_batch(pack(step, examples, shape))
            runtime.seed(_torch_seed(task.seed, index))
            results = train_step(model, optimizer, batch, task.w_lm, task.w_mc, learning_rate)
            runtime.end_step("training step", batch)
            members = [examples[member] for row in step for member in row]
            tokens += sum(map(len, members))
            waiting.append((index + 1, members, learning_rate, results))
            if len(waiting) >= runtime.fetch_every or index + 1 in evaluate_after:
                for done in waiting:
                    _record(log, bar, task, *done)
                waiting.clear()
            busy += time.monotonic() - began
            if index + 1 in evaluate_after:
                _evaluate(model, index + 1, valid, probe, task, device, log)
    optimizer.restore_masters()
    log.figures = {
        "device": device.kind,
        "devices": device.num_devices,
        "precision": device.precision,
        "steps": len(steps),
        "epochs": config.epochs,
        "examples": log.train[-1][1],
        "examples_per_second": log.train[-1][1] / busy,
        "tokens_per_second": tokens / busy,
        "pack_fill": fill(steps, lengths),
        "compilations": runtime.compilations(),
        "peak_memory_mb": peak_memory_mb(),
        "wall_s": time.monotonic() - started,
        "resumed_from_step": 0,
    }
    return log


def evaluation_steps(num_steps: int, steps_an_epoch: int, evaluations: int) -> set[int]:
    """After which steps to evaluate: `evaluations` times an epoch, evenly, and after the last step."""
    every = max(1, steps_an_epoch // max(1, evaluations))
    return {step for step in range(every, num_steps + 1, every) if evaluations and num_steps - step >= every // 2} | {
        num_steps
    }


def train_step(
    model: DoubleHeads, optimizer: MasterAdamW, batch: TensorBatch, w_lm: float, w_mc: float, learning_rate: float
) -> tuple[Tensor | None, Tensor | None, float | Tensor]:
    """One update; the two losses (None for one without weight), and the gradient's norm."""
    losses = model.losses(batch, w_lm, w_mc)
    terms = [weight * loss for weight, loss in ((w_lm, losses.lm), (w_mc, losses.mc)) if loss is not None]
    torch.stack(terms).sum().backward()
    norm = optimizer.step(learning_rate)
    lm, mc = (None if loss is None else loss.detach() for loss in (losses.lm, losses.mc))
    return lm, mc, norm


def _record(
    log: Log,
    bar: Any,
    task: Task,
    step: int,
    members: Sequence[Example],
    learning_rate: float,
    results: tuple[Tensor | None, Tensor | None, float | Tensor],
) -> None:
    """Bring a step's losses to the host, check them, and write them down."""
    lm, mc, norm = (None if value is None else float(value) for value in results)
    loss = task.w_lm * (lm or 0.0) + task.w_mc * (mc or 0.0)
    if not (np.isfinite(loss) and np.isfinite(norm)):
        _stop_not_finite(step, loss, [example.example_id for example in members])
    seen = (log.train[-1][1] if log.train else 0) + len(members)
    log.train.append((step, seen, loss, lm, mc, learning_rate))
    bar.update(len(members))
    bar.set_postfix({"loss": loss, "lm": lm, "mc": mc})


def _evaluate(
    model: DoubleHeads,
    step: int,
    valid: Sequence[Example],
    probe: TensorBatch,
    task: Task,
    device: Device,
    log: Log,
) -> None:
    if valid:
        result = measure(model, valid, device)
        loss = task.w_lm * result.lm_loss + task.w_mc * result.mc_loss
        log.valid.append((step, loss, result.lm_loss, result.mc_loss, result.token_accuracy, result.mc_accuracy))
        tqdm.write(
            f"step {step:,}: validation lm_loss {result.lm_loss:.3f}, mc_loss {result.mc_loss:.3f}, "
            f"token accuracy {result.token_accuracy:.1%}, mc accuracy {result.mc_accuracy:.1%}"
        )
    if task.w_lm and task.w_mc:
        log.gradients.append((step, *_compare_gradients(model, probe)))


def _compare_gradients(model: DoubleHeads, probe: TensorBatch) -> tuple[float, float, float]:
    """Norms of the two tasks' gradients (unweighted) over the decoder's weights, and the cosine between them."""
    model.eval()
    losses = model.losses(probe, 1.0, 1.0)
    assert losses.lm is not None
    assert losses.mc is not None
    weights = list(model.lm.parameters())
    of_lm = torch.autograd.grad(losses.lm, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
    of_mc = torch.autograd.grad(losses.mc, weights, materialize_grads=True, allow_unused=True)
    model.train()
    products = [
        torch.stack([(a.float() * b.float()).sum() for a, b in zip(*pair, strict=True)])
        for pair in ((of_lm, of_lm), (of_mc, of_mc), (of_lm, of_mc))
    ]
    square_lm, square_mc, dot = map(sum, torch.stack(products).tolist())  # [3, weights], to the host at once
    norms = square_lm**0.5, square_mc**0.5
    return norms[0], norms[1], dot / max(norms[0] * norms[1], 1e-30)


def _probe(examples: Sequence[Example], seed: int, runtime: Runtime) -> TensorBatch:
    """A few training examples, the same at each probe."""
    chosen = _subset(examples, GRADIENT_EXAMPLES, seed)
    plan = plan_epoch([len(example) for example in chosen], GRADIENT_EXAMPLES, runtime.rows, rng=None)
    return runtime.place_batch(pack(plan[0], chosen, shape_of(plan, chosen)))


def _subset(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    if not count or count >= len(examples):
        return examples
    chosen = np.random.default_rng([seed, len(examples)]).choice(len(examples), count, replace=False)
    return [examples[index] for index in sorted(chosen)]


def _torch_seed(seed: int, step: int) -> int:
    return int(np.random.default_rng([seed, step]).integers(2**63))


def _stop_not_finite(step: int, loss: float, example_ids: Sequence[str]) -> None:
    raise JaegptError(
        f"train: the loss of step {step:,} is {loss}, or its gradient is not finite. Lower train.learning_rate or a "
        f"loss weight. The step's examples: {', '.join(example_ids)}."
    )
