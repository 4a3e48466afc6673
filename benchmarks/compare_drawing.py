"""Ways to draw replies, compared on the validation contexts that `calibrate` has not used.

Run where `dvc repro` has been run: python -m benchmarks.compare_drawing [KEY=VALUE ...], for instance rerank=fit
guidance=1.2 temperature=0.9,top_p=0.95. Each is one way, with the keys of section `generate`; a way of several keys has
commas between them, and what is as calibrated is always drawn first. Each seed draws once more. One to two minutes for
each way and seed on 2 CPU cores, with the default model and all contexts. Prints a line of JSON for each and a table.

f1_ratio is word F1 over that of the owner's replies to other contexts (a mean of many draws); context words and fit are
over the owner's; leak counts replies with eight words in a row of the training data.
"""

import jaegpt.environment  # noqa: F401

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.baselines import other_replies, random_replies, split_others
from jaegpt.evaluation.calibrate import Owner, Said, try_setting
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.content import token_f1
from jaegpt.evaluation.contexts import Context, answer_contexts, choose_contexts, contexts_of, open_speaker
from jaegpt.evaluation.judges import MIN_CONTEXTS
from jaegpt.evaluation.leak import Training
from jaegpt.evaluation.reading import Reader
from jaegpt.generation.settings import DEFAULT, GenerateConfig, GenerateSettings, found_settings
from jaegpt.params import Params
from jaegpt.tables import iterate_parts, read_table
from jaegpt.training.config import TrainConfig
from jaegpt.training.devices import choose_device
from jaegpt.yaml12 import load_yaml

CHANCES = 50  # draws of random replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ways", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--contexts", type=int, help="at most so many, fidelity's first (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 2])
    asked = parser.parse_args()
    if asked.contexts is not None and asked.contexts < MIN_CONTEXTS:
        raise JaegptError(f"--contexts: judges need at least {MIN_CONTEXTS}, found {asked.contexts}.")
    params = Params()
    seed, used = params.value("seed"), params.field("fidelity.contexts", FidelityConfig)
    examples = read_table("data/examples", "examples")
    contexts = unused(examples, seed, used, params.field("fidelity.calibrate_contexts", FidelityConfig))
    contexts = contexts[: asked.contexts]
    configs = {text: way(text) for text in ["as calibrated", *asked.ways]}
    train = [context.reply for context in contexts_of(examples, "train")]
    others = [reply for part in iterate_parts("data/sessions", "sessions") for reply in other_replies(part)]
    known = Said(train=train, others=split_others(others, contexts_of(examples, "valid"))[0], base=[])
    train_config = params.section("train", TrainConfig)
    device = choose_device(train_config.precision, eager=True)
    view: dict[str, Any] = {
        "block_size": params.value("block_size"),
        "token_types": train_config.token_types,
        "separator": params.content["session"]["separator"],
        "device": device,
    }
    speaker = open_speaker("models/jaegpt", contexts, **view, learn=params.content["dataset"]["learn"])
    drawn = {
        (text, number): answer_contexts(speaker, contexts, config, number)
        for number in asked.seeds
        for text, config in configs.items()
    }
    del speaker
    real = [context.reply for context in contexts]
    replies = {"owner": real, **{f"{number} {text}": said for (text, number), said in drawn.items()}}
    own, *readings = Reader("data/base_model", **view).read(replies, contexts).values()
    owner = Owner.known(contexts, own, known, seed)
    training = Training(contexts_of(examples, "train"))
    chance = float(np.mean([f1(random_replies(contexts, train, number), real) for number in range(CHANCES)]))
    words = owner.figures["context_words"]
    print(
        f"{len(contexts):,} contexts; F1 of the owner's replies to other contexts {chance:.4f}; owner {owner.figures}"
    )
    rows = []
    for ((text, number), said), reading in zip(drawn.items(), readings, strict=True):
        figures = dict(try_setting(configs[text], said, reading, owner).figures)
        rows.append(
            {
                "way": text,
                "seed": number,
                **{name: value for name, value in figures.items() if name not in ("settings", "style_score")},
                "f1_ratio": figures["f1"] / chance,
                "context_words": figures["context_words"] / words if words else None,
                "leak": sum(map(training.leaks, said)),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    print(pd.DataFrame(rows).drop(columns=[name for name in rows[0] if name.endswith("_ci")]).to_string(index=False))


def unused(examples: Any, seed: int, fidelity: int, calibrate: int) -> list[Context]:
    """The validation contexts that calibrate has not used, fidelity's own first."""
    first = choose_contexts(examples, fidelity, seed)
    taken = {context.example_id for context in [*first, *choose_contexts(examples, calibrate, seed, skip=fidelity)]}
    return [*first, *(context for context in contexts_of(examples, "valid") if context.example_id not in taken)]


def way(text: str) -> GenerateConfig:
    """The settings of one way: what calibrate found, with what `text` changes."""
    given: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(DEFAULT)), "auto")
    for change in [] if text == "as calibrated" else text.split(","):
        name, equals, value = change.partition("=")
        if not equals or name not in given:
            raise JaegptError(f"{change}: a way is KEY=VALUE, with a key of params.yaml's generate such as top_p.")
        given[name] = load_yaml(value)
    return GenerateSettings(**given).resolved(found_settings())


def f1(texts: Sequence[str], real: Sequence[str]) -> float:
    return float(np.mean([token_f1(*pair) for pair in zip(texts, real, strict=True)]))


if __name__ == "__main__":
    run(main)
