"""The training loop: packed steps, the two losses kept apart, validation and gradient probes at intervals."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jaegpt.errors import JaegptError
from jaegpt.training.checkpoints import Interruption, Scratch
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.devices import Device, peak_memory_mb
from jaegpt.training.distributed import Parallel, total
from jaegpt.training.four_bits import hold_in_four_bits
from jaegpt.training.gradients import compare_gradients, probe_batch
from jaegpt.training.heads import Counts, DoubleHeads, TensorBatch
from jaegpt.training.optimizer import MasterAdamW, learning_rate_at
from jaegpt.training.packing import Example, Learned, subset
from jaegpt.training.progress import note
from jaegpt.training.recomputing import recompute_layers
from jaegpt.training.runtime_choice import runtime_of
from jaegpt.training.validation import measure

Made = TypeVar("Made")
Results = tuple[Tensor, float | Tensor]

TRAIN_COLUMNS = ("step", "examples", "loss", "lm_loss", "mc_loss", "learning_rate")
VALID_COLUMNS = ("step", "loss", "lm_loss", "mc_loss", "token_accuracy", "mc_accuracy")
GRADIENT_COLUMNS = ("step", "lm_norm", "mc_norm", "cosine")


@dataclass
class Log:
    """Rows of plots/train.csv, plots/valid.csv and plots/gradients.csv, and the figures of metrics/train.json."""

    train: list[tuple[Any, ...]] = field(default_factory=list)
    valid: list[tuple[Any, ...]] = field(default_factory=list)
    gradients: list[tuple[Any, ...]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def train(model: DoubleHeads, task: Task, config: TrainConfig, device: Device, scratch: Scratch | None = None) -> Log:
    """Train `model` in place; it is left with its float32 weights restored.

    Args:
        scratch: where checkpoints go, and where an unfinished run of the same kind is found; None keeps none.

    Raises:
        JaegptError: the loss or its gradient is not finite, or a signal stopped the run.
    """
    run = _Run(model, task, config, device, scratch)
    run.begin()
    last = run.num_steps
    waiting: list[tuple[int, Results]] = []  # steps whose losses have not been looked at yet
    began = time.monotonic()
    with run.bar, Interruption() as interruption:
        for step, parts in run.batches():  # the time spent waiting for a batch counts as training
            waiting.append((step, run.step(step, parts)))
            done = step + 1
            due = done < last and run.due()
            # Reading a loss waits for the device. On XLA several steps are under way before the first loss is read; but
            # whatever is saved, shown or measured next has to come after all of them.
            if len(waiting) >= run.runtime.fetch_every or due or interruption.signal or done in run.evaluate_after:
                for of_step in waiting:
                    run.record(*of_step)
                waiting.clear()
            run.log.figures["busy_s"] += time.monotonic() - began  # what follows is not training
            if done in run.evaluate_after:
                run.evaluate(done)
            if interruption.signal:
                run.note("stopped", step=done)
                _stop_interrupted(done, interruption.signal, run.save(done), scratch)
            if due:
                run.save(done)
            began = time.monotonic()
    run.optimizer.restore_masters()
    run.log.figures = run.figures()
    return run.log


class _Run:
    """One run: its plan, its optimizer, and the log that it writes."""

    def __init__(
        self, model: DoubleHeads, task: Task, config: TrainConfig, device: Device, scratch: Scratch | None
    ) -> None:
        self.started = time.monotonic()
        self.model, self.task, self.config, self.device, self.scratch = model, task, config, device, scratch
        self.processes, self.runtime = device.processes, runtime_of(device)
        self.plan = task.plan(
            config,
            pack_width=config.pack_width or self.runtime.pack_width,
            num_parts=config.accumulation * device.processes.count,
            row_shares=config.accumulation * device.num_devices,
        )
        self.counts_given = self.plan.num_parts > 1 or task.counts_given(config)
        self.num_steps = len(self.plan.steps)
        self.evaluate_after = evaluation_steps(self.num_steps, config.epochs, config.evaluations)
        if config.checkpoint_activations:
            recompute_layers(model.lm, device.kind)
        if config.base_bits == 4:
            hold_in_four_bits(model.lm, device)
        self.optimizer = self.runtime.optimizer(
            model.train(), config.weight_decay, config.max_grad_norm, config.adamw_bits
        )
        self.parallel = Parallel(model, self.processes)
        self.update = self.runtime.recording(self.one_update, model)
        self.valid = subset(task.valid, config.valid_examples, task.seed)
        self.probe = probe_batch(task.train, task.seed, self.runtime)
        self.log, self.first, self.wall_before = Log(), 0, 0.0
        # On terminals only, and in examples per second even where one takes longer than a second.
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
        silent = True if self.processes.rank else None
        self.bar = tqdm(total=self.plan.sizes()[0], unit=" examples", desc="train", bar_format=form, disable=silent)

    def begin(self) -> None:
        """Take up the state of an unfinished run, or evaluate the untrained model."""
        saved = self.scratch.load() if self.scratch else None
        if saved:
            self.optimizer.load_state(saved["optimizer"])
            self.log, self.first = Log(**saved["log"]), saved["step"]
            self.wall_before = self.log.figures["wall_s"]
            self.bar.update(self.log.train[-1][1])
            self.bar.unpause()
            self.say(f"train: going on after step {self.first:,}, from {self.scratch.path}")  # type: ignore[union-attr]
        else:
            self.log.figures = {"busy_s": 0.0, "wall_s": 0.0}
            self.evaluate(0)

    def due(self) -> bool:
        """Whether to write a checkpoint now.

        Of several processes the first one writes, by its own clock. The others need not know: all that processes must
        do together is to read their losses, and they do that after every step anyway.
        """
        assert self.processes.count == 1 or self.runtime.fetch_every == 1
        return self.scratch is not None and not self.processes.rank and self.scratch.due()

    def save(self, step: int) -> bool:
        """Write a checkpoint; of several processes, the first one does. Whether it was written."""
        if not self.scratch or self.processes.rank:
            return False
        self.log.figures["wall_s"] = self.wall_s()
        state = {"step": step, "optimizer": self.optimizer.state(), "log": dataclasses.asdict(self.log)}
        return self.scratch.save(state)

    def wall_s(self) -> float:
        """Seconds spent on this run, by earlier processes as well."""
        return self.wall_before + time.monotonic() - self.started

    def parts(self, step: int) -> list[TensorBatch]:
        """This process's parts of a step, packed and on the device."""
        packed = self.plan.parts(step, self.processes.rank, self.processes.count)
        return [self.runtime.place_batch(part) for part in packed]

    def batches(self) -> Iterator[tuple[int, list[TensorBatch]]]:
        """The steps that are left to do, each with its parts."""
        left = range(self.first, self.num_steps)
        return ahead(self.parts, left) if self.runtime.packs_ahead else ((step, self.parts(step)) for step in left)

    def step(self, step: int, parts: Sequence[TensorBatch]) -> Results:
        """One update; the losses [2] (0 for one without weight) and the gradient's norm, both still on the device."""
        # Dropout draws from torch's own generator. It is seeded for each step, so that a resumed run draws what an
        # uninterrupted one would have drawn.
        self.runtime.seed(_torch_seed(self.task.seed, step, self.processes.rank))
        counts = None
        if self.counts_given:
            members = self.plan.members(step)
            counts = counts_of(members, self.task.num_choices(self.config, members), self.device.torch_device)
        results: Results = self.update(parts, self.learning_rate(step), counts)
        self.runtime.end_step("training step", parts[-1])
        return results

    def one_update(self, parts: Sequence[TensorBatch], learning_rate: float, counts: Counts | None) -> Results:
        """What a step computes on the device."""
        return train_step(self.parallel, self.optimizer, parts, self.task.w_lm, self.task.w_mc, learning_rate, counts)

    def learning_rate(self, step: int) -> float:
        """Of the step with this number, from 0."""
        return learning_rate_at(step, self.num_steps, self.config.learning_rate, self.config.warmup)

    def record(self, step: int, results: Results) -> None:
        """Bring a step's losses to the host, check them, and write them down."""
        (lm, mc), norm = total(results[0], self.processes).tolist(), float(results[1])
        loss = self.task.w_lm * lm + self.task.w_mc * mc
        members = self.plan.members(step)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.note("not finite", step=step + 1)
            _stop_not_finite(step + 1, loss, [member.name for member in members], self.scratch)
        # A step may hold nothing for one of the losses: that is no loss of 0.
        has_lm = self.task.w_lm and any(member.num_labels for member in members)
        has_mc = self.task.w_mc and any(isinstance(member, Example) for member in members)
        shown = {"loss": loss, "lm": lm if has_lm else None, "mc": mc if has_mc else None}
        seen = (self.log.train[-1][1] if self.log.train else 0) + len(members)
        self.log.train.append((step + 1, seen, *shown.values(), self.learning_rate(step)))
        self.bar.update(len(members))
        self.bar.set_postfix(shown)

    def evaluate(self, step: int) -> None:
        """Add a row to the validation curves, and one to the gradients'."""
        task = self.task
        if self.valid:
            result = measure(self.model, self.valid, self.device)
            loss = task.w_lm * result.lm_loss + task.w_mc * result.mc_loss
            row = (step, loss, result.lm_loss, result.mc_loss, result.token_accuracy, result.mc_accuracy)
            self.log.valid.append(row)
            self.note("validation", steps=self.num_steps, **dict(zip(VALID_COLUMNS, row, strict=True)))
            self.say(
                f"step {step:,}: validation lm_loss {result.lm_loss:.3f}, mc_loss {result.mc_loss:.3f}, "
                f"token accuracy {result.token_accuracy:.1%}, mc accuracy {result.mc_accuracy:.1%}"
            )
            # Otherwise weights that the last step has broken would be saved, and only a later stage would notice.
            result.check_finite(f"train: the validation loss after step {step:,}")
        if task.w_lm and task.w_mc:
            self.log.gradients.append((step, *compare_gradients(self.model, self.probe)))
            self.runtime.end_step("comparison of gradients", self.probe)

    def note(self, event: str, **figures: Any) -> None:
        """Report an event to the program that follows the run; of several processes, the first one does."""
        if not self.processes.rank:
            note(event, **figures)

    def say(self, line: str) -> None:
        """Print beside the progress bar; of several processes, the first one does."""
        if not self.processes.rank:
            tqdm.write(line)

    def figures(self) -> dict[str, Any]:
        """metrics/train.json. Speeds are those of training alone, packing included, validation and checkpoints not."""
        counted, seen = self.log.figures, self.log.train[-1][1]
        segments = {} if self.task.segments is None else {"segments": len(self.task.segments)}
        return {
            "device": self.device.kind,
            "devices": self.device.num_devices,
            "precision": self.device.precision,
            "steps": self.num_steps,
            "epochs": self.config.epochs,
            "examples": seen,
            **segments,
            "examples_per_second": seen / counted["busy_s"],
            "tokens_per_second": self.plan.sizes()[1] / counted["busy_s"],
            "pack_fill": self.plan.fill(),
            "compilations": self.runtime.compilations(),
            "peak_memory_mb": peak_memory_mb(),
            "wall_s": self.wall_s(),
            "resumed_from_step": self.first,
        }


def train_step(
    parallel: Parallel,
    optimizer: MasterAdamW,
    parts: Sequence[TensorBatch],
    w_lm: float,
    w_mc: float,
    learning_rate: float,
    counts: Counts | None = None,
) -> Results:
    """One update from a step's parts. `counts` of the whole step are needed where it has several, here or elsewhere."""
    sums = []
    # Each part's backward pass adds to the weights' gradients; the update follows when all parts have been added.
    for number, part in enumerate(parts):
        with parallel.waiting(last=number + 1 == len(parts)):
            losses = parallel.model(part, w_lm, w_mc, counts)
            parallel.backward(losses.weighted(w_lm, w_mc))
        none = torch.zeros((), device=part.ids.device)
        sums.append(torch.stack([none if loss is None else loss.detach() for loss in (losses.lm, losses.mc)]))
    return torch.stack(sums).sum(0), optimizer.step(learning_rate)


def counts_of(members: Sequence[Learned], num_choices: float, torch_device: torch.device) -> Counts:
    """What a step's losses are means over, on the device."""
    num_labels = sum(member.num_labels for member in members)
    # As float, so that the number of examples may be one that is expected.
    counts = [torch.tensor(float(number or 1)) for number in (num_labels, num_choices)]
    if torch_device.type == "cuda":  # a copy out of ordinary memory would wait for the step before
        counts = [count.pin_memory() for count in counts]
    return Counts(*(count.to(torch_device, non_blocking=True) for count in counts))


def ahead(make: Callable[[int], Made], steps: Iterable[int]) -> Iterator[tuple[int, Made]]:
    """(step, make(step)) for each step, the next one made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread:
        waiting: tuple[int, Future[Made]] | None = None
        for step in steps:
            following = (step, thread.submit(make, step))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def evaluation_steps(num_steps: int, epochs: int, evaluations: int) -> set[int]:
    """After which steps to evaluate: `evaluations` times per epoch, evenly, the last time after the last step.

    Where an epoch has fewer steps, after each of them; with 0 evaluations after the last step alone.
    7 steps in 2 epochs, 2 evaluations each: 1.75, 3.5, 5.25, 7 -> 2, 4, 5, 7.
    """
    number = min(evaluations * epochs, num_steps) or 1
    return {(2 * place * num_steps + number) // (2 * number) for place in range(1, number + 1)}


def _torch_seed(*names: int) -> int:
    return int(np.random.default_rng(names).integers(2**63))


def _stop_not_finite(step: int, loss: float, example_ids: Sequence[str], scratch: Scratch | None) -> NoReturn:
    kept = f" The last checkpoint before it: {scratch.path}." if scratch and scratch.path.is_file() else ""
    raise JaegptError(
        f"train: the loss of step {step:,} is {loss}, or its gradient is not finite. Lower train.learning_rate or a "
        f"loss weight. The step's examples: {', '.join(example_ids)}.{kept}"
    )


def _stop_interrupted(step: int, number: signal.Signals, saved: bool, scratch: Scratch | None) -> NoReturn:
    if saved:
        what = "`dvc repro` goes on from there"
    elif scratch and scratch.path.is_file():
        what = "`dvc repro` goes on from the checkpoint before it"
    else:
        what = "nothing was saved, so a new run starts from the beginning"
    raise JaegptError(f"train: stopped by {number.name} after step {step:,}; {what}.")
