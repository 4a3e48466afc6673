"""The fine-tuned model and the untouched base model on the validation split. Run: python -m stages.evaluate"""

from functools import partial

from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.losses import evaluation
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.checkpoints import load_base, load_tuned
from jaegpt.training.config import TrainConfig
from jaegpt.training.devices import choose_device
from jaegpt.training.packing import examples_from_table
from jaegpt.training.runtime import runtime_of
from jaegpt.training.validation import measure


def main() -> None:
    params = Params()
    config = params.section("train", TrainConfig)
    seed, block_size = params.value("seed"), params.value("block_size")
    device = choose_device(config.precision)
    examples = examples_from_table(read_table("data/tokens", "tokens"), "valid", block_size)
    if not examples:
        raise JaegptError("evaluate: no validation example fits. Raise dataset.valid_fraction or block_size.")
    figures = {}
    for name, load in (
        ("tuned", partial(load_tuned, "models/jaegpt", config.token_types)),
        ("base", partial(load_base, "data/base_model", seed, config.token_types)),
    ):
        model = runtime_of(device).place_model(load())
        figures[name] = evaluation(
            measure(model, examples, device, label=f"evaluate {name}"),
            w_lm=params.value("w_lm"),
            w_mc=params.value("w_mc"),
            vocabulary=model.lm.config.vocab_size,
            candidates=max(len(example.candidates) for example in examples),
            block_size=block_size,
        )
        shown = figures[name]
        print(
            f"evaluate: {name}: lm_loss {shown['lm_loss']:.3f} (ratio {shown['lm_ratio']:.3f}), "
            f"mc_loss {shown['mc_loss']:.3f}, token accuracy {shown['token_accuracy']:.1%}, "
            f"mc accuracy {shown['mc_accuracy']:.1%}, {shown['examples']:,} examples"
        )
    write_json("metrics/evaluate.json", {**figures["tuned"], "base": figures["base"]})


if __name__ == "__main__":
    run(main)
