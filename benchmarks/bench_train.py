"""Training speed on the CPU: packed against the seed's padded layout, and against the machine's own limit.

Run: make bench-train (about 4 minutes on 2 cores). Prints a table and one JSON line.

A GPT-2 of 124M with random weights and the token lengths of the sample, batch 8, the same optimizer everywhere. The
variants take turns, so that a slow moment of the machine falls on all of them. Without dropout, whose masks torch draws
on the CPU one number after another (a sixth of a packed step; more of a padded one).
"""

import jaegpt.environment  # noqa: F401

import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel

from benchmarks.padded import padded
from jaegpt.errors import run
from jaegpt.tables import read_table
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Example, Plan, examples_from_table

BATCH, BLOCK, W_MC = 8, 128, 0.05
LEARNING_RATE = 5e-5
TURNS = 3
STEPS_A_TURN = {"padded_fp32": 1, "padded_bf16": 1, "packed_fp32": 3, "packed_bf16": 8}
MATMUL_SIZE = 4096  # large enough for its rate to be the machine's

Update = Callable[[int], None]


def main() -> None:
    """Measure the four variants and the matrix-multiplication rate."""
    config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, summary_first_dropout=0.0)
    examples = _examples(config.vocab_size)
    plan = Plan.training(examples, batch_size=BATCH, pack_width=0, seed=1)
    updates: dict[str, Update] = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        updates[f"padded_{precision}"] = _padded_update(config, examples, dtype)
        updates[f"packed_{precision}"] = _packed_update(config, plan, dtype)
    seconds: dict[str, list[float]] = {name: [] for name in STEPS_A_TURN}
    rates = []
    for name in STEPS_A_TURN:
        updates[name](0)  # the first step allocates and makes kernels
    for turn in range(TURNS):
        rates.append(_matmul_flops())
        for name, count in STEPS_A_TURN.items():
            for index in range(count):
                began = time.perf_counter()
                updates[name](1 + turn * count + index)
                seconds[name].append(time.perf_counter() - began)
    speed = {name: BATCH / statistics.median(times) for name, times in seconds.items()}
    flops = statistics.mean(sum(map(_flops, plan.members(step))) for step in range(len(plan.steps)))
    matmul = statistics.median(rates)
    figures = {
        **{name: round(value, 3) for name, value in speed.items()},
        "packed_over_padded_fp32": round(speed["packed_fp32"] / speed["padded_fp32"], 2),
        "packed_over_padded_bf16": round(speed["packed_bf16"] / speed["padded_bf16"], 2),
        "packed_bf16_over_padded_fp32": round(speed["packed_bf16"] / speed["padded_fp32"], 2),
        "matmul_gflops": round(matmul / 1e9, 1),
        "model_gflop_per_step": round(flops / 1e9, 1),
        "mfu": round(flops * speed["packed_bf16"] / BATCH / matmul, 3),
        "pack_fill": round(plan.fill(), 4),
        "tokens_per_example": round(statistics.mean(map(len, examples)), 1),
    }
    for name, value in figures.items():
        print(f"{name:<30}{value:>12,}")
    print(json.dumps(figures))


def _examples(vocabulary: int) -> list[Example]:
    """The sample's training examples with their own lengths, their tokens brought into GPT-2's vocabulary."""
    examples = examples_from_table(read_table("data/tokens", "tokens"), "train", BLOCK)
    return [
        Example(
            example_id=example.example_id,
            history=example.history % vocabulary,
            roles=example.roles,
            candidates=[ids % vocabulary for ids in example.candidates],
        )
        for example in examples
    ]


def _packed_update(config: GPT2Config, plan: Plan[Example], dtype: torch.dtype) -> Update:
    torch.manual_seed(0)
    model = DoubleHeads(GPT2LMHeadModel(copy.deepcopy(config)), torch.Generator().manual_seed(0)).train()
    optimizer = MasterAdamW(model, dtype, weight_decay=0.01, max_grad_norm=1.0)

    def update(index: int) -> None:
        (packed,) = plan.parts(index % len(plan.steps))
        batch = to_tensors(packed, torch.device("cpu"), dtype)
        model(batch, 1.0, W_MC).weighted(1.0, W_MC).backward()
        optimizer.step(LEARNING_RATE)

    return update


def _padded_update(config: GPT2Config, examples: Sequence[Example], dtype: torch.dtype) -> Update:
    torch.manual_seed(0)
    model = GPT2DoubleHeadsModel(copy.deepcopy(config)).train()
    optimizer = MasterAdamW(model, dtype, weight_decay=0.01, max_grad_norm=1.0)
    order = np.random.default_rng(1).permutation(len(examples))

    def update(index: int) -> None:
        members = [
            examples[number] for number in np.take(order, range(index * BATCH, (index + 1) * BATCH), mode="wrap")
        ]
        inputs = padded(members, BLOCK)
        del inputs["token_type_ids"]
        losses = model(**inputs)
        (losses.loss + W_MC * losses.mc_loss).backward()
        optimizer.step(LEARNING_RATE)

    return update


def _matmul_flops() -> float:
    """Floating-point operations a second of one large bf16 matrix product."""
    left, right = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(left, right)
    began = time.perf_counter()
    for _ in range(5):
        torch.mm(left, right)
    return 5 * 2 * MATMUL_SIZE**3 / (time.perf_counter() - began)


def _flops(example: Example) -> float:
    """What one example needs, forward and backward: 6 operations a weight and token, none for padding or masked scores.

    Tokens go through the trunk once; the output layer runs at the reply's labels; attention multiplies every token with
    those it sees, for scores and for the mix, 12 x layers x width a pair (Chowdhery et al. 2022, appendix B).
    """
    config = GPT2Config()
    trunk = config.n_layer * 12 * config.n_embd**2
    history, candidates = len(example.history), [len(ids) for ids in example.candidates]
    pairs = history * (history + 1) / 2 + sum(n * history + n * (n + 1) / 2 for n in candidates)
    logits = candidates[-1] * config.n_embd * config.vocab_size
    return 6 * (len(example) * trunk + logits) + 12 * config.n_layer * config.n_embd * pairs


if __name__ == "__main__":
    run(main)
