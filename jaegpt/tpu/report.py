"""Does this run fit a TPU slice, and how fast could it be there? Asked of the real TPU compiler, before paying for one.

The very training step of the run is lowered for as many devices as the slice has and compiled by libtpu, which needs no
TPU for that. Each slice gives one entry of metrics/tpu.json.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 1800  # for one process; the default model takes two minutes on two busy cores


@dataclass(frozen=True, kw_only=True)
class TpuConfig:
    """Section `tpu` of params.yaml.

    topologies: slices, as GENERATION:CHIPSxCHIPS, such as v5e:2x2.
    """

    topologies: list[str]

    def __post_init__(self) -> None:
        if len(set(self.topologies)) < max(1, len(self.topologies)):
            raise ValueError(f"topologies must name at least one slice, and none twice, found {self.topologies}.")


@dataclass(frozen=True)
class Chip:
    """Published figures of a chip: bf16 operations per second at its peak, bytes per second to and from its memory."""

    flops: float
    bandwidth: float


# Google Cloud, "TPU system architecture", the pages of the versions (cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e);
# v2: Jouppi et al. 2020, "A domain-specific supercomputer for training deep neural networks".
CHIPS = {
    "v2": Chip(46e12, 700e9),
    "v3": Chip(123e12, 900e9),
    "v4": Chip(275e12, 1200e9),
    "v5e": Chip(197e12, 819e9),
    "v5p": Chip(459e12, 2765e9),
    "v6e": Chip(918e12, 1638e9),
}
# Per device and step. `compiles` and, where there are no figures, `message` stand beside them.
FOUND = ("devices", "hbm_needed_bytes", "hbm_available_bytes", "flops", "bytes_accessed")


def why_not() -> str | None:
    """Why no report can be made here, or None."""
    missing = [name for name in ("torch_xla", "jax", "libtpu") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"not installed: {', '.join(missing)}. Run `make tpu`, then `dvc repro -f tpu_report`."


def tpu_report(
    topologies: Sequence[str], settings: Mapping[str, Any], num_examples: int, scratch: Path
) -> dict[str, dict[str, Any]]:
    """One entry for each slice, with the keys of metrics/tpu.json.

    Args:
        settings: of the run, as `tpu_lower` takes them.
        num_examples: of one epoch.
        scratch: a folder for the lowered programs.
    """
    # Imported here, because the second loads torch, which takes seconds, and most machines have nothing to ask.
    from jaegpt.tpu import compile as tpu_compile
    from jaegpt.tpu import lower as tpu_lower

    report = {}
    for name in topologies:
        described = _ask(tpu_compile, name)  # alone: on some errors the compiler ends its whole process
        found = dict(described.get(name, described))
        if "message" not in found:
            program = scratch / f"{found['devices']}.mlir"
            if not program.exists():
                number = {"CPU_NUM_DEVICES": str(found["devices"]), "PJRT_DEVICE": "CPU"}
                found |= _ask(tpu_lower, json.dumps(settings), str(program), **number)
            if program.exists():
                found |= _ask(tpu_compile, name, str(program))
        report[name] = entry(name, found, settings["train"]["batch_size"], num_examples)
    return report


def entry(name: str, found: Mapping[str, Any], batch_size: int, num_examples: int) -> dict[str, Any]:
    """The figures of one slice; null where there are none, and then `message` says why.

    Examples per second and minutes per epoch are at the roofline, so they are bounds.
    """
    compiles = "flops" in found
    generation, _, sides = name.partition(":")
    step_s = None
    if compiles and generation in CHIPS:
        num_chips = math.prod(int(side) for side in sides.split("x"))
        step_s = roofline_step_s(
            found["flops"], found["bytes_accessed"], CHIPS[generation], found["devices"] // num_chips
        )
    return {
        "compiles": compiles,
        **({} if compiles else {"message": found.get("message", "the compiler gave no answer")}),
        **{key: found.get(key) for key in FOUND},
        "roofline_step_s": step_s,
        "examples_per_second": batch_size / step_s if step_s else None,
        "minutes_per_epoch": -(-num_examples // batch_size) * step_s / 60 if step_s else None,
    }


def in_words(entry: Mapping[str, Any]) -> str:
    """What the compiler said of one slice, on a line."""
    if not entry["compiles"]:
        return f"does not compile: {entry['message']}"
    needed, available = entry["hbm_needed_bytes"], entry["hbm_available_bytes"]
    memory = f"{needed / 1e9:.2f} GB of memory per device" + (f" of {available / 1e9:.2f}" if available else "")
    step_s = entry["roofline_step_s"]
    return f"compiles; {memory}" + (f"; a step of at least {1000 * step_s:.1f} ms" if step_s else "")


def skipped(topologies: Sequence[str], reason: str) -> dict[str, dict[str, Any]]:
    """The entries where nothing could be asked: neither true nor false."""
    return {name: entry(name, {"message": reason}, 1, 0) | {"compiles": None} for name in topologies}


def roofline_step_s(flops: float, bytes_accessed: float, chip: Chip, cores: int = 1) -> float:
    """Least time (s) of a step on one device, by Williams, Waterman and Patterson 2009: its operations at the peak
    rate, or its bytes at full bandwidth, whichever takes longer. `cores` devices share a chip.

    It leaves out traffic between chips and the work of the host.
    """
    return cores * max(flops / chip.flops, bytes_accessed / chip.bandwidth)


def _ask(module: Any, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run a module of this package; the JSON object it printed last, or a message when it failed.

    libtpu ends the whole process on some errors, which is an answer as well.
    """
    name = module.__spec__.name
    # The path is handed on: a stage is found from the folder it runs in, which need not be the installed one.
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", name, *arguments],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return {"message": f"{name} took longer than {LIMIT_S} s"}
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        return {"message": f"{name}: {said[-1][:500]} (exit code {done.returncode})"}
    lines = done.stdout.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}
