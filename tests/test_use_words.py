"""What `jaegpt use` says of how much there is to learn from."""

from collections import Counter

import numpy as np
import pytest

from jaegpt.dialogue.examples import ExampleCounts
from jaegpt.evaluation.judges import MIN_CONTEXTS
from jaegpt.training.block_size import Sizes
from jaegpt.use.outlook import Outlook
from jaegpt.use.words import learning_lines


@pytest.mark.parametrize(("valid", "judged"), [(MIN_CONTEXTS - 1, False), (MIN_CONTEXTS, True)])
def test_too_little_to_judge_is_said_before_the_run(valid: int, judged: bool) -> None:
    none = np.zeros(0, np.int64)
    counts = ExampleCounts(owner_turns=1200, train=900, valid=valid, dropped=Counter(no_turn_before_in_session=200))
    outlook = Outlook(counts, Counter(), Sizes(*[np.zeros(0, np.int32)] * 3), none, none.astype(bool), 900, 0, 0)
    said = " ".join(" ".join(learning_lines(outlook, "sessions")).split())
    assert f"{900 + valid:,} replies of yours, of 1,200 turns (200 begin a session); {valid} of them" in said
    assert ("it is not judged whether it sounds like you" in said) is not judged
