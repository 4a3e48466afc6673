"""Both heads' opinion of every candidate, not only of the reply: scores, and log-likelihoods of the words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jaegpt.arrays import Floats, Ints
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads, TensorBatch, to_tensors
from jaegpt.training.packing import Batch, Example, Plan

BATCH_SIZE = 16
MAX_LOGITS = 512  # slots whose logits are in memory at once: 0.1 GB for a vocabulary of 50,000


@dataclass(frozen=True)
class CandidateScores:
    """Of one example's candidates, in their order.

    head: [candidates] the classification head's scores.
    log_likelihood: [candidates] sum over the candidate's tokens of the natural logarithm of their probability.
    num_tokens: [candidates] the end-of-turn token included.
    """

    head: Floats
    log_likelihood: Floats
    num_tokens: Ints

    @property
    def likelihood(self) -> Floats:
        """[candidates] log-likelihood per token, so that longer candidates have no disadvantage."""
        return self.log_likelihood / self.num_tokens


@torch.no_grad()
def score_candidates(
    model: DoubleHeads, examples: Sequence[Example], device: Device, label: str
) -> list[CandidateScores]:
    """Run `model` over `examples` without dropout; one result for each, in their order.

    Args:
        model: on the device, in its precision.
        label: names the progress bar.
    """
    was_training = model.training
    model.eval()
    results: list[CandidateScores | None] = [None] * len(examples)
    plan = Plan.once(examples, BATCH_SIZE)
    for step, (members,) in enumerate(tqdm(plan.steps, desc=label, unit="batch", delay=2, disable=None)):
        (packed,) = plan.parts(step)
        batch = to_tensors(packed, device.torch_device, device.dtype)
        hidden = model.trunk(batch)
        scores = model.scores(hidden, batch)[0].cpu().double().numpy()  # [examples, candidates]
        sums = _likelihoods(model, hidden, batch, packed)
        for slot, member in enumerate(members):
            lengths = np.array([len(ids) for ids in examples[member].candidates])
            number = len(lengths)
            results[member] = CandidateScores(scores[slot, :number], sums[slot, :number], lengths)
    model.train(was_training)
    return [result for result in results if result is not None]


def _likelihoods(model: DoubleHeads, hidden: Tensor, batch: TensorBatch, packed: Batch) -> Floats:
    """Log-likelihood of each candidate of a packed row: [examples, candidates]."""
    values, group = token_likelihoods(model, hidden, batch, packed)
    sums = np.bincount(group, values, packed.score_at[0].size).astype(np.float64)
    return sums.reshape(packed.score_at.shape[1:])


def token_likelihoods(model: DoubleHeads, hidden: Tensor, batch: TensorBatch, packed: Batch) -> tuple[Floats, Ints]:
    """Log-likelihood of every candidate token of a packed row, and whose it is.

    Returns:
        Two arrays [tokens], in the order of the row; the second holds example slot * candidates + candidate.
    """
    at, target, group = targets(packed)
    values = []
    for start in range(0, len(at), MAX_LOGITS):
        part = slice(start, start + MAX_LOGITS)
        label_at, wanted = (torch.from_numpy(array[part])[None].to(hidden.device) for array in (at, target))
        logits = model.logits(hidden, batch._replace(label_at=label_at)).float()  # [1, slots, vocabulary]
        chosen = logits.gather(-1, wanted[..., None])[..., 0] - logits.logsumexp(-1)
        values.append(chosen[0].cpu().double().numpy())
    return np.concatenate(values), group


def targets(packed: Batch) -> tuple[Ints, Ints, Ints]:
    """Every candidate token of a packed row: where it is predicted, which token it is, and whose.

        tokens      h i a b c d | j e f         candidates (a b), (c d) after h i; (e f) after j
        candidate   0 0 1 1 2 2   0 1 1
        predicted       1 2 1 4     6 7          a candidate's first token from the last of its history

    Returns:
        Three arrays [tokens]: positions in the row, token ids, example slot * candidates + candidate.
    """
    assert len(packed.ids) == 1, "one row per step"
    ids, candidate, example = packed.ids[0], packed.candidate[0], packed.example[0]
    place = np.arange(len(ids))
    is_target = candidate > 0
    # A candidate's first token is predicted at the end of its history, which is the last history token so far; all its
    # other tokens are predicted at the token before.
    begins = is_target & (np.diff(candidate, prepend=0) != 0)
    history_end = np.maximum.accumulate(np.where((candidate == 0) & (example >= 0), place, -1))
    at = np.where(begins, history_end, place - 1)[is_target]
    assert (at >= 0).all(), "every history has a token"
    group = (example * packed.score_at.shape[2] + candidate - 1)[is_target]
    return at, ids[is_target], group
