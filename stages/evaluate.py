"""The fine-tuned model on the validation split, beside the base model's figures. Run: python -m stages.evaluate"""

import json
import math
from pathlib import Path

from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.losses import evaluation
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
        figures[name] = shown = evaluation(
            result,
            vocabulary=model.lm.config.get_text_config().vocab_size,
            candidates=max(len(example.candidates) for example in examples),
            block_size=block_size,
        )
        print(
            f"evaluate: {name}: lm_loss {shown['lm_loss']:.3f} (ratio {shown['lm_ratio']:.3f}), "
            f"mc_loss {shown['mc_loss']:.3f}, token accuracy {shown['token_accuracy']:.1%}, "
            f"mc accuracy {shown['mc_accuracy']:.1%}, {shown['examples']:,} examples"
        )
    loss = w_lm * measured["tuned"].lm_loss + w_mc * measured["tuned"].mc_loss
    tuned = figures["tuned"]
    write_json("metrics/evaluate.json", {"loss": loss, **tuned, "base": figures["base"]})
    compared = ("lm_loss", "mc_loss", "mc_accuracy")  # what `dvc exp show` and `dvc metrics` compare
    write_json("metrics/learned.json", {key: round(tuned[key], 4) for key in compared})
    # One row, since the run has one w_mc: `dvc plots diff` sets the rows of several runs side by side.
    drawn = {"w_mc": w_mc, **{key: tuned[key] for key in ("lm_loss", "mc_loss", "token_accuracy", "mc_accuracy")}}
    drawn |= {f"base_{key}": figures["base"][key] for key in ("lm_loss", "token_accuracy")}
    drawn |= {"guess_mc_loss": math.log(tuned["candidates"]), "guess_mc_accuracy": 1 / tuned["candidates"]}
    write_csv("plots/weights.csv", tuple(drawn), [tuple(drawn.values())])


if __name__ == "__main__":
    run(main)
