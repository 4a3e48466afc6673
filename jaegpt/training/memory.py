"""What a run needs in memory, counted before it starts, and which settings make it fit.

A training step, a validation and a comparison of gradients are gone through on tensors that have shapes and no storage
(torch's `meta` device), while what they would hold at the same time is added up. So nothing has to be known of a
decoder's layers, and nothing is tried: it takes a second, and no memory. Weights, masters and moments are multiplied
out.
"""

import jaegpt.environment  # noqa: F401

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from jaegpt.errors import JaegptError
from jaegpt.training.attention import Segments
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.cuda import ROW_TOKENS
from jaegpt.training.devices import Device
from jaegpt.training.eight_bits import BYTES, SMALLEST
from jaegpt.training.four_bits import BITS, PACKED_KINDS
from jaegpt.training.gradients import GRADIENT_EXAMPLES
from jaegpt.training.heads import DoubleHeads, TensorBatch, cross_entropy, round_weights, to_tensors
from jaegpt.training.packing import Learned, Plan, Segment
from jaegpt.training.recomputing import recompute_layers
from jaegpt.training.step_plan import plan_epoch
from jaegpt.training.validation import BATCH_SIZE
from jaegpt.training.without_storage import most_held

# Bytes of a process with torch, transformers and the tables (seen: .78 to .85 GB), and what libraries keep once they
# have computed (seen: .2 GB).
PROGRAM = 1_000_000_000
# On Linux freed memory stays with the process (jaegpt.environment), and steps differ in their shapes: what one leaves
# fits the next one badly. Seen in small float32 models after 30 steps, flat by then: 1.9 times what the largest step
# holds; in the default model, in bf16, after 437: 2.2 times.
KEPT = 2
RANK = 16  # of the adapters that are proposed
PARTS = 4  # that are proposed for a step
CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may take


@dataclass(frozen=True, kw_only=True)
class Load:
    """What passes the decoder: members of the largest training step, of a validation batch, of the gradients' probe."""

    step: Sequence[Learned]
    valid: Sequence[Learned]
    probe: Sequence[Learned]

    @classmethod
    def of(cls, task: Task, config: TrainConfig) -> "Load":
        """Of a training's own plan, all devices and parts together."""
        plan = task.plan(config, pack_width=config.pack_width, num_parts=1, row_shares=1)
        sizes = [sum(len(plan.examples[index]) for row in step for index in row) for step in plan.steps]
        return cls(
            step=plan.members(int(np.argmax(sizes))),
            valid=task.valid[:BATCH_SIZE],
            probe=task.train[:GRADIENT_EXAMPLES] if task.w_lm and task.w_mc else [],
        )

    @classmethod
    def about(cls, *, tokens: int, labels: int, batch_size: int, example_tokens: int, example_labels: int) -> "Load":
        """From the tokens and labels of a step, and those of an example on average."""
        return cls(
            step=_alike(batch_size, tokens // batch_size, labels // batch_size),
            valid=_alike(BATCH_SIZE, example_tokens, example_labels),
            probe=_alike(GRADIENT_EXAMPLES, example_tokens, example_labels),
        )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes on the device at the moment when a run needs most.

    Attributes:
        weights: as they are computed with, frozen ones included.
        optimizer: AdamW's two moments, and the float32 masters where the weights are rounded.
        work: what comes and goes beside these: activations, logits, gradients, and on Linux CPUs what freed ones leave;
            or, in the machine's memory, the base model that adapters are merged into at the end.
        program: what the process has anyway; 0 on a card, which has a memory of its own.
        host: on a card, bytes of the host's memory.
    """

    weights: int
    optimizer: int
    work: int
    program: int
    host: int

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.work + self.program


def described(folder: str | Path) -> Any:
    """The configuration of the model in `folder`."""
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def needs(base: Any, config: TrainConfig, device: Device, load: Load) -> Needs:
    """What a run needs at its peak.

    On CUDA layers are compiled, which keeps less than is counted here.

    Args:
        base: the base model's configuration, of transformers.
    """
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(base, trust_remote_code=False, dtype=torch.float32)
    num_weights = sum(weight.numel() for weight in lm.parameters())
    model = DoubleHeads(lm, torch.Generator().manual_seed(0), config.token_types)
    if config.lora_rank:
        from jaegpt.training.lora import add_adapters  # peft takes a second to load

        add_adapters(model, config.lora_rank, 0)
    if config.checkpoint_activations and device.kind != "xla":
        recompute_layers(model.lm, device.kind)
    model.to("meta").train()
    round_weights(model, device.dtype)
    size = device.dtype.itemsize
    weights = sum(weight.nbytes for weight in model.parameters())
    unpacked = 0
    if config.base_bits == 4:
        layers: list[Any] = [module for module in model.modules() if hasattr(module, "base_layer")]
        below: list[Tensor] = [layer.base_layer.weight for layer in layers]
        weights -= sum(round(weight.numel() * (size - BITS / 8)) for weight in below)
        unpacked = max(weight.nbytes for weight in below)
    on_host = device.kind in ("cpu", "mps")  # an Apple GPU's memory is the machine's
    trained = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    rounds, eight = device.dtype != torch.float32, config.adamw_bits == 8
    # The gradient and both moments in float32, the moments packed anew, and what is added up on the way.
    unpacked_moments = size * sum(trained) + 24 * max(trained)
    kept = KEPT if device.kind == "cpu" and sys.platform == "linux" else 1
    work = max(
        kept * (unpacked + most_held(model, lambda: _step(model, device, config, load.step))),
        unpacked + most_held(model, lambda: _validation(model, device, load.valid)),
        # The products of two gradients are computed in float32, weight by weight.
        unpacked
        + most_held(model, lambda: _comparison(model, device, load.probe))
        + (12 if rounds else 4) * max(trained),
        # The update reads all gradients in float32, or unpacks the moments of one weight after the other.
        unpacked_moments if eight else 4 * sum(trained) if device.kind in ("cpu", "xla") else 0,
        # At the end the base is loaded again, in float32.
        4 * num_weights if config.lora_rank and on_host else 0,
    )
    return Needs(
        weights=weights,
        optimizer=sum(_moment_bytes(count, eight) for count in trained) + (4 * sum(trained) if rounds else 0),
        work=work,
        program=PROGRAM if on_host else 0,
        host=0 if on_host else PROGRAM + 4 * num_weights,
    )


def _moment_bytes(weights: int, eight: bool) -> int:
    """What AdamW's two moments take for one weight matrix of so many elements."""
    return round(2 * weights * (BYTES if eight and weights >= SMALLEST else 4))


def cheaper(base: Any, config: TrainConfig, device: Device, load: Load, available: int) -> list[tuple[str, Needs]]:
    """The settings, each in words, that need less than `available`; where none does, all of them together.

    A setting stands for itself: where one is enough, none that adds to it is named.
    """
    parts = min(PARTS, config.batch_size)
    changes: list[dict[str, Any]] = [{"accumulation": parts}] if parts > config.accumulation else []
    if not config.checkpoint_activations and device.kind != "xla":
        changes.append({"checkpoint_activations": True})
    if not config.lora_rank:
        # On a CPU, packing takes ten times as long as the update itself.
        changes += [{"adamw_bits": 8}] if config.adamw_bits != 8 and device.kind == "cuda" else []
        changes.append({"lora_rank": RANK})
    # In this order, each with those before it: from what costs least to what changes the result.
    together: dict[str, Any] = {}
    for change in list(changes):
        if "lora_rank" in change:
            together.pop("adamw_bits", None)  # adapters have few moments
        if together:
            changes.append(together | change)
        together |= change
    if config.base_bits != 4 and device.kind in PACKED_KINDS:
        together |= {"lora_rank": config.lora_rank or RANK, "base_bits": 4}
        changes += [{key: together[key] for key in ("lora_rank", "base_bits")}, together]
    found: list[tuple[dict[str, Any], Needs]] = []
    last: list[tuple[dict[str, Any], Needs]] = []
    for change in changes:
        if any(change.items() >= smaller.items() for smaller, _ in found):
            continue
        try:
            needed = needs(base, dataclasses.replace(config, **change), device, load)
        except JaegptError:  # this base model or device has no such setting
            continue
        last = [(change, needed)]
        if needed.total <= available:
            found += last
    return [(_written(change, config), needed) for change, needed in found or last]


def memory_lines(base: Any, config: TrainConfig, device: Device, load: Load) -> list[str]:
    """What a run needs and what is here, in words; where it is too much, what needs less.

    Nothing that fails in here ends a run that would train: a base model that cannot be gone through without its weights
    is one line.

    Raises:
        JaegptError: a setting that training refuses too.
    """
    try:
        return _counted_lines(base, config, device, load)
    except JaegptError:
        raise
    except Exception as error:  # other people's models, of which no list is complete
        reason = (str(error).splitlines() or [""])[0]
        return [f"what it takes in memory could not be counted for this model ({type(error).__name__}: {reason})"]


def _counted_lines(base: Any, config: TrainConfig, device: Device, load: Load) -> list[str]:
    needed, available = needs(base, config, device, load), available_bytes(device)
    parts = {"weights": needed.weights, "AdamW": needed.optimizer, "a step": needed.work, "program": needed.program}
    listed = ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)
    text = f"about {_size(needed.total)} ({listed})"
    beside = [f"and about {_size(needed.host)} of the host's"] if needed.host else []
    if available is None:
        return [f"{text} on each device, whose memory is not known here", *beside]
    text = f"{text}; {_size(available)} are {'on the card' if device.kind == 'cuda' else 'here'}"
    if needed.total <= available:
        return [text, *beside]
    others = cheaper(base, config, device, load, available)
    fitting = [(change, other) for change, other in others if other.total <= available]
    if not fitting:
        smallest = ", ".join(f"{change} ({_size(other.total)})" for change, other in others)
        less = f" Not even this is: {smallest}." if smallest else ""
        return [f"{text}, which is not enough.{less} Take a smaller base model.", *beside]
    return [f"{text}, which is not enough. Enough would be:", *beside] + [
        f"{change}: {_size(other.total)}" for change, other in fitting
    ]


def available_bytes(device: Device) -> int | None:
    """Memory of the card, or of this machine, or what a container may take of it; None on XLA, which does not say."""
    if device.kind == "xla":
        return None
    if device.kind == "cuda":
        return int(torch.cuda.get_device_properties(device.torch_device).total_memory)
    if not hasattr(os, "sysconf"):  # Windows
        import psutil  # type: ignore[import-untyped]  # peft depends on it

        return int(psutil.virtual_memory().total)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    return machine if limit == "max" else min(machine, int(limit))


def _written(change: dict[str, Any], config: TrainConfig) -> str:
    values = {key: str(value).lower() for key, value in change.items() if getattr(config, key) != value}
    return ", ".join(f"train.{key}: {value}" for key, value in values.items())


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"


def _alike(number: int, tokens: int, labels: int) -> list[Learned]:
    """Members of so many tokens each, of which so many are labelled."""
    tokens = max(2, tokens)
    labelled = np.arange(tokens) >= tokens - min(max(1, labels), tokens - 1)
    return [Segment(segment_id="", ids=np.zeros(tokens, np.int64), labelled=labelled)] * number


def _placed(device: Device, members: Sequence[Learned], pack_width: int = 0) -> TensorBatch:
    """A batch of shapes, laid out as the device has it."""
    lengths = [len(member) for member in members]
    rows = max(1, round(sum(lengths) / pack_width)) if pack_width else 1
    (step,) = plan_epoch(lengths, len(members), min(rows, len(members)), None)
    (batch,) = Plan(members, [step]).parts(0)
    tensors = to_tensors(batch, torch.device("cpu"), device.dtype, fixed_shapes=device.kind in ("cuda", "xla"))
    lined_up = tensors.segments
    if lined_up is not None:
        masks = tuple(mask.to("meta") for mask in lined_up.masks)
        gather, scatter, valid = (each.to("meta") for each in (lined_up.gather, lined_up.scatter, lined_up.valid))
        lined_up = Segments(gather, scatter, valid, masks)
    return TensorBatch._make([*(each.to("meta") for each in tensors if isinstance(each, Tensor)), lined_up])


def _step(model: DoubleHeads, device: Device, config: TrainConfig, members: Sequence[Learned]) -> None:
    """Forward and backward of two parts of this device's share, or the only one; a second finds gradients there."""
    width = config.pack_width or (ROW_TOKENS if device.kind == "cuda" else 0)
    batch = _placed(device, members[:: config.accumulation * device.num_devices], width)
    for _ in range(min(config.accumulation, 2)):
        model(batch, 1.0, 1.0).weighted(1.0, 1.0).backward()


@torch.no_grad()
def _validation(model: DoubleHeads, device: Device, members: Sequence[Learned]) -> None:
    if not members:
        return
    batch = _placed(device, members)
    logits = model.logits(model.trunk(batch), batch)
    cross_entropy(logits, batch.label, reduction="sum")


def _comparison(model: DoubleHeads, device: Device, members: Sequence[Learned]) -> None:
    if not members:
        return
    losses = model(_placed(device, members), 1.0, 1.0)
    weights = [weight for weight in model.lm.parameters() if weight.requires_grad]
    of_lm = torch.autograd.grad(losses.lm, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
    of_mc = torch.autograd.grad(losses.mc, weights, materialize_grads=True, allow_unused=True)
    assert len(of_lm) == len(of_mc)
