"""Sessions -> examples: history, reply, wrong candidates, split. Run: python -m stages.build_dataset"""

import sys
from functools import partial

from jaegpt.dialogue.examples import DatasetConfig, ExampleCounts
from jaegpt.dialogue.repeats import build_limited, find_limits, reply_draws
from jaegpt.errors import run
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.tables import part_paths
from jaegpt.transform import transform_table


def refuse_one_sided(counts: list[ExampleCounts], config: DatasetConfig) -> None:
    """Before anything is written."""
    ExampleCounts.total(counts).refuse_one_sided(config)


def main() -> None:
    params = Params()
    config, seed = params.section("dataset", DatasetConfig), params.value("seed")
    if config.split == "row":
        print(
            "warning: dataset.split row puts one session on both sides; its validation figures leak.", file=sys.stderr
        )
    limits = find_limits(reply_draws, part_paths("data/sessions"), config, seed, "build_dataset: repeats")
    counts = transform_table(
        partial(build_limited, config=config, seed=seed, limits=limits),
        ("data/sessions", "sessions"),
        ("data/examples", "examples"),
        "build_dataset",
        finish=partial(refuse_one_sided, config=config),
    )
    total = ExampleCounts.total(counts)
    content = total.metrics()
    write_json("metrics/dataset.json", content)
    print(f"build_dataset: {content['examples']:,} examples of {total.owner_turns:,} owner turns")
    again = content["valid_replies_in_train"]
    print(f"  train {total.train:,}, valid {total.valid:,} ({again:,} replies also in train,")
    print(f"  {content['valid_share_in_train_distractors']:.1%} among the wrong candidates of training examples)")


if __name__ == "__main__":
    run(main)
