"""Does the loss alone show whether an example was trained on? (Yeom et al. 2018)"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.evaluation.intervals import auc, need
from jaegpt.training.packing import Example

MIN_EXAMPLES = 20  # of each side
MAX_EXAMPLES = 500  # of each side: the interval is then about 0.03 to either side


def draw_members(train: Sequence[Example], valid: Sequence[Example], seed: int) -> list[Example]:
    """Equally many training and validation examples, replies only; the first half are the training ones.

    Raises:
        NotMeasured: one side has fewer than MIN_EXAMPLES.
    """
    need(MIN_EXAMPLES, train_examples=len(train), valid_examples=len(valid))
    count = min(len(train), len(valid), MAX_EXAMPLES)
    drawn = []
    for side, examples in enumerate((train, valid)):
        rows = np.random.default_rng([seed, side]).choice(len(examples), count, replace=False)
        drawn += [examples[row].reply_only() for row in sorted(rows.tolist())]
    return drawn


def membership(likelihoods: Floats, seed: int) -> dict[str, Any]:
    """AUC of the threshold on the loss. 0.5: the two sides look alike; 1: every training example gives itself away.

    Args:
        likelihoods: log-likelihood per token of the replies of `draw_members`, in its order.
    """
    count = len(likelihoods) // 2
    train, valid = likelihoods[:count], likelihoods[count:]
    share, interval = auc(train, valid, paired=False, seed=seed)
    return {
        "membership_auc": share,
        "membership_auc_ci": interval,
        "membership_examples": 2 * count,
    }
