"""Does the model sound like the person, and what does it give away? Run: python -m stages.fidelity"""

import json
import textwrap
from pathlib import Path
from typing import Any

from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.evaluation.baselines import other_replies
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.contexts import (
    answer_contexts,
    choose_contexts,
    contexts_of,
    drawn,
    open_speaker,
    read_replies,
    write_replies,
)
from jaegpt.evaluation.drift import TALKS, owner_repetition, self_talk
from jaegpt.evaluation.fidelity import Figures, Material, exposure_figure, model_figures, text_figures
from jaegpt.evaluation.plain_words import card_section, sentences
from jaegpt.evaluation.reading import Reader
from jaegpt.files import write_json, write_text
from jaegpt.generation.settings import GenerateSettings, found_settings
from jaegpt.params import Params
from jaegpt.tables import iterate_parts, read_table
from jaegpt.training.config import Learn
from jaegpt.training.devices import choose_device
from jaegpt.training.heads import round_weights
from jaegpt.training.model_folder import load_tuned
from jaegpt.training.packing import examples_from_table
from jaegpt.training.precision import Precision


def main() -> None:
    params = Params()
    seed, block_size = params.value("seed"), params.value("block_size")
    examples = read_table("data/examples", "examples")
    contexts = choose_contexts(examples, params.field("fidelity.contexts", FidelityConfig), seed)
    token_types = params.field("train.token_types", bool)
    device = choose_device(params.field("train.precision", Precision), eager=True)
    view: dict[str, Any] = {
        "block_size": block_size,
        "token_types": token_types,
        "separator": params.field("session.separator", Separator),
        "device": device,
    }
    speaker = open_speaker("models/jaegpt", contexts, **view, learn=params.field("dataset.learn", Learn))
    config = params.section("generate", GenerateSettings).resolved(found_settings())
    tuned = answer_contexts(speaker, contexts, config, seed)
    write_replies("data/replies_tuned", contexts, tuned)  # for `jaegpt turing`
    talked = drawn(contexts, TALKS, seed, "drift")
    talks = self_talk(speaker, talked, config, seed)
    del speaker
    tokens = read_table("data/tokens", "tokens")
    sessions = list(iterate_parts("data/sessions", "sessions"))
    real = [context.reply for context in contexts]
    repeated, counted = zip(*map(owner_repetition, sessions), strict=True)
    material = Material(
        train=contexts_of(examples, "train"),
        valid=contexts_of(examples, "valid"),
        contexts=contexts,
        tuned=tuned,
        base=read_replies("data/replies_base", contexts),
        readings=Reader("data/base_model", **view).read({"owner": real, "tuned": tuned}, contexts),
        talked=talked,
        talks=talks,
        repeats=(sum(repeated), sum(counted)),
        others=[reply for part in sessions for reply in other_replies(part)],
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
    write_json("metrics/voice.json", {key: content[key] for key in ("told_apart", "style_score")})  # for `dvc exp show`
    write_text("models/fidelity.md", card_section(content))
    print("fidelity:")
    for sentence in sentences(content):
        print(textwrap.fill(sentence, 100, initial_indent="  ", subsequent_indent="    "))


if __name__ == "__main__":
    run(main)
