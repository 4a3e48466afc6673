"""Padded training for comparison, as a Trainer with double heads does it: a row per candidate, logits everywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jaegpt.training.heads import DoubleHeads, cross_entropy
from jaegpt.training.packing import IGNORED, Example

W_MC = 0.05


@dataclass(frozen=True, kw_only=True)
class PaddedBatch:
    """[examples * candidates, longest] ids, mask and labels (on replies alone); [examples * candidates] last tokens."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    ends: Tensor
    candidates: int

    def pinned(self) -> "PaddedBatch":
        """The same in memory that a card can read while the host goes on."""
        return self._each(Tensor.pin_memory) if torch.cuda.is_available() else self

    def to(self, device: torch.device) -> "PaddedBatch":
        """The same on the device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change) -> "PaddedBatch":  # type: ignore[no-untyped-def]
        tensors = {name: change(getattr(self, name)) for name in ("ids", "mask", "labels", "ends")}
        return PaddedBatch(**tensors, candidates=self.candidates)


def padded_batches(examples: Sequence[Example], batch: int, fixed: int | None) -> Iterator[PaddedBatch]:
    """Batches in order, padded to their longest row, or to `fixed` tokens."""
    for first in range(0, len(examples), batch):
        members = examples[first : first + batch]
        texts = [np.concatenate([one.history, candidate]) for one in members for candidate in one.candidates]
        longest = fixed or -(-max(map(len, texts)) // 8) * 8  # a multiple of 8, as collators for tensor cores make it
        ids, mask = (torch.zeros(len(texts), longest, dtype=torch.long) for _ in range(2))
        labels = torch.full((len(texts), longest), IGNORED)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.from_numpy(text)
            mask[row, : len(text)] = 1
        candidates = len(members[0].candidates)
        for number, one in enumerate(members):
            row, start = (number + 1) * candidates - 1, len(one.history)
            labels[row, start : start + len(one.candidates[-1])] = torch.from_numpy(one.candidates[-1])
        ends = torch.tensor([len(text) - 1 for text in texts])
        yield PaddedBatch(ids=ids, mask=mask, labels=labels, ends=ends, candidates=candidates)


def padded_losses(model: DoubleHeads, batch: PaddedBatch) -> Tensor:
    """The weighted loss of a padded batch, as GPT2DoubleHeadsModel computes it: logits of every row and place."""
    hidden = model.lm.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    logits = model.lm.get_output_embeddings()(hidden)
    ends = hidden[torch.arange(len(batch.ends), device=hidden.device), batch.ends]
    ends = torch.nn.functional.dropout(ends, model.dropout, model.training)
    scores = model.score(ends).view(-1, batch.candidates).float()
    right = torch.full((len(scores),), batch.candidates - 1, device=scores.device)
    return cross_entropy(logits[:, :-1], batch.labels[:, 1:]) + W_MC * cross_entropy(scores, right)
