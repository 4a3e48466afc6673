"""What the untouched base model replies to the validation contexts. Run: python -m stages.replies_base

A table of its own, so that it is kept while the fine-tuned model changes.
"""

from jaegpt.dialogue.separators import Separator
from jaegpt.errors import run
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.contexts import answer_contexts, choose_contexts, write_replies
from jaegpt.generation.settings import GenerateSettings
from jaegpt.params import Params
from jaegpt.tables import read_table
from jaegpt.training.devices import Precision, choose_device


def main() -> None:
    params = Params()
    seed = params.value("seed")
    contexts = choose_contexts(
        read_table("data/examples", "examples"), params.field("fidelity.contexts", FidelityConfig), seed
    )
    replies = answer_contexts(
        "data/base_model",
        contexts,
        params.section("generate", GenerateSettings).resolved(None),
        seed,
        block_size=params.value("block_size"),
        token_types=params.field("train.token_types", bool),
        separator=params.field("session.separator", Separator),
        device=choose_device(params.field("train.precision", Precision), eager=True),
    )
    write_replies("data/replies_base", contexts, replies)
    print(f"replies_base: {len(replies):,} replies, {len(set(replies)):,} of them different")


if __name__ == "__main__":
    run(main)
