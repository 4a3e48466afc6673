"""What a training of a small random model takes and what is counted for it: memory_script.py NAME; prints JSON.

`taken` is what the process had most and `counted` what was counted, both less what it had before; in bytes.
"""

import jaegpt.environment  # noqa: F401

import dataclasses
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig

from helpers.models import CPU, TRAIN_CONFIG, random_examples, random_segments
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters
from jaegpt.training.memory import Load, needs

NUM_STEPS = 16  # of differing widths: what freed tensors leave grows over the first ten or so
ONE = dataclasses.replace(TRAIN_CONFIG, epochs=1, evaluations=1, learning_rate=1e-4, mc_share=0.25)
CASES: dict[str, tuple[PretrainedConfig, TrainConfig]] = {
    # Most of it is weights, moments and gradients.
    "whole": (
        LlamaConfig(
            vocab_size=32_000, hidden_size=256, intermediate_size=640, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
        ),
        ONE,
    ),
    # Most of it is activations.
    "adapters": (
        GPT2Config(vocab_size=8_000, n_positions=256, n_embd=256, n_layer=6, n_head=4),
        dataclasses.replace(ONE, batch_size=24, lora_rank=8),
    ),
}  # fmt: skip
CASES["recomputed"] = CASES["adapters"][0], dataclasses.replace(CASES["adapters"][1], checkpoint_activations=True)


def main() -> None:
    """Count, then train on random examples."""
    base, config = CASES[sys.argv[1]]
    num_examples = NUM_STEPS * config.batch_size
    task = Task(
        w_lm=1.0, w_mc=0.5, seed=7, valid=random_examples(16, seed=4),
        train=random_examples(num_examples, longest_history=80), segments=random_segments(num_examples, longest=150),
    )  # fmt: skip
    counted = needs(base, config, CPU, Load.of(task, config))
    before = resident_bytes()
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(base)
    model = DoubleHeads(lm, torch.Generator().manual_seed(0))
    if config.lora_rank:
        add_adapters(model, config.lora_rank, 0)
    train(model, task, config, CPU)
    print(json.dumps({"taken": resident_bytes("VmHWM") - before, "counted": counted.total - before}))


def resident_bytes(name: str = "VmRSS") -> int:
    """What this process has now, or has had at most. (getrusage's most begins with what the parent had at the fork.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
