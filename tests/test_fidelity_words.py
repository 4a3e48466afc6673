"""The sentences for people: they say what the figures say, whatever is missing."""

import copy
import json
from typing import Any

import pytest

from jaegpt.evaluation.intervals import exact_interval
from jaegpt.evaluation.plain_words import card_section, of_100, percent, sentences

SIX = {"owner": 0.6, "tuned": 0.5, "base": 0.2, "random": 0.6, "retrieval": 0.6, "others": 0.4}
FIGURES: dict[str, Any] = {
    "contexts": 200,
    "style_score": 0.75,
    "style_score_ci": [0.6, 0.9],
    "style": SIX,
    "style_auc": 0.8,
    "told_apart": 0.7,
    "told_apart_ci": [0.65, 0.75],
    "told_apart_text": 0.6,
    "told_apart_reading": 0.68,
    "context_words": {"tuned": 0.05, "owner": 0.07},
    "fit": 0.9,
    "drift": {
        "repetition": [0.0] * 8,
        "repetition_tuned": 0.02,
        "repetition_owner": 0.03,
        "told_apart_text": [0.52, *[0.55] * 6, 0.61],
    },
    "shape": {"length": SIX},
    "content": {name: {"f1": 0.1} for name in ("tuned", "base", "retrieval")},
    "hits_own": {
        "head": 0.5,
        "head_ci": [0.4, 0.6],
        "likelihood": 0.3,
        "likelihood_ci": [0.2, 0.4],
        "contexts": 200,
        "chance": 0.25,
    },
    "leak": {"tuned": 0.015, "base": 0.0, "real": 0.02},
    "leak_ci": {"tuned": [0.003, 0.043]},
    "identifiers": {"tuned": 0, "base": 0, "real": 0},
    "membership_auc": 0.58,
    "membership_auc_ci": [0.55, 0.61],
    "exposure": {"0": 1.4, "1": 2.0, "4": 5.5, "16": 9.0, "most": 9.0},
    "reasons": {},
}
FIGURES["hits_others"] = {**FIGURES["hits_own"], "head": 0.625}
FACTS = {
    "style_score": "went 75 % of the way from the base model to you (95 % interval 60 to 90)",
    "style": "yours with 60 %, other people's with 40 %, the base model's with 20 % and the fine-tuned model's with "
    "50 %",
    "told_apart": "could tell yours from the model's in 70 of 100 cases (95 % interval 65 to 75); by the wording "
    "alone in 60, by how replies fit what was said in 68",
    "context_words": "Of its rarer words 5.0 % had been said just before, of yours 7.0 %",
    "fit": "makes its replies likelier by 90 % of what it does for yours",
    "drift": "repeats one of its last five in 2.0 % of them, you in 3.0 %; by the wording it could be told from you in "
    "52 of 100 cases at first, in 61 at the end",
    "content": "share 10 % of their words",
    "hits_own": "Among your own replies it finds the one you really gave in 50 % of the cases",
    "hits_others": "Among other people's replies it finds the one you really gave in 62 % of the cases",
    "leak": "word for word in 1.5 % of its replies (95 % interval 0.3 to 4)",
    "membership_auc": "which is which in 58 of 100 cases (95 % interval 55 to 61)",
    "exposure": "2.0 bits after one copy, 5.5 after 4 and 9.0 after 16",
}


def test_every_figure_is_said() -> None:
    text = "\n".join(sentences(FIGURES))
    assert "200 conversations" in text
    for fact in FACTS.values():
        assert fact in text
    assert "Not measured" not in text
    assert "no address, telephone or other long number, or link" in text


@pytest.mark.parametrize("name", FACTS)
def test_a_missing_figure_is_said_to_be_missing(name: str) -> None:
    figures = copy.deepcopy(FIGURES)
    figures[name] = None
    figures["reasons"] = {name: {"owner_replies": 12, "needed": 100}}
    if name == "style":
        figures["style_score"] = None
    text = sentences(json.loads(json.dumps(figures)))
    assert FACTS[name] not in "\n".join(text)
    assert text[-1].startswith("Not measured: ")
    assert text[-1].endswith("(owner replies 12, needed 100).")


def test_a_score_above_one_is_called_what_it_is() -> None:
    assert "overdoes" in "\n".join(sentences({**FIGURES, "style_score": 1.2}))
    assert "moved the model away from you" in "\n".join(sentences({**FIGURES, "style_score": -0.2}))
    assert "overdoes" not in "\n".join(sentences(FIGURES))


def test_what_is_nearly_all_or_nearly_nothing_is_not_rounded_to_it() -> None:
    shares = (0, 0.00004, 0.0004, 0.012, 0.07, 0.42, 0.907, 0.984, 0.997, 0.9996, 0.99996, 1, 1.26, -0.3)
    expected = ["0", "0.004", "0.04", "1.2", "7", "42", "91", "98", "99.7", "99.96", "99.996", "100", "126", "-30"]
    assert list(map(of_100, shares)) == expected
    assert [percent(share) for share in (0, 0.0004, 0.07, 0.42, 0.997, 1)] == [
        "0 %", "0.04 %", "7.0 %", "42 %", "99.7 %", "100 %"
    ]  # fmt: skip
    figures = {**FIGURES, "told_apart": 0.997, "told_apart_ci": [0.978, 1.0], "membership_auc": 1.0,
               "membership_auc_ci": exact_interval(500, 500)}  # fmt: skip
    text = "\n".join(sentences(figures))
    assert "in 99.7 of 100 cases (95 % interval 98 to 100)" in text
    assert "in 100 of 100 cases (95 % interval 99.3 to 100)" in text


def test_a_way_from_noise_is_not_reported() -> None:
    reasons = {"style_score": {"familiar_words_base": 0.003, "familiar_words_owner": 0.6, "needed": 0.06}}
    text = sentences({**FIGURES, "style_score": None, "style_score_ci": None, "reasons": reasons})
    assert not [line for line in text if "of the way" in line]
    assert text[-1].endswith("your style (familiar words base 0.003, familiar words owner 0.6, needed 0.06).")


def test_what_was_found_of_identifiers_is_counted() -> None:
    text = "\n".join(sentences({**FIGURES, "identifiers": {"tuned": 3, "base": 0, "real": 0}}))
    assert "held 3 addresses, numbers or links" in text


def test_the_model_cards_section_says_the_same() -> None:
    section = card_section(FIGURES)
    assert section.startswith("## Does it sound like the person")
    assert [line[2:] for line in section.splitlines() if line.startswith("- ")] == sentences(FIGURES)


def test_without_replies_to_retrieve_content_is_not_said() -> None:
    content = {"tuned": {"f1": 0.1}, "base": {"f1": 0.1}, "retrieval": {"f1": None}}
    text = "\n".join(sentences(FIGURES | {"content": content}))
    assert "of their words" not in text
    assert "went 75 %" in text
