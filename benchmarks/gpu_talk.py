"""Replies drawn on the card: tokens per second of one and of 32 conversations, by plain and by recorded steps."""

import jaegpt.environment  # noqa: F401

import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.gpu_cases import config_of, free, peak_gb, sample_like, synchronize
from jaegpt.generation.decoding import decode, read_prompts
from jaegpt.generation.prompts import Prompt
from jaegpt.generation.recorded import Recordings
from jaegpt.generation.sampling import sample, without_repeats
from jaegpt.generation.settings import DEFAULT
from jaegpt.training.cuda import record, unrecorded
from jaegpt.training.heads import DoubleHeads

NO_STOP = -1  # no token, so that each conversation writes as many as it may
ROUNDS = 3
SHARPER = 20.0


def talk(shape: str, device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Histories as long as the sample's are read, and a reply of `max_tokens` is written after each, with the settings
    by default. `tokens/s` counts what is written, over the time of both; `ready_s` is the first round's, recording
    included. A transfer per step brings the tokens to the host, as streaming needs them.
    """
    config = config_of(shape, tiny)
    with device:
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    model = DoubleHeads(lm, torch.Generator().manual_seed(0)).to(device).eval()
    for count in (1, 32):
        prompts = [
            Prompt(ids=one.history.tolist(), roles=one.roles.tolist()) for one in sample_like(count, config.vocab_size)
        ]
        for variant in ("plain", "recorded"):
            recordings = Recordings(model, record if device.type == "cuda" else unrecorded)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            run = partial(replied, model, prompts, recordings if variant == "recorded" else None)
            (first, _), *rounds = [run(number) for number in range(1 + (1 if tiny else ROUNDS))]
            seconds, steps = (statistics.median(times) for times in zip(*rounds, strict=True))
            yield {
                "case": f"{shape} talk b{count} {variant}",
                "tokens/s": round(count * DEFAULT.max_tokens / seconds),
                "step_ms": round(1e3 * steps / (DEFAULT.max_tokens - 1), 2),  # the first is drawn from the reading
                "peak_gb": peak_gb(device),
                "ready_s": round(first, 1),
                "recordings": recordings.num_recorded,
            }
            del recordings, run
            free(device)


@torch.inference_mode()
def replied(model: DoubleHeads, prompts: list[Prompt], recordings: Recordings | None, seed: int) -> tuple[float, float]:
    """Seconds of reading the prompts and writing after them, and of the writing alone."""
    draws = np.random.default_rng(seed).random((len(prompts), DEFAULT.max_tokens))
    device = model.score.weight.device
    synchronize(device)
    began = time.perf_counter()
    read = read_prompts(model, prompts)
    synchronize(device)
    was_read = time.perf_counter()
    written = sum(1 for _ in decode(model, read, draws, drawn, NO_STOP, None, recordings and recordings.begin))
    assert written == draws.size, (written, draws.size)
    ended = time.perf_counter()
    return ended - began, ended - was_read


def drawn(logits: Tensor, written: Tensor, draws: Tensor) -> Tensor:
    """The next token of each row, as a Speaker draws it, but for tokens that it never says.

    Random weights give nearly even logits, for which the draw has to sort the whole vocabulary, as for a trained model
    it hardly ever has to.
    """
    logits = SHARPER * logits.float()
    without_repeats(logits, written, DEFAULT.no_repeat_ngram)
    return sample(
        logits,
        draws,
        top_p=DEFAULT.top_p,
        top_k=DEFAULT.top_k,
        min_p=DEFAULT.min_p,
        temperature=DEFAULT.temperature,
    )
