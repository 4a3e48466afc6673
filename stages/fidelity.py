"""Does the model sound like the person, and what does it give away? Run: python -m stages.fidelity"""

import json
from pathlib import Path

from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.evaluation.baselines import other_replies
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.contexts import answer_contexts, choose_contexts, contexts_of, read_replies, write_replies
from jaegpt.evaluation.fidelity import Figures, Material, exposure_figure, model_figures, text_figures
from jaegpt.evaluation.plain_words import card_section, sentences
from jaegpt.files import write_json, write_text
from jaegpt.generation.settings import GenerateSettings
from jaegpt.params import Params
from jaegpt.tables import iterate_parts, read_table
from jaegpt.training.devices import Precision, choose_device
from jaegpt.training.heads import round_weights
from jaegpt.training.model_folder import load_tuned
from jaegpt.training.packing import examples_from_table


def main() -> None:
    params = Params()
    seed, block_size = params.value("seed"), params.value("block_size")
    examples = read_table("data/examples", "examples")
    contexts = choose_contexts(examples, params.field("fidelity.contexts", FidelityConfig), seed)
    token_types = params.field("train.token_types", bool)
    device = choose_device(params.field("train.precision", Precision), eager=True)
    tuned = answer_contexts(
        "models/jaegpt",
        contexts,
        params.section("generate", GenerateSettings).resolved(None),
        seed,
        block_size=block_size,
        token_types=token_types,
        separator=params.field("session.separator", Separator),
        device=device,
    )
    write_replies("data/replies_tuned", contexts, tuned)  # for `jaegpt turing`
    tokens = read_table("data/tokens", "tokens")
    material = Material(
        train=contexts_of(examples, "train"),
        valid=contexts_of(examples, "valid"),
        contexts=contexts,
        tuned=tuned,
        base=read_replies("data/replies_base", contexts),
        others=[reply for part in iterate_parts("data/sessions", "sessions") for reply in other_replies(part)],
        tokens={split: examples_from_table(tokens, split, block_size) for split in ("train", "valid")},
        block_size=block_size,
        seed=seed,
    )
    model = load_tuned("models/jaegpt", token_types).to(device.torch_device)
    round_weights(model, device.dtype)
    figures = Figures()
    text_figures(material, figures)
    model_figures(model, device, Encoder("models/jaegpt"), material, figures)
    exposure_figure(json.loads(Path("metrics/exposure.json").read_text(encoding="utf-8")), figures)
    content = figures.content()
    write_json("metrics/fidelity.json", content)
    write_text("models/fidelity.md", card_section(content))
    print("\n  ".join(["fidelity:", *sentences(content)]))


if __name__ == "__main__":
    run(main)
