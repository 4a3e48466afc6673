"""What the untouched base model replies to the validation contexts. Run: python -m stages.replies_base

A table of its own, so that it is kept while the fine-tuned model changes.
"""

import dataclasses

from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.contexts import answer_contexts, choose_contexts, longest_replies, open_speaker, write_replies
from jaegpt.generation.settings import DEFAULT, GenerateConfig, GenerateSettings
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.devices import choose_device
from jaegpt.training.precision import Precision


def main() -> None:
    params = Params()
    seed, block_size = params.value("seed"), params.value("block_size")
    contexts = choose_contexts(
        read_table("data/examples", "examples"), params.field("fidelity.contexts", FidelityConfig), seed
    )
    speaker = open_speaker(
        "data/base_model",
        contexts,
        block_size=block_size,
        token_types=params.field("train.token_types", bool),
        separator=params.field("session.separator", Separator),
        device=choose_device(params.field("train.precision", Precision), eager=True),
    )
    replies = answer_contexts(speaker, contexts, plain(params.section("generate", GenerateSettings), block_size), seed)
    write_replies("data/replies_base", contexts, replies)
    print(f"replies_base: {len(replies):,} replies, {len(set(replies)):,} of them different")


def plain(settings: GenerateSettings, block_size: int) -> GenerateConfig:
    """The settings as given, `auto` being the defaults: what calibrate finds suits the fine-tuned model only.

    There is one reply per context, without guidance: this model has neither a classification head nor first words.
    """
    default = dataclasses.asdict(DEFAULT) | {"max_tokens": longest_replies([], block_size)}
    return dataclasses.replace(settings.resolved(default), guidance=1.0, rerank="none", candidates=1)


if __name__ == "__main__":
    run(main)
