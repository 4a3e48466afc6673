"""What `jaegpt use` counts before a run: a part from which nothing can be learned, with and without a base model."""

from pathlib import Path

import numpy as np
import pytest
from helpers.dialogue_reference import messages_of, table
from helpers.paths import ROOT

from jaegpt.dialogue.examples import DatasetConfig
from jaegpt.dialogue.language import LanguageConfig
from jaegpt.dialogue.session_gaps import SessionConfig
from jaegpt.errors import JaegptError
from jaegpt.params import Params
from jaegpt.use.outlook import Ruler, Settings, keep_part, look_ahead
from jaegpt.use.steps import common_languages

LATER = 24 * 3_600_000
TALK = [(1000 if number % 6 else LATER, number % 2 == 0) for number in range(240)]
LONELY = [(LATER, number % 2 == 0) for number in range(8)]  # nobody answers on the same day


def settings() -> Settings:
    params = Params(ROOT / "params.yaml")
    return Settings(
        language=params.section("language", LanguageConfig),
        session=SessionConfig(percentile=50, fixed_gap_s=3600),
        dataset=params.section("dataset", DatasetConfig),
        seed=1,
    )


def part(folder: Path, turns: list[tuple[int, bool]]) -> str:
    folder.mkdir()
    thread = [
        (gap, ("Ann" if is_owner else "Bo", is_owner), f"what do you think about the music number {number}")
        for number, (gap, is_owner) in enumerate(turns)
    ]
    return keep_part(table(messages_of([thread]), "messages"), folder)


@pytest.mark.parametrize("has_base", [False, True])
def test_a_part_without_examples_adds_none(tmp_path: Path, tiny: Path, has_base: bool) -> None:
    ruler = Ruler.of("tiny", tiny if has_base else None)
    talk, lonely = part(tmp_path / "talk", TALK), part(tmp_path / "lonely", LONELY)
    alone, both = look_ahead([talk], settings(), ruler), look_ahead([talk, lonely], settings(), ruler)
    assert alone.counts.train + alone.counts.valid == 80, "of each six turns, the owner's first has none before it"
    assert both.counts.owner_turns == alone.counts.owner_turns + 4 == 124
    for name in ("needed", "packed", "candidates"):
        np.testing.assert_array_equal(getattr(both.sizes, name), getattr(alone.sizes, name))
    with pytest.raises(JaegptError, match="none of the owner's 4 turns gives an example"):
        look_ahead([lonely], settings(), ruler)


def test_of_many_languages_mixed_the_most_frequent_is_kept() -> None:
    assert common_languages({"de": 0.6, "nl": 0.35, "af": 0.05}) == ["de", "nl"]
    assert common_languages({f"x{number}": 1 / 12 for number in range(12)}) == ["x0"]
