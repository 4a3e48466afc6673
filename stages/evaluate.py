"""The fine-tuned model on the validation split, beside the base model's figures. Run: python -m stages.evaluate"""

import json
from pathlib import Path

from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.losses import evaluation, in_words, plot_row
from jaegpt.files import write_csv, write_json
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.config import TrainConfig
from jaegpt.training.devices import choose_device
from jaegpt.training.model_folder import load_tuned
from jaegpt.training.packing import examples_from_table
from jaegpt.training.runtime_choice import runtime_of
from jaegpt.training.validation import Measurement, measure


def main() -> None:
    params = Params()
    config = params.section("train", TrainConfig)
    w_lm, w_mc = params.value("w_lm"), params.value("w_mc")
    block_size = params.value("block_size")
    device = choose_device(config.precision)
    examples = examples_from_table(read_table("data/tokens", "tokens"), "valid", block_size)
    if not examples:
        raise JaegptError("evaluate: no validation example fits. Raise dataset.valid_fraction or block_size.")
    model = runtime_of(device).place_model(load_tuned("models/jaegpt", config.token_types))
    measured = {
        "tuned": measure(model, examples, device, label="evaluate tuned"),
        "base": Measurement(**json.loads(Path("data/base_measurement.json").read_text(encoding="utf-8"))),
    }
    measured["tuned"].check_finite("evaluate: the fine-tuned model's loss")
    figures = {}
    for name, result in measured.items():
        figures[name] = evaluation(
            result,
            vocabulary=model.lm.config.get_text_config().vocab_size,
            candidates=max(len(example.candidates) for example in examples),
            block_size=block_size,
        )
        print(f"evaluate: {name}: {in_words(figures[name])}")
    loss = w_lm * measured["tuned"].lm_loss + w_mc * measured["tuned"].mc_loss
    tuned = figures["tuned"]
    write_json("metrics/evaluate.json", {"loss": loss, **tuned, "base": figures["base"]})
    compared = ("lm_loss", "mc_loss", "mc_accuracy")  # what `dvc exp show` and `dvc metrics` compare
    write_json("metrics/learned.json", {key: round(tuned[key], 4) for key in compared})
    row = plot_row(tuned, figures["base"], w_mc)
    write_csv("plots/weights.csv", tuple(row), [tuple(row.values())])


if __name__ == "__main__":
    run(main)
