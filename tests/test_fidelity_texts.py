"""The figures that follow from the replies alone, against small cases worked out by hand and invented chats."""

import re
from itertools import pairwise

import numpy as np
import pytest
from helpers.chats import chat_tables, context, other_text, own_text, texts
from helpers.readings import read

from jaegpt.errors import JaegptError
from jaegpt.evaluation.baselines import other_replies, random_replies, retrieved_replies, split_others
from jaegpt.evaluation.content import familiar
from jaegpt.evaluation.contexts import choose_contexts, contexts_of, read_replies, write_replies
from jaegpt.evaluation.fidelity import Figures, Material, text_figures
from jaegpt.evaluation.intervals import NotMeasured, exact_interval
from jaegpt.evaluation.judges import MIN_CONTEXTS, share, wins
from jaegpt.evaluation.plain_words import sentences
from jaegpt.evaluation.style import MIN_TEXTS, StyleJudge, judge_auc, style_score
from jaegpt.evaluation.surface import words


def material(count: int = 60, tuned=None, base=None, **changes) -> Material:
    """Invented chats; by default both models write like the others."""
    sessions, examples = chat_tables()
    chosen = changes.get("contexts", choose_contexts(examples, count, 3))
    tuned = texts(other_text, count, 8) if tuned is None else tuned
    values = {
        "train": contexts_of(examples, "train"),
        "valid": contexts_of(examples, "valid"),
        "contexts": chosen,
        "tuned": tuned,
        "base": texts(other_text, count, 9) if base is None else base,
        "readings": {"owner": read([one.reply for one in chosen], chosen), "tuned": read(tuned, chosen)},
        "talked": [],
        "talks": [],
        "repeats": (0, 0),
        "others": other_replies(sessions),
        "tokens": {"train": [], "valid": []},
        "block_size": 128,
        "seed": 3,
    }
    return Material(**values | changes)


def measured_texts(given: Material) -> dict:
    figures = Figures()
    text_figures(given, figures)
    return figures.content()


# Contexts and their tables


def test_contexts_depend_on_their_own_names_alone() -> None:
    _, examples = chat_tables()
    chosen = [one.example_id for one in choose_contexts(examples, 40, 1)]
    assert len(set(chosen)) == 40
    assert chosen == [one.example_id for one in contexts_of(examples, "valid") if one.example_id in chosen]
    # Without an example that was not chosen, the same ones are; another seed takes others.
    spare = next(one for one in contexts_of(examples, "valid") if one.example_id not in chosen)
    rest = examples.filter(np.array([name != spare.example_id for name in examples["example_id"].to_pylist()]))
    assert [one.example_id for one in choose_contexts(rest, 40, 1)] == chosen
    assert [one.example_id for one in choose_contexts(examples, 40, 2)] != chosen
    assert len(choose_contexts(examples, 10**6, 1)) == len(contexts_of(examples, "valid"))


def test_replies_are_read_as_written_and_for_these_contexts_only(tmp_path) -> None:
    contexts = [context(str(number), "hi") for number in range(5)]
    write_replies(tmp_path / "replies", contexts, ["a", "", "ü", "d", "e"])
    assert read_replies(tmp_path / "replies", contexts[::-1]) == ["e", "d", "ü", "", "a"]
    before = (tmp_path / "replies/part-00000.parquet").read_bytes()
    write_replies(tmp_path / "replies", contexts, ["a", "", "ü", "d", "e"])
    assert (tmp_path / "replies/part-00000.parquet").read_bytes() == before
    with pytest.raises(JaegptError, match="no reply to 1 of 6 contexts"):
        read_replies(tmp_path / "replies", [*contexts, context("new", "hi")])


def test_others_replies_are_the_mirror_of_the_owners() -> None:
    sessions, examples = chat_tables(num_threads=2)
    rows = sessions.to_pylist()
    expected = [
        row["text"]
        for before, row in pairwise(rows)
        if not row["is_owner"]
        and (before["thread_id"], before["session_index"]) == (row["thread_id"], row["session_index"])
    ]
    others = other_replies(sessions)
    assert [other.text for other in others] == expected
    valid = contexts_of(examples, "valid")
    learned, held_out = split_others(others, valid)
    assert len(learned) + len(held_out) == len(expected)
    sessions_held_out = {(one.thread_id, one.session_index) for one in valid}
    count = sum((other.thread_id, other.session_index) in sessions_held_out for other in others)
    assert len(held_out) == count > 5


def test_retrieval_finds_the_context_with_the_same_words() -> None:
    train = [
        context("1", "how was the concert", reply="loud"),
        context("2", "did you feed the cat", "the grey one", reply="twice"),
        context("3", "what is for dinner", reply="soup"),
    ]
    asked = [context("4", "is the cat fed", "the grey one"), context("5", "dinner soon?"), context("6", "xyzzy")]
    found = retrieved_replies(asked, train, 1)
    assert found[:2] == ["twice", "soup"]
    assert found[2] in {"loud", "twice", "soup"}  # no word in common: a random one, the same each time
    assert found == retrieved_replies(asked, train, 1)
    drawn = random_replies([context(str(n), "a") for n in range(3000)], ["a", "b", "c"], 1)
    assert all(850 < drawn.count(letter) < 1150 for letter in "abc")


# Style


def test_the_judge_knows_the_owner_and_no_text_by_heart() -> None:
    own, other = texts(own_text, 400, 1), texts(other_text, 400, 2)
    judge = StyleJudge(own, other, 0)
    new_own, new_other = texts(own_text, 100, 3), texts(other_text, 100, 4)
    assert judge.probabilities(new_own).mean() > 0.75
    assert judge.probabilities(new_other).mean() < 0.25
    assert judge_auc(judge.probabilities(new_own), judge.probabilities(new_other)) > 0.99
    # Texts that look alike on both sides: the judge learned from some, and must not take them for the owner's.
    same = texts(own_text, 800, 5)
    lost = StyleJudge(same[:400], same[400:], 0)
    assert abs(lost.probabilities(same[:400]).mean() - 0.5) < 0.1
    assert lost.probabilities([]).tolist() == []


def test_too_few_texts_are_not_judged() -> None:
    own = texts(own_text, MIN_TEXTS, 1)
    with pytest.raises(NotMeasured) as caught:
        StyleJudge(own, texts(other_text, MIN_TEXTS - 1, 2), 0)
    assert caught.value.counts == {"other_replies": MIN_TEXTS - 1, "needed": MIN_TEXTS}
    with pytest.raises(NotMeasured) as caught:
        StyleJudge(own, ["ok"] * MIN_TEXTS, 0)
    assert caught.value.counts == {"different_texts": 1, "needed": 2}


def test_the_style_score_is_the_share_of_the_way() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 200)
    owner, base = 0.7 + noise, 0.3 - noise
    for way in (0.0, 0.5, 1.0, 1.2):
        tuned = base + way * (owner - base)
        score, interval = style_score(owner, tuned, base, 1)
        assert score == pytest.approx(way)
        assert interval == pytest.approx([way, way])
    score, interval = style_score(owner, 0.5 + rng.normal(0, 0.1, 200), base, 1)
    assert interval is not None
    assert interval[0] < score < interval[1]
    assert 0.01 < interval[1] - interval[0] < 0.2
    with pytest.raises(NotMeasured):
        style_score(base, owner, owner, 1)
    # The owner hardly above the base model: a score, but no interval that would mean anything.
    assert style_score(0.5 + noise + 1e-4, owner, 0.5 - noise, 1)[1] is None


# All together


def test_the_owners_real_replies_score_above_other_peoples() -> None:
    figures = measured_texts(material(tuned=texts(own_text, 60, 5)))
    style = figures["style"]
    assert figures["contexts"] == 60
    assert style["owner"] > style["others"] + 0.5
    assert style["random"] == pytest.approx(style["owner"], abs=0.05)
    assert figures["style_auc"] > 0.95
    # A model that writes as the owner does is all the way there; its base model, which writes as others do, is not.
    assert figures["style_score"] == pytest.approx(1, abs=0.1)
    assert style["base"] == pytest.approx(style["others"], abs=0.1)
    assert figures["shape"]["casing"]["tuned"] < 0.2 < figures["shape"]["casing"]["base"]
    assert figures["reasons"] == {
        "told_apart": {"contexts": 60, "needed": MIN_CONTEXTS},
        "drift": {"talks": 0, "needed": 20},
    }


@pytest.mark.slow
def test_a_stranger_finds_what_is_different_and_only_that() -> None:
    alike = measured_texts(material(count=110, tuned=texts(own_text, 110, 5)))
    assert alike["told_apart_text_ci"][0] < 0.5 < alike["told_apart_text_ci"][1]
    unlike = measured_texts(material(count=110))
    assert min(unlike["told_apart"], unlike["told_apart_text"]) > 0.9


@pytest.mark.parametrize("number", [1, 5, 15])
def test_a_model_that_says_a_few_sentences_over_and_over_is_found_out(number: int) -> None:
    """Sentences of the owner's own: only their coming again gives them away."""
    few = np.random.default_rng(number).choice(texts(own_text, number, 5), 150).tolist()
    figures = measured_texts(material(count=150, tuned=few))
    assert figures["told_apart_text"] > 0.9
    low, high = figures["told_apart_text_ci"]
    assert 0.8 < low < figures["told_apart_text"] <= high <= 1


@pytest.mark.slow
def test_replies_drawn_as_the_owners_are_found_in_half_of_the_pairs() -> None:
    """Also where the owner says the same often, and where the model copies what is in training."""
    own = texts(own_text, 30, 6)
    names = [f"{number:04d}" for number in range(300)]
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        real, generated = (rng.choice(own, 300).tolist() for _ in range(2))
        value, (low, high) = share(wins(real, generated, names, seed)["text"], seed)
        assert low < value < high
        found.append(value)
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)
    assert np.std(found) < 0.06  # of 300 pairs; an interval leaves out that other texts would make another judge
    train = [one.reply for one in material().train]
    copied = measured_texts(material(count=150, tuned=np.random.default_rng(1).choice(train, 150).tolist()))
    assert copied["told_apart_text_ci"][0] < 0.5 < copied["told_apart_text_ci"][1]


# No way to the owner where one end of it is noise


def _bytes(rng: np.random.Generator) -> str:
    return bytes(rng.integers(0, 256, 20).tolist()).decode("utf-8", "replace")


def _letters(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("etaoinshrdlu      "), 30).tolist())


def _pieces(rng: np.random.Generator) -> str:
    """Random tokens of a large vocabulary: parts of words, and whole words that the chat does not have."""
    pieces = re.findall(r"\w+", "ing tion pre ible ural con phis xi ment ver ab sorb mem ora scope ization holy mouth")
    return "".join(rng.choice([*pieces, *(f" {piece}" for piece in pieces), " the", " river"], 20).tolist())


@pytest.mark.parametrize("noise", [_bytes, _letters, _pieces])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_noise_is_no_end_of_a_way(noise, side) -> None:
    given = {"tuned": texts(own_text, 60, 5), "base": texts(other_text, 60, 9)} | {side: texts(noise, 60, 3)}
    figures = measured_texts(material(**given))
    assert figures["style_score"] is figures["style_score_ci"] is None
    assert set(figures["reasons"]["style_score"]) > {f"familiar_words_{side}", "needed"}
    others = dict.fromkeys(("hits_own", "hits_others", "membership_auc", "exposure"))
    assert not [line for line in sentences(figures | others) if "of the way" in line]


def test_familiar_is_what_is_put_together_as_in_known_texts() -> None:
    known = ["see you at home", "ok", "好的"]
    assert familiar(["See you!", "you at work", "OK", ":)", "home"], known) == 4 / 5  # you-at, not at-work
    assert familiar(["at you see"], known) == 0
    assert familiar(["好的", "的好"], known) == 0.5
    assert familiar([], known) == familiar([":)"], known) == 0.0


def test_a_model_that_copies_training_replies_is_caught() -> None:
    given = material()
    long = [one.reply for one in given.train if len(words(one.reply)) >= 6]
    copied = measured_texts(material(tuned=long[:60]))
    assert copied["leak"]["tuned"] == copied["leak_replies"]["tuned"] == 1.0
    assert copied["leak_ci"]["tuned"] == [round(exact_interval(60, 60)[0], 4), 1.0]
    assert copied["leak"]["base"] < 0.1
    assert copied["leak"]["real"] < 0.1
    # Copying gains no style beyond the owner's own.
    assert copied["style"]["tuned"] == pytest.approx(copied["style"]["owner"], abs=0.05)


def test_figures_are_the_same_each_time() -> None:
    assert measured_texts(material()) == measured_texts(material())


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"others": []}, {"style": {"other_replies": 0}, "style_score": {"other_replies": 0}}),
        (
            {"contexts": [], "tuned": [], "base": []},
            {name: {"contexts": 0} for name in ("style", "shape", "content", "leak")},
        ),
        ({"train": []}, {"shape": {"owner_replies": 0}, "style": {"owner_replies": 0}}),
    ],
    ids=["one-sided", "no validation examples", "no training replies"],
)
def test_what_cannot_be_measured_is_null_with_a_reason(changes, missing) -> None:
    figures = measured_texts(material(**changes))
    for name, reason in missing.items():
        assert figures[name] is None
        assert reason.items() <= figures["reasons"][name].items()
    numbers = re.compile(r"[a-z_0-9]+")
    assert all(numbers.fullmatch(name) for name in figures["reasons"])
    assert figures["style_score"] is None
    assert figures["style_score_ci"] is None
