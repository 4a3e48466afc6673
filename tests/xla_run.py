"""Train the tiny model on the device that JAEGPT_DEVICE names and print what came of it as JSON; test_xla.py runs it.

XLA takes over a process and its number of devices cannot change, so each case has a process of its own.
"""

import jaegpt.environment  # noqa: F401

import json
import sys
from pathlib import Path
from typing import Any

import torch
from models import random_examples

from jaegpt.training import heads
from jaegpt.training.checkpoints import load_base
from jaegpt.training.devices import Precision, choose_device
from jaegpt.training.loop import Task, TrainConfig, train


def main(folder: Path, precision: Precision, dropout: bool) -> dict[str, Any]:
    config = TrainConfig(
        learning_rate=1e-2, epochs=1, batch_size=8, warmup=0.1, weight_decay=0.01, max_grad_norm=1.0, pack_width=0,
        precision=precision, token_types=False, evaluations=2, valid_examples=0,
    )  # fmt: skip
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(64), valid=random_examples(9, seed=4))
    model = load_base(folder, 7, token_types=False)
    if not dropout:  # each device draws its own, so only without it can losses be compared
        heads.HEAD_DROPOUT = 0.0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    log = train(model, task, config, choose_device(precision))
    tied = model.lm.get_input_embeddings().weight is model.lm.get_output_embeddings().weight
    weights = list(model.parameters())
    return {
        "train": log.train,
        "valid": log.valid,
        "gradients": log.gradients,
        "figures": log.figures,
        "tied": tied,
        "weights": [float(weight.detach().double().sum()) for weight in weights],
        "kinds": sorted({f"{weight.dtype} on {weight.device}" for weight in weights}),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "dropout")))  # type: ignore[arg-type]
