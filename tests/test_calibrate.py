"""The choice of how to draw: what gives a model away is found by one figure or another, and what matches is chosen."""

import dataclasses

import numpy as np
import pytest
from helpers.chats import WORDS, Context, context, other_text, texts
from helpers.models import CPU
from helpers.readings import PAIRS, read

from jaegpt.dialogue.encoding import Encoder
from jaegpt.evaluation.calibrate import COLUMNS, NAMES, Owner, Said, calibrate, choose, plot_rows, summary, try_setting
from jaegpt.evaluation.content import token_f1
from jaegpt.evaluation.intervals import NotMeasured
from jaegpt.evaluation.judges import JUDGES, deal_folds, share, wins
from jaegpt.evaluation.reading import Reader
from jaegpt.generation.settings import DEFAULT
from jaegpt.generation.speaker import Speaker

COUNT = 240


def question(rng: np.random.Generator) -> str:
    return " ".join([*rng.choice(WORDS, 3).tolist(), *rng.choice(PAIRS, 3).tolist()]).capitalize() + "?"


def reply_to(said: str, rng: np.random.Generator) -> str:
    """Takes up a word or two of what was said, among others."""
    taken = rng.choice(said.lower().rstrip("?").split(), rng.integers(1, 4)).tolist()
    own = [*taken, *rng.choice(WORDS, 3).tolist(), *rng.choice(PAIRS, rng.integers(1, 4)).tolist()]
    rng.shuffle(own)
    return " ".join(["haha" if rng.random() < 0.5 else "well", *own])


def replies_to(contexts: list[Context], seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [reply_to(one.history[-1][1], rng) for one in contexts]


def asked(count: int, seed: int) -> list[Context]:
    """Contexts of one turn, with the owner's replies."""
    rng = np.random.default_rng(seed)
    said = [question(rng) for _ in range(count)]
    return [context(f"{seed}-{number}", text, reply=reply_to(text, rng)) for number, text in enumerate(said)]


CONTEXTS = asked(COUNT, 1)
REAL = [one.reply for one in CONTEXTS]
TRAIN = [one.reply for one in asked(400, 2)]
SAID = Said(train=TRAIN, others=texts(other_text, 400, 3), base=texts(other_text, 200, 4))
OWNER = Owner.known(CONTEXTS, read(REAL, CONTEXTS), SAID, seed=5)
WAYS = [dataclasses.replace(DEFAULT, temperature=1 - number / 10) for number in range(4)]


def tried(replies: list[str], way: int = 0):
    return try_setting(WAYS[way], replies, read(replies, CONTEXTS), OWNER)


def five_sentences() -> list[str]:
    return np.random.default_rng(6).choice(TRAIN[:5], COUNT).tolist()


def copier() -> list[str]:
    """What the owner said before, word for word, whatever is asked."""
    return TRAIN[:COUNT]


def shuffled() -> list[str]:
    return [*REAL[1:], REAL[0]]


def parrot() -> list[str]:
    rng = np.random.default_rng(7)
    return [
        " ".join(["well", *rng.permutation(one.history[-1][1].lower().rstrip("?").split()).tolist()])
        for one in CONTEXTS
    ]


def untrained() -> list[str]:
    rng = np.random.default_rng(8)
    return ["".join(rng.choice(list("etaoinshrdlu   "), 30).tolist()) for _ in CONTEXTS]


# Judges


def test_the_owner_against_himself_is_told_apart_in_half_of_the_pairs() -> None:
    means = []
    for seed in range(4):
        own = replies_to(CONTEXTS, 100 + seed)
        found = tried(own).figures
        for key in ("told_apart", "told_apart_text", "told_apart_reading"):
            low, high = found[f"{key}_ci"]
            assert low - 0.02 < 0.5 < high + 0.02
            means.append(found[key])
        assert found["fit"] == pytest.approx(1, abs=0.25)
        assert found["context_words"] == pytest.approx(OWNER.figures["context_words"], rel=0.25)
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("bad", "by", "least"),
    [
        (five_sentences, "told_apart_text", 0.8),
        (parrot, "told_apart_reading", 0.8),
        (shuffled, "told_apart_reading", 0.6),
        (copier, "told_apart_reading", 0.6),
        (untrained, "told_apart_text", 0.95),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_gives_a_model_away_is_found_and_not_chosen(bad, by, least) -> None:
    good, found = tried(replies_to(CONTEXTS, 9)), tried(bad(), 1)
    assert found.figures[by] > least
    choice = choose([found, good], OWNER)
    assert choice.chosen == good.config
    assert choice.satisfied


def test_the_best_of_bad_settings_is_no_match() -> None:
    good = {"fit": 1.0, "context_words": OWNER.figures["context_words"]}
    bad = [tried(five_sentences(), seed) for seed in (1, 2)]
    choice = choose([dataclasses.replace(one, figures=one.figures | good) for one in bad], OWNER)
    assert choice.chosen == bad[0].config
    assert not choice.satisfied


def test_the_figures_beside_the_judges_show_what_is_wrong() -> None:
    own = OWNER.figures
    assert tried(shuffled()).figures["fit"] < 0.8
    assert tried(parrot()).figures["context_words"] > 1.25 * own["context_words"]
    assert tried(untrained()).figures["likelihood"] < own["likelihood"] - 1
    assert tried(five_sentences()).figures["different"] < 0.1 < own["different"]
    assert tried(REAL).figures["style_score"] == pytest.approx(1)
    assert tried(REAL).figures["f1"] == 1 > tried(shuffled()).figures["f1"]
    mean = np.mean([token_f1(*pair) for pair in zip(shuffled(), REAL, strict=True)])
    assert tried(shuffled()).figures["f1"] == pytest.approx(mean)


def test_of_those_that_match_the_likeliest_is_chosen() -> None:
    """The same replies, but for one in ten whose last word is noise that no judge has seen often enough."""
    good = replies_to(CONTEXTS, 9)
    odd = [f"{text} q{number}" if number % 10 == 0 else text for number, text in enumerate(good)]
    first, second = tried(odd, 0), tried(good, 1)
    assert first.figures["likelihood"] < second.figures["likelihood"]
    for rows in ([first, second], [second, first]):
        assert choose(rows, OWNER).chosen == second.config


def test_programs_without_guidance_get_the_best_setting_without() -> None:
    good, other = tried(replies_to(CONTEXTS, 9)), tried(shuffled(), 1)
    guided = dataclasses.replace(good, config=dataclasses.replace(good.config, guidance=1.2))
    choice = choose([guided, other], OWNER)
    assert choice.chosen.guidance == 1.2
    assert choice.without_guidance == other.config


def test_judges_do_not_depend_on_the_order_of_the_contexts() -> None:
    names = [one.example_id for one in CONTEXTS[:120]]
    own, few = REAL[:120], five_sentences()[:120]
    both = tuple(read(side, CONTEXTS[:120]) for side in (own, few))
    back = tuple(read(side[::-1], CONTEXTS[:120][::-1]) for side in (own, few))
    there, again = wins(own, few, names, 3, both), wins(own[::-1], few[::-1], names[::-1], 3, back)
    assert set(there) == set(JUDGES)
    for judge in JUDGES:
        np.testing.assert_allclose(there[judge], again[judge][::-1])
    assert (deal_folds(names, 3) == deal_folds(names[::-1], 3)[::-1]).all()
    assert np.bincount(deal_folds(names, 3)).tolist() == [24] * 5
    with pytest.raises(NotMeasured) as caught:
        wins(own[:99], few[:99], names[:99], 3)
    assert caught.value.counts == {"contexts": 99, "needed": 100}


def test_an_interval_reaches_beyond_its_share_even_where_all_pairs_come_out_alike() -> None:
    value, (low, high) = share(np.ones(100), 1)
    assert value == high == 1
    assert 0.95 < low < 0.97  # the exact interval of 100 of 100
    value, (low, high) = share(np.tile([1.0, 0.0], 50), 1)
    assert value == 0.5
    assert low == pytest.approx(0.4, abs=0.02)
    assert high == pytest.approx(0.6, abs=0.02)


# The whole stage, with a model


def test_each_setting_of_the_grid_is_drawn_judged_and_plotted(tiny) -> None:
    """The tiny model is untrained, and reads bytes: no setting of it passes for the owner."""
    view = {"block_size": 256, "token_types": False, "device": CPU}
    speaker = Speaker(tiny, num_history=1, learn="sessions", separator="newline", **view)
    reader = Reader(str(tiny), separator="newline", **view)
    contexts = CONTEXTS[:100]
    short = dataclasses.replace(SAID, train=[text[:12] for text in TRAIN])
    content, choice = calibrate(speaker, reader, contexts, short, seed=1)
    assert content["contexts"] == 100
    assert len(content["grid"]) == 6
    assert {row["settings"]["guidance"] for row in content["grid"]} == {1, 1.2}
    assert content["satisfied"] is choice.satisfied is False
    assert content["chosen"]["max_tokens"] == choice.chosen.max_tokens == 12
    assert choice.without_guidance.guidance == 1
    assert min(row["told_apart_text"] for row in content["grid"]) > 0.95
    rows = plot_rows(content)
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert len({row[0] for row in rows}) == 6
    assert rows[4][0] == "t 1, top_p 1, guidance 1.2"
    assert "no setting matches the owner" in summary(content)
    # The same numbers each time, and settings without guidance where the model never learned first words.
    speaker.learn = "replies"
    plain, _ = calibrate(speaker, reader, contexts, short, seed=1)
    assert plain["grid"] == content["grid"][:4]


def test_too_few_contexts_take_the_defaults_and_say_so(tiny) -> None:
    speaker = Speaker(tiny, num_history=1, block_size=256, device=CPU)
    content, choice = calibrate(speaker, None, CONTEXTS[:99], SAID, seed=1)
    assert content["grid"] == plot_rows(content) == []
    assert content["reasons"] == {"grid": {"contexts": 99, "needed": 100}}
    expected = int(np.ceil(np.percentile([len(text) + 1 for text in TRAIN], 99)))
    assert content["chosen"]["max_tokens"] == choice.chosen.max_tokens in (expected, expected - 1)
    assert {name: getattr(choice.chosen, name) for name in NAMES} == {name: getattr(DEFAULT, name) for name in NAMES}
    assert "100 are needed" in summary(content)


# The reader


def test_readings_equal_those_of_one_reply_at_a_time(tiny) -> None:
    reader = Reader(str(tiny), block_size=128, token_types=False, separator="newline", device=CPU)
    contexts = [context("a", "how are you", "ok?"), context("b", "x"), context("c", "what is for dinner today")]
    writers = {"one": ["fine", "y", "soup\nand bread"], "two": ["no", "longer than the others", "z" * 200]}
    together = reader.read(writers, contexts)
    encoder = Encoder(tiny)
    assert together["two"].num_tokens[2] == 64  # half of the block
    assert together["one"].num_tokens[0] == len(encoder.tokenize(["fine"])[0]) + len(encoder.end_of_turn)
    for name, replies in writers.items():
        for number, (one, text) in enumerate(zip(contexts, replies, strict=True)):
            alone = reader.read({name: [text]}, [one])[name]
            for field in ("states", "in_context", "alone", "lowest", "num_tokens"):
                got, expected = getattr(together[name], field)[number], getattr(alone, field)[0]
                np.testing.assert_allclose(got, expected, atol=1e-3, err_msg=f"{name} {number} {field}")
    # A context counts in `in_context` alone.
    twice = reader.read({"same": ["fine", "fine", "fine"]}, contexts)["same"]
    assert len(set(twice.alone.tolist())) == 1
    assert len(set(twice.in_context.round(4).tolist())) == 3
    assert (twice.lowest <= twice.in_context / twice.num_tokens).all()
    assert reader.read({"nobody": []}, []) == {}
