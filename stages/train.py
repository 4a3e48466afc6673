"""Tokens + base model -> fine-tuned model. Run: python -m stages.train"""

import dataclasses
from pathlib import Path

from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.files import write_csv, write_json, writing_folder
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.checkpoints import Scratch, run_key
from jaegpt.training.config import Learn, Task, TrainConfig
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.four_bits import check_bits
from jaegpt.training.limits import check_block
from jaegpt.training.loop import GRADIENT_COLUMNS, TRAIN_COLUMNS, VALID_COLUMNS, Log, train
from jaegpt.training.memory import Load, described, memory_lines
from jaegpt.training.model_card import model_card, speed
from jaegpt.training.model_folder import load_base, load_lm, save_model
from jaegpt.training.packing import examples_from_table, segments_from_table
from jaegpt.training.progress import note


def main() -> None:
    params = Params()
    device = choose_device(params.section("train", TrainConfig).precision)
    if device.processes.rank:  # of several processes, the first one writes
        run_training(params, device, None)
        return
    # Open before the work, so that a second training on this folder is refused now, and not after an hour.
    with writing_folder("models/jaegpt") as folder:
        log, scratch = run_training(params, device, folder)
    write_csv("plots/train.csv", TRAIN_COLUMNS, log.train)
    write_csv("plots/valid.csv", VALID_COLUMNS, log.valid)
    write_csv("plots/gradients.csv", GRADIENT_COLUMNS, log.gradients)
    write_json("metrics/train.json", log.figures)
    scratch.remove()
    print(f"train: {speed(log.figures)}")


def run_training(params: Params, device: Device, folder: Path | None) -> tuple[Log, Scratch]:
    """Train, and leave the model in `folder`, unless that is None; what was logged, and the run's checkpoint."""
    config = params.section("train", TrainConfig)
    weights = {"w_lm": params.value("w_lm"), "w_mc": params.value("w_mc")}
    seed, block_size, base = params.value("seed"), params.value("block_size"), params.value("model")
    learn = params.field("dataset.learn", Learn)
    check_block("data/base_model", block_size)
    check_bits(config, device.kind)
    tokens = read_table("data/tokens", "tokens")
    task = Task(
        **weights,
        seed=seed,
        train=examples_from_table(tokens, "train", block_size),
        valid=examples_from_table(tokens, "valid", block_size),
        segments=segments_from_table(read_table("data/segments", "segments")) if learn == "sessions" else None,
    )
    if folder:
        note("begun")
        beside = f"{len(task.segments):,} segments of sessions and " if task.segments is not None else ""
        print(f"train: {beside}{len(task.train):,} examples, {len(task.valid):,} held out; {device.reason}")
        for line in memory_lines(described("data/base_model"), config, device, Load.of(task, config)):
            print(f"train: {line}")
    model = load_base("data/base_model", seed, config.token_types)
    settings = {"model": base, "seed": seed, "block_size": block_size, **weights, **dataclasses.asdict(config)}
    machine = f"{device.num_devices} x {device.reason}"
    scratch = Scratch(run_key(model, settings, [*task.train, *task.valid, *(task.segments or [])], machine))
    adapters = None
    if config.lora_rank:
        from jaegpt.training.lora import add_adapters, merged  # peft takes a second to load

        adapters = add_adapters(model, config.lora_rank, seed)
    log = train(model, task, config, device, scratch)
    if folder is None:
        return log, scratch
    if adapters:
        model.lm = merged(adapters, load_lm("data/base_model"))
    valid = dict(zip(VALID_COLUMNS, log.valid[-1], strict=True)) if log.valid else {}
    card = model_card(settings, log.figures, valid, len(task.train), len(task.valid))
    view = {
        "num_history": params.field("dataset.num_history", int),
        "block_size": block_size,
        "token_types": config.token_types,
        "learn": learn,
        "separator": params.field("session.separator", Separator),
    }
    save_model(model, "data/base_model", folder, card, view, device.dtype)
    return log, scratch


if __name__ == "__main__":
    run(main)
