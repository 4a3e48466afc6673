"""The seed's padded layout, for tests of equality and benchmarks of speed: [batch, candidates, block] rows."""

from collections.abc import Sequence

import numpy as np
import torch

from jaegpt.training.packing import IGNORED, Example


def padded(examples: Sequence[Example], block_size: int) -> dict[str, torch.Tensor]:
    """Inputs of `transformers.GPT2DoubleHeadsModel`: every candidate after a copy of its history, in a row of its own.

    Labels are on the reply alone; scores are read at each row's last token.
    """
    shape = (len(examples), len(examples[0].candidates), block_size)
    ids, types = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    ends = torch.zeros(shape[:2], dtype=torch.long)
    for row, example in enumerate(examples):
        for number, candidate in enumerate(example.candidates):
            tokens = np.concatenate([example.history, candidate])
            ids[row, number, : len(tokens)] = torch.from_numpy(tokens)
            types[row, number, : len(example.history)] = torch.from_numpy(example.roles)
            types[row, number, len(example.history) : len(tokens)] = 1
            ends[row, number] = len(tokens) - 1
        start = len(example.history)
        labels[row, -1, start : start + len(example.candidates[-1])] = torch.from_numpy(example.candidates[-1])
    last = torch.full((len(examples),), shape[1] - 1)
    return {"input_ids": ids, "token_type_ids": types, "mc_token_ids": ends, "labels": labels, "mc_labels": last}
