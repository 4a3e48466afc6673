"""The training step, compiled for TPU slices without a TPU. Run: python -m stages.tpu_report (needs `make tpu` once)"""

import tempfile
from pathlib import Path

from jaegpt.errors import run
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.tpu.report import TpuConfig, in_words, skipped, tpu_report, why_not


def main() -> None:
    params = Params()
    topologies = params.section("tpu", TpuConfig).topologies
    if reason := why_not():
        write_json("metrics/tpu.json", skipped(topologies, reason))
        print(f"tpu_report: skipped; {reason}")
        return
    from jaegpt.tables import read_table
    from jaegpt.training.config import Learn, TrainConfig
    from jaegpt.training.packing import examples_from_table

    # What the compiled step depends on, and no more: another learning rate changes nothing in it, and compiling it
    # again to see that would take minutes.
    read = (
        "train.epochs", "train.batch_size", "train.pack_width", "train.precision", "train.token_types",
        "train.accumulation", "train.mc_share", "train.lora_rank",
    )  # fmt: skip
    settings = {
        "seed": params.value("seed"),
        "block_size": params.value("block_size"),
        "base_model": "data/base_model",
        "tokens": "data/tokens",
        "segments": "data/segments" if params.field("dataset.learn", Learn) == "sessions" else "",
        "train": {name.removeprefix("train."): params.field(name, TrainConfig) for name in read},
    }
    num_examples = len(examples_from_table(read_table("data/tokens", "tokens"), "train", settings["block_size"]))
    print(f"tpu_report: compiling for {', '.join(topologies)}; about two minutes each")
    with tempfile.TemporaryDirectory() as scratch:
        report = tpu_report(topologies, settings, num_examples, Path(scratch))
    write_json("metrics/tpu.json", report)
    for name, entry in report.items():
        print(f"tpu_report: {name}: {in_words(entry)}")


if __name__ == "__main__":
    run(main)
