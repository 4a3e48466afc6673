"""The cases of `bench_gpu`: which models, how they are trained, and what is measured of each."""

import jaegpt.environment  # noqa: F401

import gc
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig, Qwen2Config

from benchmarks.gpu_padded import PaddedBatch, padded_batches, padded_losses
from jaegpt.training.cuda import CudaRuntime
from jaegpt.training.devices import Device
from jaegpt.training.distributed import ALONE, Parallel
from jaegpt.training.heads import DoubleHeads, decoder_layers
from jaegpt.training.loop import ahead, train_step
from jaegpt.training.lora import add_adapters
from jaegpt.training.packing import Example, Plan
from jaegpt.training.runtime import Runtime

W_LM, W_MC, RATE, RANK, BLOCK = 1.0, 0.05, 1e-5, 16, 128
WARM_UP, TIMED, TIMED_TINY = 3, 12, 2


COMPARED = ("new", "today", "padded")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cases of one model and batch size, measured by one process.

    mode: whole, lora, talk (replies), load, matmul, launches or attention. seconds: it may take; least: it needs to be
    worth starting.
    """

    shape: str = ""
    mode: str
    batch: int = 0
    seconds: float = 60
    least: float = 20
    variants: tuple[str, ...] = COMPARED

    @property
    def name(self) -> str:
        return f"{self.shape} {self.mode}{f' b{self.batch}' if self.batch else ''}".strip()


# The most important first: what a budget leaves out is at the end.
GROUPS = (
    Group(mode="matmul", seconds=25),
    Group(mode="launches", seconds=30),
    Group(shape="1.5b", mode="lora", batch=8, variants=(*COMPARED, "graph")),
    Group(shape="1.5b", mode="whole", batch=8),
    Group(shape="1.5b", mode="whole", batch=32),
    Group(shape="1.5b", mode="lora", batch=32),
    Group(
        shape="135m", mode="whole", batch=8, seconds=90, variants=(*COMPARED, "graph", "padded128", "padded compiled")
    ),
    Group(shape="135m", mode="talk", seconds=40, least=15),
    Group(shape="1.5b", mode="talk", seconds=40, least=15),
    Group(shape="gpt2", mode="talk", seconds=40, least=15),
    Group(shape="8b", mode="lora", batch=8, seconds=75),
    Group(mode="attention", seconds=60),
    Group(shape="gpt2", mode="whole", batch=8),
    Group(shape="8b", mode="lora", batch=32, seconds=75),
    Group(shape="135m", mode="whole", batch=32),
    Group(shape="gpt2", mode="whole", batch=32),
    Group(shape="8b", mode="load", seconds=50),
    Group(shape="1.5b", mode="lora", batch=32, variants=("padded128", "padded compiled")),
    Group(shape="135m", mode="lora", batch=8),
    Group(shape="gpt2", mode="lora", batch=8),
    Group(shape="135m", mode="lora", batch=32),
    Group(shape="gpt2", mode="lora", batch=32),
)


def config_of(shape: str, tiny: bool) -> PreTrainedConfig:
    """GPT-2 124M, SmolLM2-135M, Qwen2.5-1.5B or Llama 3 8B by their published sizes."""
    gpt2 = {"n_embd": 64, "n_layer": 3, "n_head": 2, "vocab_size": 500} if tiny else {}
    small = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 500,
    }  # fmt: skip
    if shape == "gpt2":
        return GPT2Config(**gpt2)
    if shape == "135m":
        sizes = {
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152,
        }  # fmt: skip
        return LlamaConfig(tie_word_embeddings=True, max_position_embeddings=8192, **(small if tiny else sizes))
    if shape == "1.5b":
        sizes = {
            "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151936,
        }  # fmt: skip
        return Qwen2Config(tie_word_embeddings=True, max_position_embeddings=8192, **(small if tiny else sizes))
    sizes = {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256,
    }  # fmt: skip
    return LlamaConfig(tie_word_embeddings=False, max_position_embeddings=8192, **(small if tiny else sizes))


def sample_like(count: int, vocabulary: int, seed: int = 1) -> list[Example]:
    """Examples of random tokens whose lengths are spread like the sample's: histories of 34 tokens and candidates of 14
    on average, both log-normal, four candidates, none longer than a block of 128 with its history.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        history = int(np.clip(rng.lognormal(3.38, 0.53), 10, BLOCK - 10))
        lengths = np.clip(rng.lognormal(2.43, 0.70, 4), 2, BLOCK - history).astype(int)
        examples.append(
            Example(
                example_id=str(number),
                history=rng.integers(0, vocabulary, history),
                roles=np.zeros(history, np.int64),
                candidates=[rng.integers(0, vocabulary, length) for length in lengths],
            )
        )
    return examples


def run_group(group: Group, device_kind: str, tiny: bool, ends: float) -> Iterator[dict[str, Any]]:
    """Measure a group's cases, one line each; a case that fails is a line as well."""
    torch_device = torch.device(device_kind)
    if group.mode in ("matmul", "attention", "load", "launches"):
        from benchmarks import gpu_parts

        yield from getattr(gpu_parts, group.mode)(torch_device, tiny)
        return
    if group.mode == "talk":
        from benchmarks.gpu_talk import talk

        yield from talk(group.shape, torch_device, tiny)
        return
    rate = matmul_rate(torch_device, 512 if tiny else 8192)
    yield {"group": group.name, "matmul_tflops": round(rate / 1e12, 2)}
    for variant in group.variants:
        case = f"{group.name} {variant}"
        if time.monotonic() + 6 > ends:
            yield {"case": case, "failed": "left out: no time left"}
            continue
        try:
            yield {"case": case} | measure(group, variant, torch_device, tiny, rate)
        except Exception as error:
            yield {"case": case, "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            if not isinstance(error, torch.OutOfMemoryError):
                traceback.print_exc()
        free(torch_device)


def measure(group: Group, variant: str, torch_device: torch.device, tiny: bool, rate: float) -> dict[str, Any]:
    """One case: build, warm up, time."""
    batch, cuda = group.batch, torch_device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    dtype = torch.bfloat16
    device = Device(kind="cuda", torch_device=torch_device, num_devices=1, dtype=dtype, reason="")
    config = config_of(group.shape, tiny)
    began = time.monotonic()
    model = build(config, group.mode, torch_device)
    runtime: Runtime
    if variant in ("new", "graph"):
        runtime = CudaRuntime(device, compiles=variant == "new", records=cuda)
    else:
        runtime = Runtime(device)
    optimizer = runtime.optimizer(model, 0.01, 1.0)
    load_gb = peak_gb(torch_device)
    steps = (TIMED_TINY if tiny else TIMED) + WARM_UP + 2
    examples = sample_like(batch * steps, config.vocab_size)
    if variant.startswith("padded"):
        step = padded_step(model, optimizer, examples, batch, variant, torch_device)
    else:
        step = packed_step(model, runtime, optimizer, examples, batch)
    seconds, card = timed(step, steps, torch_device)
    tokens = sum(map(len, examples)) / steps
    flops = sum(flops_of(example, model, config, group.mode) for example in examples) / steps
    return {
        "examples/s": round(batch / seconds, 1),
        "tokens/s": round(tokens / seconds),
        "mfu": round(flops / seconds / rate, 4),
        "step_ms": round(1e3 * seconds, 2),
        "card_ms": round(1e3 * card, 2),
        "tflop_per_step": round(flops / 1e12, 3),
        "load_gb": load_gb,
        "peak_gb": peak_gb(torch_device),
        "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2) if cuda else 0.0,
        "ready_s": round(time.monotonic() - began - seconds * (steps - WARM_UP - 1), 1),
        "recordings": runtime.compilations(),
    }


def build(config: PreTrainedConfig, mode: str, torch_device: torch.device) -> DoubleHeads:
    """Random weights made on the device: in float32, those that stay frozen in bf16 at once."""
    dtype = torch.bfloat16 if mode == "lora" else torch.float32
    with torch_device:
        lm = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model = DoubleHeads(lm, torch.Generator().manual_seed(0)).train()
    if mode == "lora":
        add_adapters(model, RANK, 0)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    return model.to(torch_device)


def packed_step(
    model: DoubleHeads, runtime: Runtime, optimizer: Any, examples: Sequence[Example], batch: int
) -> Callable[[], Any]:
    """The loop's own step, with its own packing in a thread beside it."""
    plan = Plan.training(examples, batch_size=batch, pack_width=runtime.pack_width, seed=1)
    parallel = Parallel(model, ALONE)

    def one_update(parts: Any, learning_rate: Any, counts: Any) -> Any:
        return train_step(parallel, optimizer, parts, W_LM, W_MC, learning_rate, counts)

    update = runtime.recording(one_update, model)
    batches = ahead(lambda step: [runtime.place_batch(part) for part in plan.parts(step)], range(len(plan.steps)))

    def step() -> Any:
        number, parts = next(batches)
        runtime.seed(number)
        return update(parts, RATE, None)

    return step


def padded_step(
    model: DoubleHeads,
    optimizer: Any,
    examples: Sequence[Example],
    batch: int,
    variant: str,
    torch_device: torch.device,
) -> Callable[[], Any]:
    """A Trainer's step: rows made ready beforehand, so that collating costs it nothing here."""
    fixed = BLOCK if variant != "padded" else None
    ready = iter([padded.pinned() for padded in padded_batches(examples, batch, fixed)])
    losses: Callable[[DoubleHeads, PaddedBatch], Any] = padded_losses
    model.lm.set_attn_implementation("sdpa")
    if variant == "padded compiled":
        for layer in decoder_layers(model.lm):
            layer.compile(dynamic=False)

    def step() -> Any:
        loss = losses(model, next(ready).to(torch_device))
        loss.backward()
        return optimizer.step(RATE)

    return step


def timed(step: Callable[[], Any], steps: int, torch_device: torch.device) -> tuple[float, float]:
    """Seconds per step: the mean by the clock, and the median between the card's events, after a warm-up that includes
    the recording. Few steps are timed, so the mean of padded ones holds what each new width costs once."""
    cuda = torch_device.type == "cuda"
    for _ in range(WARM_UP + 2):
        step()
    synchronize(torch_device)
    count = steps - WARM_UP - 2
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)] if cuda else []
    began = time.perf_counter()
    for number in range(count):
        if cuda:
            events[number].record()
        step()
    if cuda:
        events[count].record()
    synchronize(torch_device)
    seconds = (time.perf_counter() - began) / count
    spans = [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]
    return seconds, statistics.median(spans) if spans else seconds


def flops_of(example: Example, model: DoubleHeads, config: PreTrainedConfig, mode: str) -> float:
    """Operations that one example needs, forward and backward (Chowdhery et al. 2022, appendix B, of attention)."""
    head = model.lm.get_output_embeddings().weight.numel()
    matrices = [weight for layer in decoder_layers(model.lm) for weight in layer.parameters() if weight.ndim > 1]
    trained = sum(weight.numel() for weight in matrices if weight.requires_grad)
    frozen = sum(weight.numel() for weight in matrices) - trained
    history, candidates = len(example.history), [len(ids) for ids in example.candidates]
    pairs = history * (history + 1) / 2 + sum(n * history + n * (n + 1) / 2 for n in candidates)
    width = config.num_hidden_layers * config.hidden_size
    per_head = 6 if mode == "whole" else 4
    return len(example) * (6 * trained + 4 * frozen) + per_head * candidates[-1] * head + 12 * width * pairs


def matmul_rate(torch_device: torch.device, size: int) -> float:
    """Operations per second of one large bf16 matrix product, the median of ten."""
    left, right = (torch.randn(size, size, device=torch_device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for number in range(13):
        synchronize(torch_device)
        began = time.perf_counter()
        for _ in range(3):
            left @ right
        synchronize(torch_device)
        times += [(time.perf_counter() - began) / 3] if number >= 3 else []
    return 2 * size**3 / statistics.median(times)


def synchronize(torch_device: torch.device) -> None:
    """Wait for the card."""
    if torch_device.type == "cuda":
        torch.cuda.synchronize()


def peak_gb(torch_device: torch.device) -> float:
    """Most memory that tensors have had on the card, in GB (10^9 bytes)."""
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch_device.type == "cuda" else 0.0


def free(torch_device: torch.device) -> None:
    """Give everything back before the next case."""
    gc.collect()
    torch._dynamo.reset()
    gc.collect()
    if torch_device.type == "cuda":
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
