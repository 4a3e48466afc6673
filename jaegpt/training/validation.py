"""The figures of a model on held-out examples: both losses, and how often each head is right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from jaegpt.errors import JaegptError
from jaegpt.training.devices import Device
from jaegpt.training.distributed import total
from jaegpt.training.heads import DoubleHeads, TensorBatch, cross_entropy
from jaegpt.training.packing import IGNORED, Example, Plan
from jaegpt.training.runtime_choice import runtime_of

BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Means over all reply tokens (lm_loss, token_accuracy) and over all examples (mc_loss, mc_accuracy).

    seed_hits: positions of the reply where argmax(logits[t]) == token[t], the seed's unshifted comparison.
    """

    lm_loss: float
    mc_loss: float
    token_accuracy: float
    mc_accuracy: float
    seed_hits: int
    examples: int
    tokens: int

    def check_finite(self, what: str) -> None:
        """Raise a JaegptError that begins with `what` where a loss is infinite or not a number."""
        if not (math.isfinite(self.lm_loss) and math.isfinite(self.mc_loss)):
            raise JaegptError(
                f"{what} is not finite (lm_loss {self.lm_loss}, mc_loss {self.mc_loss}). Lower train.learning_rate or "
                "a loss weight; if the base model was not trained yet, set train.precision fp32 or try another one."
            )


@torch.no_grad()
def measure(model: DoubleHeads, examples: Sequence[Example], device: Device, label: str | None = None) -> Measurement:
    """Run `model` over `examples` without dropout; sums are exact, so the batching does not show in the figures.

    Args:
        label: names the progress bar; None shows none.
    """
    assert examples, "nothing to measure on"
    was_training = model.training
    model.eval()
    runtime = runtime_of(device)
    plan = Plan.once(examples, BATCH_SIZE * runtime.rows, runtime.rows)
    counts = []  # one tensor per batch, not read before all batches have been started: reading waits for the device
    mine = range(device.processes.rank, len(plan.steps), device.processes.count)
    for step in tqdm(mine, desc=label, unit="batch", delay=2, disable=True if label is None else None):
        (packed,) = plan.parts(step)
        batch = runtime.place_batch(packed)
        counts.append(_count(model, batch))
        runtime.end_step("validation step", batch)
    # The host adds in float64; torch's collectives for GPUs take tensors of the device only.
    sums = sum((of_batch.cpu().double() for of_batch in counts), torch.zeros(7, dtype=torch.float64))
    sums = total(sums.to(device.torch_device) if device.kind == "cuda" else sums, device.processes)
    model.train(was_training)
    lm_sum, mc_sum, token_hits, mc_hits, seed_hits, num_examples, num_tokens = sums.tolist()
    return Measurement(
        lm_loss=lm_sum / num_tokens,
        mc_loss=mc_sum / num_examples,
        token_accuracy=token_hits / num_tokens,
        mc_accuracy=mc_hits / num_examples,
        seed_hits=int(seed_hits),
        examples=int(num_examples),
        tokens=int(num_tokens),
    )


def _count(model: DoubleHeads, batch: TensorBatch) -> Tensor:
    """[7], in float32: both losses summed; right tokens, right candidates, the seed's hits; examples; tokens."""
    hidden = model.trunk(batch)
    logits = model.logits(hidden, batch)
    scores = model.scores(hidden, batch)
    guess = logits.argmax(-1)
    return torch.stack(
        [
            cross_entropy(logits, batch.label, reduction="sum"),
            cross_entropy(scores, batch.reply, reduction="sum"),
            (guess == batch.label).sum(),
            ((scores.argmax(-1) == batch.reply) & (batch.reply != IGNORED)).sum(),
            (guess == batch.label_self).sum(),
            (batch.reply != IGNORED).sum(),
            (batch.label != IGNORED).sum(),
        ]
    )
