"""The untouched base model on the validation split. Run: python -m stages.evaluate_base

A file of its own, so that it is kept while the fine-tuned model changes.
"""

import dataclasses

from jaegpt.errors import JaegptError, run
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.devices import choose_device
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing import examples_from_table
from jaegpt.training.precision import Precision
from jaegpt.training.runtime_choice import runtime_of
from jaegpt.training.validation import measure


def main() -> None:
    params = Params()
    device = choose_device(params.field("train.precision", Precision))
    examples = examples_from_table(read_table("data/tokens", "tokens"), "valid", params.value("block_size"))
    if not examples:
        raise JaegptError("evaluate_base: no validation example fits. Raise dataset.valid_fraction or block_size.")
    base = load_base("data/base_model", params.value("seed"), params.field("train.token_types", bool))
    result = measure(runtime_of(device).place_model(base), examples, device, label="evaluate base")
    result.check_finite("evaluate_base: the base model's loss")
    write_json("data/base_measurement.json", dataclasses.asdict(result))
    print(f"evaluate_base: lm_loss {result.lm_loss:.3f}, mc_loss {result.mc_loss:.3f}, {result.examples:,} examples")


if __name__ == "__main__":
    run(main)
