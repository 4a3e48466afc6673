"""Small stand-ins that several tests build models and examples from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jaegpt.base_model import save_base_model
from jaegpt.training.config import TrainConfig
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.model_folder import load_base
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Example, Segment

CPU = Device(kind="cpu", torch_device=torch.device("cpu"), num_devices=1, dtype=torch.float32, reason="test")
EACH_STEP = "0.0000001"  # JAEGPT_CHECKPOINT_MINUTES: no step is as short
TRAIN_CONFIG = TrainConfig(
    learning_rate=1e-2, epochs=2, batch_size=8, warmup=0.1, weight_decay=0.01, max_grad_norm=1.0, pack_width=0,
    precision="fp32", token_types=False, evaluations=2, valid_examples=0, accumulation=1, mc_share=1, lora_rank=0,
    base_bits=16, adamw_bits=32, checkpoint_activations=False,
)  # fmt: skip


def save_tiny(folder: Path) -> Path:
    """The `tiny` base model in `folder`."""
    folder.mkdir(parents=True)
    save_base_model("tiny", folder)
    return folder


def recording_gradients(monkeypatch: pytest.MonkeyPatch, model: DoubleHeads) -> list[dict[str, torch.Tensor]]:
    """The gradients of each step from here on, before clipping."""
    steps: list[dict[str, torch.Tensor]] = []
    update = MasterAdamW.step

    def step(self: MasterAdamW, learning_rate: float) -> float | torch.Tensor:
        steps.append({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})
        return update(self, learning_rate)

    monkeypatch.setattr(MasterAdamW, "step", step)
    return steps


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


def random_segments(count: int, longest: int = 60, vocabulary: int = 97, seed: int = 5) -> list[Segment]:
    """Segments of random tokens, a few runs of which are labelled."""
    rng = np.random.default_rng(seed)
    segments = []
    for index in range(count):
        length = int(rng.integers(3, longest))
        labelled = np.repeat(rng.random(length) < 0.5, rng.integers(1, 8))[:length]
        labelled[0], labelled[-1] = False, True
        segments.append(
            Segment(segment_id=f"s{index}", ids=rng.integers(0, vocabulary, length), labelled=labelled.copy())
        )
    return segments


def tiny_heads(tiny: Path, dropout: bool = True, seed: int = 7) -> DoubleHeads:
    """`tiny`, as saved, under a new head; without dropout, what is computed in parts equals the whole."""
    model = load_base(tiny, seed, token_types=False)
    if not dropout:
        model.dropout = 0.0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model
