"""Block sizes: against counting example by example."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS
from jaegpt.training.block_size import BLOCK_SIZES, Sizes

LENGTHS = st.lists(st.tuples(st.integers(0, 200), st.lists(st.integers(1, 900), min_size=1, max_size=5)), max_size=30)


def tokens(examples):
    columns = {
        "example_id": [str(number) for number in range(len(examples))],
        "split": ["train"] * len(examples),
        "history_ids": [[7] * history for history, _ in examples],
        "history_roles": [[0] * history for history, _ in examples],
        "candidate_ids": [[[7] * length for length in candidates] for _, candidates in examples],
    }
    return pa.table(columns, schema=SCHEMAS["tokens"])


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.sampled_from(BLOCK_SIZES))
def test_sizes_equal_counting(examples, block_size):
    sizes = Sizes.of(tokens(examples))
    fits = [all(history + length <= block_size for length in candidates) for history, candidates in examples]
    assert sizes.share_that_fits(block_size) == (sum(fits) / len(fits) if fits else 0)
    if not any(fits):
        with pytest.raises(JaegptError, match="block_size: none of"):
            sizes.fitting(block_size)
        return
    kept = [example for example, fit in zip(examples, fits, strict=True) if fit]
    fitting = sizes.fitting(block_size)
    assert fitting.packed.tolist() == [history + sum(candidates) for history, candidates in kept]
    assert fitting.candidates.tolist() == [len(candidates) for _, candidates in kept]


def test_the_recommendation_is_the_smallest_with_99_percent():
    short, long = (10, [5, 5]), (100, [500, 5])
    assert Sizes.of(tokens([short] * 99 + [long])).recommended() == 32
    assert Sizes.of(tokens([short] * 98 + [long] * 2)).recommended() == 1024
    assert Sizes.of(tokens([(2000, [1])])).recommended() is None
    # 98.998 %, which four places would show as 99 %.
    assert Sizes.of(tokens([short] * 49_499 + [long] * 501)).recommended() == 1024


def test_a_block_that_most_examples_do_not_fit_is_warned_of():
    sizes = Sizes.of(tokens([(10, [5, 5])] + [(60, [5, 5])] * 2))
    assert sizes.warning(32) == (
        "warning: only 33% of the examples fit into 32 tokens. `dvc exp run -S block_size=128` keeps 99 % of them."
    )
    assert sizes.warning(128) is None


def test_parts_add_up():
    parts = [[(10, [5, 5])], [], [(20, [5, 7]), (1, [1])]]
    total = Sizes.total(Sizes.of(tokens(part)) for part in parts)
    assert total.needed.tolist() == [15, 27, 2]


def test_no_example_fits_and_the_error_says_what_would():
    with pytest.raises(JaegptError, match=r"none of 1 examples fits into 8 tokens \(the shortest needs 15\).*to 32"):
        Sizes.of(tokens([(10, [5, 4])])).fitting(8)
    with pytest.raises(JaegptError, match="there are no examples"):
        Sizes.of(tokens([])).fitting(128)
