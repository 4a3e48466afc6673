"""The device is the machine's, not a parameter: JAEGPT_DEVICE=auto|cpu|cuda|mps|xla, chosen with a printed reason.

So is whether two runs on one GPU give the same bytes: JAEGPT_DETERMINISTIC=1.
"""

import jaegpt.environment  # noqa: F401

import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from jaegpt.errors import JaegptError
from jaegpt.training.distributed import ALONE, Processes, join_processes
from jaegpt.training.precision import Precision

PCI_DEVICES = Path("/sys/bus/pci/devices")
GOOGLE = "0x1ae0"  # a PCI vendor; its network cards and disks have other device ids than its TPUs
TPU_CHIPS = ("0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")  # v2 and v3, v4, v5p, v5e, v6e, v7x


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how the run computes; `reason` says why, in words for the user.

    num_devices: over all processes.
    """

    kind: Literal["cpu", "cuda", "mps", "xla"]
    torch_device: torch.device
    num_devices: int
    dtype: torch.dtype
    reason: str
    processes: Processes = ALONE

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return _name(self.dtype)


def choose_device(precision: Precision, eager: bool = False) -> Device:
    """The device named by JAEGPT_DEVICE, or the best one here.

    Args:
        eager: for generation and the like, whose shapes change from call to call: XLA would compile each of them, so a
            GPU or the CPU takes its place.

    Raises:
        JaegptError: an unknown name, or a device this machine or installation does not have.
    """
    device = _choose(precision, eager)
    if not deterministic():
        return device
    # An operation that has no deterministic form raises an error that names it; nothing is computed in another way.
    torch.use_deterministic_algorithms(True)
    return replace(device, reason=f"{device.reason}; deterministic, as JAEGPT_DETERMINISTIC asks")


def deterministic() -> bool:
    """Whether JAEGPT_DETERMINISTIC asks for the same bytes from the same run on the same device.

    Raises:
        JaegptError: it is neither 0 nor 1.
    """
    text = os.environ.get("JAEGPT_DETERMINISTIC", "")
    if text not in ("", "0", "1"):
        raise JaegptError(f"JAEGPT_DETERMINISTIC must be 0 or 1, found {text!r}.")
    return text == "1"


def _choose(precision: Precision, eager: bool) -> Device:
    wanted = os.environ.get("JAEGPT_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda", "mps", "xla"):
        raise JaegptError(f"JAEGPT_DEVICE must be auto, cpu, cuda, mps or xla, found {wanted!r}.")
    chips = num_tpu_chips() if wanted in ("auto", "xla") else 0
    has_xla = importlib.util.find_spec("torch_xla") is not None
    xla = wanted == "xla" or (wanted == "auto" and chips and has_xla)
    if xla:
        kind = _xla_kind(chips, has_xla)
        if not eager:
            return _xla(precision, chips, kind)
    if wanted == "cuda" or (wanted in ("auto", "xla") and torch.cuda.is_available()):
        return _cuda(precision)
    if wanted == "mps" or (wanted in ("auto", "xla") and torch.backends.mps.is_available()):
        return _mps(precision)
    if xla:
        return _cpu(precision, "in place of XLA, which would compile a program for each reply's shapes")
    unused = "a TPU is here, but the package torch_xla is not" if chips else "no accelerator found"
    return _cpu(precision, "asked for by JAEGPT_DEVICE" if wanted == "cpu" else unused)


def num_tpu_chips() -> int:
    """TPU chips on this machine's PCI bus. torch_xla looks for the same, but takes seconds to be imported."""
    found = 0
    for vendor in PCI_DEVICES.glob("*/vendor"):
        if vendor.read_text().strip() == GOOGLE:
            found += (vendor.parent / "device").read_text().strip() in TPU_CHIPS
    return found


def peak_memory_mb() -> float | None:
    """Most resident memory this process has had, in MB (10^6 bytes); on a CUDA GPU the most it has had there.

    None where the system does not say (Windows).
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:
        return None
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
    if dtype == torch.float32:
        why = f"{why}; TF32 {'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}"
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


def _mps(precision: Precision) -> Device:
    if not torch.backends.mps.is_available():
        raise JaegptError("JAEGPT_DEVICE=mps: torch sees no Apple GPU here. Use JAEGPT_DEVICE=cpu, or auto.")
    if precision == "auto":
        dtype, why = torch.float32, "nobody has measured bf16 here"
    else:
        dtype, why = _asked(precision)
    return Device(
        kind="mps",
        torch_device=torch.device("mps"),
        num_devices=1,
        dtype=dtype,
        reason=f"Apple GPU (mps); {_name(dtype)}: {why}",
    )


def _xla_kind(chips: int, has_xla: bool) -> str:
    """What XLA runs on, as PJRT_DEVICE names it."""
    if not has_xla:
        raise JaegptError(
            "JAEGPT_DEVICE=xla: the package torch_xla is not installed (there is one for Linux on x86-64 only). "
            "Use JAEGPT_DEVICE=cpu, or auto."
        )
    kind = os.environ.get("PJRT_DEVICE") or ("TPU" if chips else None)
    if kind is None:
        raise JaegptError(
            "JAEGPT_DEVICE=xla: no TPU chip on this machine. Use JAEGPT_DEVICE=cpu, or set PJRT_DEVICE=CPU as well to "
            "run XLA on the CPU, which is slow."
        )
    if kind == "TPU" and not chips:
        raise JaegptError("PJRT_DEVICE=TPU: no TPU chip on this machine. Unset it, or use JAEGPT_DEVICE=cpu.")
    if kind == "TPU" and not os.environ.get("TPU_LIBRARY_PATH") and importlib.util.find_spec("libtpu") is None:
        raise JaegptError("JAEGPT_DEVICE=xla: the package libtpu, which drives the TPU, is not here. Run `make tpu`.")
    return kind


def _xla(precision: Precision, chips: int, kind: str) -> Device:
    os.environ["PJRT_DEVICE"] = kind  # torch_xla reads it when it is imported
    torch_device, num_devices = open_devices()
    if precision == "auto":
        dtype = torch.bfloat16 if kind == "TPU" else torch.float32
        why = "TPUs multiply bf16" if kind == "TPU" else "XLA on a CPU has nothing to gain from bf16"
    else:
        dtype, why = _asked(precision)
    place = f"{chips} TPU chips" if kind == "TPU" else f"PJRT_DEVICE={kind}, no TPU used"
    return Device(
        kind="xla",
        torch_device=torch_device,
        num_devices=num_devices,
        dtype=dtype,
        reason=f"XLA ({place}), batch rows over {num_devices:,} devices; {_name(dtype)}: {why}",
    )


def open_devices() -> tuple[torch.device, int]:
    """The one virtual device behind which SPMD hides all of XLA's real ones, and how many those are."""
    # Only here, where XLA was chosen: torch_xla takes over the process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # only errors from the compiler
    import torch_xla
    import torch_xla.runtime as xla_runtime

    if not xla_runtime.is_spmd():
        xla_runtime.use_spmd()
    return torch_xla.device(), xla_runtime.global_runtime_device_count()


def _name(dtype: torch.dtype) -> str:
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def _asked(precision: Precision) -> tuple[torch.dtype, str]:
    return (torch.bfloat16 if precision == "bf16" else torch.float32), "asked for by train.precision"
