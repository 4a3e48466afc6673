"""The training step, compiled for TPU slices without a TPU. Run: python -m stages.tpu_report (needs `make tpu` once)"""

import dataclasses
import tempfile
from pathlib import Path

from jaegpt.errors import run
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.training.tpu_report import TpuConfig, missing_packages, tpu_report


def main() -> None:
    params = Params()
    topologies = params.section("tpu", TpuConfig).topologies
    if missing := missing_packages():
        reason = f"not installed: {', '.join(missing)}. Run `make tpu`, then `dvc repro -f tpu_report`."
        write_json("metrics/tpu.json", {name: {"compiles": None} for name in topologies})
        print(f"tpu_report: skipped; {reason}")
        return
    from jaegpt.tables import read_table
    from jaegpt.training.config import TrainConfig
    from jaegpt.training.packing import examples_from_table

    settings = {
        "seed": params.value("seed"),
        "block_size": params.value("block_size"),
        "base_model": "data/base_model",
        "tokens": "data/tokens",
        "train": dataclasses.asdict(params.section("train", TrainConfig)),
    }
    num_examples = len(examples_from_table(read_table("data/tokens", "tokens"), "train", settings["block_size"]))
    print(f"tpu_report: compiling for {', '.join(topologies)}; about two minutes each")
    with tempfile.TemporaryDirectory() as scratch:
        report = tpu_report(topologies, settings, num_examples, Path(scratch))
    write_json("metrics/tpu.json", report)
    for name, entry in report.items():
        print(f"tpu_report: {name}: {_in_words(entry)}")


def _in_words(entry: dict[str, object]) -> str:
    if not entry["compiles"]:
        return f"does not compile: {entry['message']}"
    needed, available = (float(entry[f"hbm_{kind}_bytes"]) / 2**30 for kind in ("needed", "available"))  # type: ignore[arg-type]
    rate = entry["examples_per_second"]
    return f"compiles; {needed:.1f} of {available:.0f} GiB a device; at best {rate:,.0f} examples/s"


if __name__ == "__main__":
    run(main)
