"""How well a copy of the model remembers canaries, when fidelity.canaries asks. Run: python -m stages.exposure"""

from jaegpt.errors import run
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.files import write_json
from jaegpt.params import Params


def main() -> None:
    params = Params()
    count = params.field("fidelity.canaries", FidelityConfig)
    if not count:
        write_json("metrics/exposure.json", {"canaries": 0, "exposure": None})
        print("exposure: not measured (fidelity.canaries is 0)")
        return
    # Loading these takes seconds, and by default there is nothing to train.
    from jaegpt.dialogue.encoding import Encoder
    from jaegpt.evaluation.exposure import measure_exposure
    from jaegpt.tables import read_table
    from jaegpt.training.config import Learn, Task, TrainConfig
    from jaegpt.training.devices import choose_device
    from jaegpt.training.four_bits import check_bits
    from jaegpt.training.lora import add_adapters
    from jaegpt.training.model_folder import load_base
    from jaegpt.training.packing import examples_from_table, segments_from_table

    config = params.section("train", TrainConfig)
    seed, block_size = params.value("seed"), params.value("block_size")
    learn = params.field("dataset.learn", Learn)
    device = choose_device(config.precision)
    check_bits(config, device.kind)
    task = Task(
        w_lm=params.value("w_lm"),
        w_mc=params.value("w_mc"),
        seed=seed,
        train=examples_from_table(read_table("data/tokens", "tokens"), "train", block_size),
        valid=[],
        segments=segments_from_table(read_table("data/segments", "segments")) if learn == "sessions" else None,
    )
    print(f"exposure: training a copy on {len(task.train):,} examples and the canaries; {device.reason}")
    model = load_base("data/base_model", seed, config.token_types)
    if config.lora_rank:
        add_adapters(model, config.lora_rank, seed)
    found = measure_exposure(
        model, Encoder("data/base_model"), task, config, device, count=count, block_size=block_size
    )
    write_json("metrics/exposure.json", {"canaries": count, "exposure": found})
    print("exposure: " + ", ".join(f"{name} {bits:.1f} bits" for name, bits in found.items()))


if __name__ == "__main__":
    run(main)
