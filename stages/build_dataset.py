"""Sessions -> examples: history, reply, wrong candidates, split. Run: python -m stages.build_dataset"""

import sys
from functools import partial
from pathlib import Path

from jaegpt.arrays import Words
from jaegpt.dialogue.examples import REASONS, DatasetConfig, ExampleReport, build_examples
from jaegpt.dialogue.repeats import REPEATED, build_limited, repeat_limits, training_draws
from jaegpt.errors import run
from jaegpt.files import write_json
from jaegpt.parallel import map_parts
from jaegpt.params import Params
from jaegpt.tables import part_paths, read_part
from jaegpt.transform import transform_table


def refuse_one_sided(reports: list[ExampleReport], config: DatasetConfig) -> None:
    """Before anything is written."""
    ExampleReport.total(reports).refuse_one_sided(config)


def draws_of_part(path: Path, config: DatasetConfig, seed: int) -> tuple[Words, Words]:
    """The training replies of one part, and the draws that say which of equal ones are kept."""
    return training_draws(build_examples(read_part(path, "sessions"), config, seed)[0], seed)


def limits_of(config: DatasetConfig, seed: int) -> dict[int, int]:
    """What `dataset.max_repeats` leaves of each frequent reply; nothing is read where there is no limit."""
    if not config.max_repeats:
        return {}
    draws = map_parts(
        partial(draws_of_part, config=config, seed=seed), part_paths("data/sessions"), "build_dataset: repeats"
    )
    return repeat_limits(draws, config.max_repeats)


def main() -> None:
    params = Params()
    config, seed = params.section("dataset", DatasetConfig), params.value("seed")
    if config.split == "row":
        print(
            "warning: dataset.split row puts one session on both sides; its validation figures leak.", file=sys.stderr
        )
    reports = transform_table(
        partial(build_limited, config=config, seed=seed, limits=limits_of(config, seed)),
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
        "dropped": {reason: total.dropped[reason] for reason in (*REASONS, REPEATED)},
    }
    write_json("metrics/dataset.json", content)
    print(f"build_dataset: {content['examples']:,} examples of {total.owner_turns:,} owner turns")
    print(f"  train {total.train:,}, valid {total.valid:,} ({total.valid_replies_in_train():,} replies also in train,")
    print(f"  {content['valid_share_in_train_distractors']:.1%} among the wrong candidates of training examples)")


if __name__ == "__main__":
    run(main)
