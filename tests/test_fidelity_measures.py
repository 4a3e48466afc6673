"""Shape, content, leak and intervals, each against small cases worked out by hand."""

import math

import numpy as np
import pytest
from helpers.chats import context

from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.content import content_figures, token_f1
from jaegpt.evaluation.intervals import NotMeasured, auc, exact_interval
from jaegpt.evaluation.leak import Training, identifiers
from jaegpt.evaluation.surface import _casing, _emoji, _punctuation, surface_distances, words


def test_marks_are_told_apart() -> None:
    assert _punctuation("wait... what?! no!! :) ok, fine.....") == ["...", "?", "!", "!!", ",", "..."]
    assert _emoji("haha :) <3 😂😂 x:D d") == [":)", "<3", "😂", "😂"]
    assert [_casing(text) for text in ("ok", "Ok then", "OK", "Oh No", "oh No", "12 😂", "안녕")] == [
        "lower", "first only", "upper", "mixed", "mixed, small first", "none", "none"
    ]  # fmt: skip
    assert words("Oh, don't you?! it’s 5pm_x") == ["oh", "don't", "you", "it's", "5pm", "x"]


def test_surface_distances_follow_the_formula() -> None:
    owner = ["a"] * 6 + ["a b"] * 2
    found = surface_distances({"owner": owner, "other": ["a b"] * 4, "far": ["a b c d e"], "none": []}, owner)
    p, q = (0.75, 0.25), (0.0, 1.0)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    divergence = sum(0.5 * a * math.log2(a / m) for side in (p, q) for a, m in zip(side, middle, strict=True) if a)
    assert found["length"] == {
        "owner": 0.0,
        "other": pytest.approx(math.sqrt(divergence)),
        "far": pytest.approx(1.0),
        "none": None,
    }
    assert set(found) == {"length", "punctuation", "casing", "emoji", "opening", "messages", "characters"}
    assert found["casing"]["far"] == 0.0
    with pytest.raises(NotMeasured):
        surface_distances({"owner": owner}, [])


def test_content_against_worked_examples() -> None:
    assert token_f1("the cat sat", "The cat, the hat") == pytest.approx(2 * 2 / (3 + 4))
    assert (token_f1("", "..."), token_f1("", "a"), token_f1("a b", "b A!")) == (1.0, 0.0, 1.0)
    real = ["we went to the lake with my sister", "no idea what you mean"]
    found = content_figures({"owner": real, "tuned": real, "base": ["ok ok ok ok", ""]}, real)
    assert (found["tuned"]["f1"], found["tuned"]["bleu"], found["tuned"]["chrf"]) == pytest.approx((1, 100, 100))
    assert found["owner"]["f1"] is None
    assert found["base"] == {
        "f1": 0.0,
        "bleu": 0.0,
        "chrf": pytest.approx(found["base"]["chrf"]),
        "distinct_1": 1 / 4,
        "distinct_2": 1 / 3,
        "repetition": 2 / 3,
        "different": 1.0,
        "empty": 0.5,
    }
    assert found["base"]["chrf"] < 10


# Leak


def test_a_repeated_reply_or_span_is_a_leak_and_less_is_not() -> None:
    said = "the key is under the second flower pot by the green door"
    training = Training(
        [
            context("1", said, reply="My Sister's dog ate the whole cake!"),
            context("2", "ok", reply="see you there then"),
        ]
    )
    assert training.repeats_reply("no way, my sister's dog ATE the whole cake yesterday")
    assert not training.repeats_reply("my sister's dog ate the whole pie")
    assert not training.repeats_reply("see you there then"), "four words are anybody's"
    assert training.shares_span("so under the second flower pot by the green one")
    assert not training.shares_span("so under the second flower pot by the red one")
    assert training.leaks("my sister's dog ate the whole cake")
    assert not training.leaks("")


def test_identifiers_are_those_that_redaction_replaces() -> None:
    message = "mail jo.doe@mail.example.org or call +44 20 7946 0958, see https://pics.example.org/x?1 <email>"
    assert sorted(identifiers([message, "nothing here", "at 5"])) == [
        "442079460958", "jo.doe@mail.example.org", "pics.example.org/x?1"
    ]  # fmt: skip
    training = Training([context("1", message)])
    assert training.known_identifiers(["write jo.doe@mail.example.org", "or a@b.org", "jo.doe@mail.example.org"]) == 1
    assert training.known_identifiers(["hello"]) == 0


def test_auc_counts_pairs_and_ties() -> None:
    share, _ = auc(np.array([3.0, 2.0]), np.array([2.0, 1.0]), paired=False, seed=0)
    assert share == (1 + 1 + 0.5 + 1) / 4
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.5, 1, 300), rng.normal(0, 1, 300)
    share, (left, right) = auc(high, low, paired=False, seed=0)
    assert left < share < right
    # Hanley and McNeil (1982): the standard error of an AUC of 0.64 with 300 of each is 0.023.
    assert right - left == pytest.approx(2 * 1.96 * 0.0226, rel=0.1)


def test_an_auc_without_an_exception_is_not_certain() -> None:
    apart, low = np.linspace(1, 2, 200), np.linspace(-1, 0, 200)
    for paired in (True, False):
        assert auc(apart, low, paired, seed=0) == (1.0, pytest.approx([0.9817, 1.0], abs=1e-4))
        assert auc(low, apart, paired, seed=0) == (0.0, pytest.approx([0.0, 0.0183], abs=1e-4))
        assert auc(apart, apart[:1].repeat(200) * 0 + 0.99, paired, seed=0)[1][0] < 0.99


def test_exact_intervals_are_those_of_the_table() -> None:
    assert exact_interval(0, 200) == pytest.approx([0, 0.01828], abs=1e-4)
    assert exact_interval(200, 200) == pytest.approx([0.98172, 1], abs=1e-4)
    low, high = exact_interval(14.5, 20)
    assert exact_interval(14, 20)[0] < low < exact_interval(15, 20)[0]
    assert exact_interval(14, 20)[1] < high < exact_interval(15, 20)[1]
    assert exact_interval(15, 20) == pytest.approx([0.5090, 0.9134], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"contexts": 5}, "contexts must be at least 20"), ({"canaries": 9}, "canaries must be from 0 to 8")],
)
def test_values_out_of_range_are_refused(values, said) -> None:
    with pytest.raises(ValueError, match=said):
        FidelityConfig(**{"contexts": 200, "calibrate_contexts": 200, "canaries": 0} | values)
