"""The device is the machine's, not a parameter: JAEGPT_DEVICE=auto|cpu|cuda|xla, chosen with a printed reason."""

import os
import resource
import sys
from dataclasses import dataclass
from typing import Literal

import torch

from jaegpt.errors import JaegptError
from jaegpt.training.distributed import ALONE, Processes, join_processes

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how the run computes; `reason` says why, in words for the user.

    num_devices: over all processes.
    """

    kind: Literal["cpu", "cuda", "xla"]
    torch_device: torch.device
    num_devices: int
    dtype: torch.dtype
    reason: str
    processes: Processes = ALONE

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return _name(self.dtype)


def choose_device(precision: Precision) -> Device:
    """The device named by JAEGPT_DEVICE, or the best one here.

    Raises:
        JaegptError: an unknown name, or a device this machine or installation does not have.
    """
    wanted = os.environ.get("JAEGPT_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda", "xla"):
        raise JaegptError(f"JAEGPT_DEVICE must be auto, cpu, cuda or xla, found {wanted!r}.")
    if wanted == "xla" or (wanted == "auto" and os.environ.get("PJRT_DEVICE") == "TPU"):
        raise JaegptError("JAEGPT_DEVICE=xla: training on XLA is not built yet. Use cpu or cuda.")
    if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()):
        return _cuda(precision)
    return _cpu(precision, "asked for by JAEGPT_DEVICE" if wanted == "cpu" else "no accelerator found")


def peak_memory_mb() -> float:
    """Most resident memory this process has had, in MB (10^6 bytes); on a GPU the most it has had there."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # kilobytes on Linux, bytes on macOS


def _cpu(precision: Precision, reason: str) -> Device:
    native = torch.backends.mkldnn.is_available() and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )
    if precision == "auto":
        dtype = torch.bfloat16 if native else torch.float32
        why = "this CPU multiplies bf16 natively" if native else "this CPU has no native bf16"
    else:
        dtype, why = _asked(precision)
    processes = join_processes("gloo")
    return Device(
        kind="cpu",
        torch_device=torch.device("cpu"),
        num_devices=processes.count,
        dtype=dtype,
        reason=f"CPU ({reason}), {torch.get_num_threads()} threads; {_name(dtype)}: {why}",
        processes=processes,
    )


def _cuda(precision: Precision) -> Device:
    if not torch.cuda.is_available():
        raise JaegptError("JAEGPT_DEVICE=cuda: torch sees no CUDA GPU here. Use JAEGPT_DEVICE=cpu, or auto.")
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        dtype = torch.bfloat16 if native else torch.float32
        why = "this GPU multiplies bf16 natively" if native else "this GPU has no native bf16"
    else:
        dtype, why = _asked(precision)
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun's: this process's GPU on this machine
    processes = join_processes("nccl")
    return Device(
        kind="cuda",
        torch_device=torch.device("cuda", torch.cuda.current_device()),
        num_devices=processes.count,
        dtype=dtype,
        reason=f"GPU ({processes.count} x {torch.cuda.get_device_name()}); {_name(dtype)}: {why}",
        processes=processes,
    )


def _name(dtype: torch.dtype) -> str:
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def _asked(precision: Precision) -> tuple[torch.dtype, str]:
    return (torch.bfloat16 if precision == "bf16" else torch.float32), "asked for by train.precision"
