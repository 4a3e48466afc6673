"""The training step of a run as StableHLO, for a slice of so many TPU devices; neither a TPU nor weights are needed.

Run by `tpu_report` in a process of its own, since the number of devices is settled when torch_xla is imported:
CPU_NUM_DEVICES=4 python -m jaegpt.tpu.lower SETTINGS OUT (SETTINGS: JSON, see `main`).
"""

import jaegpt.environment  # noqa: F401

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from jaegpt.tables import read_table
from jaegpt.training.config import Task
from jaegpt.training.devices import Device, open_devices
from jaegpt.training.distributed import ALONE, Parallel
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.loop import counts_of, train_step
from jaegpt.training.lora import add_adapters
from jaegpt.training.packing import examples_from_table, segments_from_table

LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM = 1e-4, 0.01, 1.0


def main() -> None:
    """SETTINGS: base_model, tokens and segments (folders; segments is empty where replies are learned), seed,
    block_size, train (of the section, what stage tpu_report reads).

    Both losses have weight. The optimizer's numbers are constants in the program that change neither its memory nor its
    time, so any will do.
    """
    # Imported here, because `tpu_report` imports this module, and torch_xla would take over its process.
    import torch_xla.core.xla_model as xm
    from transformers import AutoConfig, AutoModelForCausalLM

    from jaegpt.training import xla

    settings = json.loads(sys.argv[1])
    config: Any = SimpleNamespace(**settings["train"])
    torch_device, num_devices = open_devices()
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    device = Device(kind="xla", torch_device=torch_device, num_devices=num_devices, dtype=dtype, reason="")
    examples = examples_from_table(read_table(settings["tokens"], "tokens"), "train", settings["block_size"])
    segments = segments_from_table(read_table(settings["segments"], "segments")) if settings["segments"] else None
    task = Task(w_lm=1, w_mc=1, seed=settings["seed"], train=examples, valid=[], segments=segments)
    shares = config.accumulation * num_devices
    plan = task.plan(config, pack_width=config.pack_width, num_parts=config.accumulation, row_shares=shares)
    runtime = xla.XlaRuntime(device)
    parts = [runtime.place_batch(part) for part in plan.parts(0)]
    members = plan.members(0)
    counts = None
    if config.accumulation > 1 or task.counts_given(config):
        counts = counts_of(members, task.num_choices(config, members), torch_device)

    with torch.device("meta"):  # shapes without data
        described = AutoConfig.from_pretrained(settings["base_model"], local_files_only=True, trust_remote_code=False)
        lm = AutoModelForCausalLM.from_config(described, trust_remote_code=False, dtype=torch.float32)
    model = DoubleHeads(lm, torch.Generator().manual_seed(0), config.token_types).train()
    if config.lora_rank:
        add_adapters(model, config.lora_rank, settings["seed"])
    optimizer = xla.XlaAdamW(model, dtype, WEIGHT_DECAY, MAX_GRAD_NORM, _placeholder)
    parallel = Parallel(model, ALONE)
    results = train_step(parallel, optimizer, parts, 1.0, 1.0, LEARNING_RATE, counts)
    moved = [
        weight for weight, master in zip(optimizer.weights, optimizer.masters, strict=True) if weight is not master
    ]
    moments = [value for master in optimizer.masters for value in optimizer.adamw.state[master].values()]
    Path(sys.argv[2]).write_text(xm.get_stablehlo([*results, *optimizer.masters, *moved, *moments]), encoding="utf-8")


def _placeholder(tensor: Tensor) -> Tensor:
    import torch_xla.core.xla_builder as xla_builder

    placed: Tensor = xla_builder.create_placeholder_tensor(tensor.shape, tensor.dtype)
    return placed


if __name__ == "__main__":
    main()
