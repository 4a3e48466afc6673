"""Parts of a training step on their own: the card's matrix rate and bandwidth, and the ways to compute attention."""

import jaegpt.environment  # noqa: F401

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from benchmarks.gpu_cases import RANK, W_LM, W_MC, config_of, free, matmul_rate, peak_gb, sample_like, synchronize
from benchmarks.gpu_padded import padded_batches, padded_losses
from jaegpt.generation.decoding import GrowingRows, read_prompts
from jaegpt.generation.prompts import Prompt
from jaegpt.training.attention import block_mask, segment_attention, segments_of
from jaegpt.training.cuda import ROW_TOKENS, CudaRuntime, to_device
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.lora import add_adapters
from jaegpt.training.packing import Plan
from jaegpt.training.runtime import Runtime

CPU = torch.device("cpu")
# heads, heads of keys and values, size of a head
HEADS = {"1.5b": (12, 2, 128), "135m": (9, 3, 64), "8b": (32, 8, 128), "gpt2": (12, 12, 64)}


def matmul(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """The rate of bf16 products of several sizes, of a batch's own, and the bandwidth of a copy."""
    for size in (256,) if tiny else (4096, 8192):
        yield {"case": f"matmul {size}", "tflops": round(matmul_rate(device, size) / 1e12, 1)}
    for tokens in (16,) if tiny else (704, 768, 2816, 3072):
        for inner, outer in ((64, 96),) if tiny else ((1536, 8960), (4096, 14336), (576, 1536)):
            left = torch.randn(tokens, inner, device=device, dtype=torch.bfloat16)
            right = torch.randn(inner, outer, device=device, dtype=torch.bfloat16)
            seconds = median(partial(torch.mm, left, right), device)
            rate = 2 * tokens * inner * outer / seconds / 1e12
            yield {"case": f"matmul {tokens} x {inner} x {outer}", "tflops": round(rate, 1)}
    source = torch.randn(10**6 if tiny else 10**9, device=device)
    target = torch.empty_like(source)
    seconds = median(lambda: target.copy_(source), device)
    yield {"case": "copy", "tb_per_s": round(8 * source.numel() / seconds / 1e12, 3)}


def load(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Most memory on the card while a model under LoRA is brought there, frozen weights rounded there or before."""
    config = config_of("8b", tiny)
    for variant, kind in (("new", CudaRuntime), ("today", Runtime)):
        with torch.device("meta"):
            lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model = DoubleHeads(lm.to_empty(device="cpu"), torch.Generator().manual_seed(0))
        add_adapters(model, RANK, 0)
        synchronize(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        kind(Device(kind="cuda", torch_device=device, num_devices=1, dtype=torch.bfloat16, reason="")).optimizer(
            model, 0.0, 1.0
        )
        synchronize(device)
        seconds = time.perf_counter() - began
        yield {"case": f"8b lora load {variant}", "load_gb": peak_gb(device), "ready_s": round(seconds, 1)}
        del lm, model
        free(device)


def launches(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Operations that make or change values: what a host launches one by one.

    `packed` and `padded`: forward and backward of a training step. `token`: of one more token of one reply, without its
    draw. They are counted on the CPU, as many layers of small widths, which changes no number. The update adds one
    kernel per weight; the recorded step, update included, is launched as one, and so is the recorded token.
    """
    for shape in HEADS:
        small = config_of(shape, True)
        layers = {"num_hidden_layers": config_of(shape, tiny).num_hidden_layers, "layer_types": None}
        config = type(small)(**(small.to_dict() | layers))
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model = DoubleHeads(lm, torch.Generator().manual_seed(0)).train()
        examples = sample_like(8, config.vocab_size)
        (packed,) = Plan.training(examples, batch_size=8, pack_width=ROW_TOKENS, seed=1).parts(0)
        with Launched() as launched:
            model(to_device(packed, CPU), W_LM, W_MC).weighted(W_LM, W_MC).backward()
        found = launched.count
        (rows,) = padded_batches(examples, 8, None)
        lm.set_attn_implementation("sdpa")
        with Launched() as launched:
            padded_losses(model, rows).backward()
        line = {"case": f"launches {shape} b8", "packed": found, "padded": launched.count, "recorded": 1}
        with torch.inference_mode():
            read = read_prompts(model.eval(), [Prompt(ids=[1] * 20, roles=[0] * 20)])
            reply = GrowingRows(model, read, torch.zeros(1, dtype=torch.long))
            with Launched() as launched:
                reply.step(torch.ones(1, dtype=torch.long))
        yield line | {"token": launched.count}


class Launched(TorchDispatchMode):
    """Counts operations that are no view of their input."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and "detach" not in str(func)
        return func(*args, **(kwargs or {}))


def attention(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Milliseconds of one layer's attention, forward and backward, of one batch of 8 and of 32 examples."""
    for shape, (heads, shared, size) in HEADS.items():
        for batch, pack_width in ((8, 0),) if tiny else ((8, 0), (8, 384), (32, 768), (32, 384)):
            plan = Plan.training(sample_like(batch * 12, 500), batch_size=batch, pack_width=pack_width, seed=1)
            (packed,) = plan.parts(0)
            placed = to_device(packed, device)
            rows, width = packed.ids.shape
            query, key, value = (
                torch.randn(rows, count, width, size, device=device, dtype=torch.bfloat16, requires_grad=True)
                for count in (heads, shared, shared)
            )
            line: dict[str, Any] = {"case": f"attention {shape} b{batch} {rows} x {width}"}
            flexible = device.type == "cuda" and shape in ("1.5b", "135m") and pack_width in (0, 768)
            for name, run in ways(packed, placed, device, heads // shared, flexible).items():
                try:
                    line[name + "_ms"] = round(1e3 * forward_backward(run, query, key, value, device), 4)
                except Exception as error:
                    line[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            yield line


def ways(
    packed: Any, placed: Any, device: torch.device, group: int, flexible: bool
) -> dict[str, Callable[..., Tensor]]:
    """Each a function of query, key, value [rows, heads, width, size]."""
    mask = block_mask(placed.example, placed.candidate, torch.bfloat16)
    segments = segments_of(packed, torch.bfloat16, device)
    module = torch.nn.Module()

    def dense(*backends: SDPBackend) -> Callable[..., Tensor]:
        def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            key, value = (states.repeat_interleave(group, 1) for states in (key, value))
            with sdpa_kernel(list(backends)):
                return scaled_dot_product_attention(query, key, value, attn_mask=mask)

        return run

    def lined_up(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return segment_attention(module, query, key, value, None, segments)[0]

    found = {
        "lined_up": lined_up,
        "efficient": dense(SDPBackend.EFFICIENT_ATTENTION),
        "cudnn": dense(SDPBackend.CUDNN_ATTENTION),
        "math": dense(SDPBackend.MATH),
    }
    if flexible:
        found["flex"] = flex(placed, group)
    return found


def flex(placed: Any, group: int) -> Callable[..., Tensor]:
    """FlexAttention with the packing's block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    example, candidate = placed.example, placed.candidate

    def visible(row: Tensor, head: Tensor, at: Tensor, seen: Tensor) -> Tensor:
        own = (candidate[row, seen] == 0) | (candidate[row, seen] == candidate[row, at])
        return (at >= seen) & (example[row, at] == example[row, seen]) & own

    rows, width = example.shape
    mask = create_block_mask(visible, rows, None, width, width, device=example.device)
    attend = torch.compile(flex_attention, dynamic=False)
    return lambda query, key, value: attend(query, key, value, block_mask=mask, enable_gqa=group > 1)


def forward_backward(
    run: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, device: torch.device
) -> float:
    """Seconds of both, by replays of a recording where the device has such."""
    gradient = torch.randn_like(run(query, key, value))

    def both() -> None:
        torch.autograd.grad(run(query, key, value), (query, key, value), gradient)

    for _ in range(3):
        both()
    if device.type != "cuda":
        return median(both, device)
    synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        both()
    return median(graph.replay, device)


def median(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the median of ten blocks of ten."""
    times = []
    for _ in range(11):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(10):
            run()
        synchronize(device)
        times.append((time.perf_counter() - began) / 10)
    return statistics.median(times[1:])
