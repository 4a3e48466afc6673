"""Small stand-ins that several tests build models and examples from."""

from pathlib import Path

import numpy as np
import torch

from jaegpt.base_model import save_base_model
from jaegpt.training.devices import Device
from jaegpt.training.packing import Example

CPU = Device(kind="cpu", torch_device=torch.device("cpu"), num_devices=1, dtype=torch.float32, reason="test")


def save_tiny(folder: Path) -> Path:
    """The `tiny` base model in `folder`."""
    folder.mkdir()
    save_base_model("tiny", folder)
    return folder


def random_examples(
    count: int, num_distractors: int = 3, longest_history: int = 40, vocabulary: int = 97, seed: int = 3
) -> list[Example]:
    """Examples of random tokens and lengths."""
    rng = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        history = rng.integers(0, vocabulary, rng.integers(1, longest_history))
        candidates = [rng.integers(0, vocabulary, rng.integers(1, 30)) for _ in range(num_distractors + 1)]
        roles = rng.integers(0, 2, len(history))
        examples.append(Example(example_id=str(index), history=history, roles=roles, candidates=candidates))
    return examples
