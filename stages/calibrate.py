"""Which way of drawing replies suits this model and its owner? Run: python -m stages.calibrate"""

from typing import Any

from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.evaluation.baselines import other_replies, split_others
from jaegpt.evaluation.calibrate import COLUMNS, Said, calibrate, plot_rows, summary
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.contexts import choose_contexts, contexts_of, open_speaker, read_replies
from jaegpt.evaluation.reading import Reader
from jaegpt.files import write_csv, write_json
from jaegpt.generation.settings import FOUND, generation_config
from jaegpt.params import Params
from jaegpt.tables import iterate_parts, read_table
from jaegpt.training.config import Learn
from jaegpt.training.devices import choose_device
from jaegpt.training.precision import Precision


def main() -> None:
    params = Params()
    seed, used = params.value("seed"), params.field("fidelity.contexts", FidelityConfig)
    examples = read_table("data/examples", "examples")
    count = params.field("fidelity.calibrate_contexts", FidelityConfig)
    contexts = choose_contexts(examples, count, seed, skip=used)
    others = [reply for part in iterate_parts("data/sessions", "sessions") for reply in other_replies(part)]
    said = Said(
        train=[context.reply for context in contexts_of(examples, "train")],
        others=split_others(others, contexts_of(examples, "valid"))[0],
        base=read_replies("data/replies_base", choose_contexts(examples, used, seed)),
    )
    device = choose_device(params.field("train.precision", Precision), eager=True)
    view: dict[str, Any] = {
        "block_size": params.value("block_size"),
        "token_types": params.field("train.token_types", bool),
        "separator": params.field("session.separator", Separator),
    }
    speaker = open_speaker("models/jaegpt", contexts, **view, learn=params.field("dataset.learn", Learn), device=device)
    content, choice = calibrate(speaker, Reader("data/base_model", **view, device=device), contexts, said, seed)
    write_json("metrics/calibrate.json", content)
    write_csv("plots/calibrate.csv", COLUMNS, plot_rows(content))
    write_json(FOUND, generation_config(choice.chosen, choice.without_guidance))
    print(f"calibrate: {summary(content)}")


if __name__ == "__main__":
    run(main)
