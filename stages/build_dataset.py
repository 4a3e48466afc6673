"""Sessions -> examples: history, reply, wrong candidates, split. Run: python -m stages.build_dataset"""

import sys
from functools import partial

from jaegpt.dialogue.examples import REASONS, DatasetConfig, ExampleReport, build_examples
from jaegpt.errors import run
from jaegpt.files import write_json
from jaegpt.params import Params
from jaegpt.transform import transform_table


def refuse_one_sided(reports: list[ExampleReport], config: DatasetConfig) -> None:
    """Before anything is written."""
    ExampleReport.total(reports).refuse_one_sided(config)


def main() -> None:
    params = Params()
    config = params.section("dataset", DatasetConfig)
    if config.split == "row":
        print(
            "warning: dataset.split row puts one session on both sides; its validation figures leak.", file=sys.stderr
        )
    reports = transform_table(
        partial(build_examples, config=config, seed=params.value("seed")),
        ("data/sessions", "sessions"),
        ("data/examples", "examples"),
        "build_dataset",
        finish=partial(refuse_one_sided, config=config),
    )
    total = ExampleReport.total(reports)
    content = {
        "owner_turns": total.owner_turns,
        "examples": total.train + total.valid,
        "train": total.train,
        "valid": total.valid,
        "valid_replies_in_train": total.valid_replies_in_train(),
        "valid_share_in_train_distractors": total.valid_share_in_train_distractors(),
        "dropped": {reason: total.dropped[reason] for reason in REASONS},
    }
    write_json("metrics/dataset.json", content)
    print(f"build_dataset: {content['examples']:,} examples of {total.owner_turns:,} owner turns")
    print(f"  train {total.train:,}, valid {total.valid:,} ({total.valid_replies_in_train():,} replies also in train,")
    print(f"  {content['valid_share_in_train_distractors']:.1%} among the wrong candidates of training examples)")


if __name__ == "__main__":
    run(main)
