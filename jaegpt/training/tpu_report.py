"""Does this run compile for a TPU slice, does it fit, how fast can it be? The real TPU compiler says, without a TPU."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 1200  # for one compilation; the default model takes two minutes on two busy cores


@dataclass(frozen=True, kw_only=True)
class TpuConfig:
    """Section `tpu` of params.yaml.

    topologies: slices, as GENERATION:CHIPSxCHIPS, such as v5e:2x2.
    """

    topologies: list[str]

    def __post_init__(self) -> None:
        for name in self.topologies:
            if not re.fullmatch(rf"({'|'.join(CHIPS)}):\d+(x\d+)+", name):
                raise ValueError(f"topologies: {name!r} is no slice of {', '.join(CHIPS)}. Give one like v5e:2x2.")


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What one device (a core of v2 and v3, else a chip) can do at most.

    flops: bf16 operations a second. bandwidth: bytes a second between the device and its memory. hbm: bytes of that.
    Source: Google Cloud's TPU documentation, the system architecture pages of each generation.
    """

    flops: float
    bandwidth: float
    hbm: int


CHIPS = {
    "v2": Chip(flops=22.5e12, bandwidth=350e9, hbm=8 * 2**30),
    "v3": Chip(flops=61.5e12, bandwidth=450e9, hbm=16 * 2**30),
    "v4": Chip(flops=275e12, bandwidth=1200e9, hbm=32 * 2**30),
    "v5e": Chip(flops=197e12, bandwidth=800e9, hbm=16 * 2**30),
    "v5p": Chip(flops=459e12, bandwidth=2765e9, hbm=95 * 2**30),
    "v6e": Chip(flops=918e12, bandwidth=1600e9, hbm=32 * 2**30),
}


def missing_packages() -> list[str]:
    """Of the packages that the compiler needs, those that are not installed."""
    return [name for name in ("torch_xla", "jax", "libtpu") if importlib.util.find_spec(name) is None]


def tpu_report(
    topologies: Sequence[str], settings: Mapping[str, Any], num_examples: int, scratch: Path
) -> dict[str, dict[str, Any]]:
    """One entry for each slice, with the keys of metrics/tpu.json.

    Args:
        settings: of the run, as `tpu_lower` takes them.
        num_examples: of one epoch.
        scratch: a folder for the lowered programs.
    """
    report = {}
    for name in topologies:
        generation, shape = name.split(":")
        num_devices = _num_devices(generation, shape)
        program = scratch / f"{num_devices}.mlir"
        if not program.exists():
            found = _call("tpu_lower", json.dumps(settings), program, CPU_NUM_DEVICES=num_devices, PJRT_DEVICE="CPU")
        if program.exists():
            found = _call("tpu_compile", name, program)
        report[name] = entry(found, CHIPS[generation], num_devices, settings["train"]["batch_size"], num_examples)
    return report


def entry(found: Mapping[str, Any], chip: Chip, num_devices: int, batch_size: int, num_examples: int) -> dict[str, Any]:
    """What the compiler found, against the chip: bytes, operations and bytes accessed are those of one device, a step.

    A step takes at least as long as its operations at the chip's peak, and as its bytes at the memory's bandwidth: the
    roofline (Williams, Waterman and Patterson 2009). Examples a second and minutes an epoch are at that bound.
    """
    if "message" in found:
        return {"compiles": False, "message": found["message"], "devices": num_devices}
    # Results take the place of arguments: the run gives weights and moments away as it gets the new ones.
    needed = found["argument_bytes"] + found["temporary_bytes"] + found["code_bytes"]
    seconds = max(found["flops"] / chip.flops, found["bytes_accessed"] / chip.bandwidth)
    return {
        "compiles": True,
        "devices": found["devices"],
        "hbm_needed_bytes": needed,
        "hbm_available_bytes": chip.hbm,
        "flops": found["flops"],
        "bytes_accessed": found["bytes_accessed"],
        "roofline_step_s": seconds,
        "examples_per_second": batch_size / seconds,
        "minutes_per_epoch": num_examples / (batch_size / seconds) / 60,
    }


def _num_devices(generation: str, shape: str) -> int:
    chips = 1
    for side in shape.split("x"):
        chips *= int(side)
    return chips * 2 if generation in ("v2", "v3") else chips  # two cores a chip, each a device


def _call(module: str, *arguments: Any, **environment: Any) -> dict[str, Any]:
    """Run a module of this package; the JSON object it printed last, or a message when it failed."""
    command = [sys.executable, "-m", f"jaegpt.training.{module}", *map(str, arguments)]
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"message": f"{module} took longer than {LIMIT_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0:
        return dict(json.loads(lines[-1])) if lines else {}
    errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"message": f"{module}: {errors[-1][:500]}"}
