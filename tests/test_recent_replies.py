"""A reply does not repeat one of the model's last five turns, unless the model says it in three draws of three."""

import pytest
from helpers.chat_models import config, save_base, save_tuned, speaker
from test_guidance import naive

from jaegpt.dialogue.encoding import Turn
from jaegpt.generation.speaker import Speaker

ASKED: Turn = (False, "what did you do?")
SETTINGS = config(no_repeat_ngram=0, max_tokens=12)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Speaker:
    """It is shown the last turn only, so that turns before it change nothing but what may be said again."""
    base = save_base(tmp_path_factory.mktemp("model") / "base")
    return speaker(save_tuned(base.parent / "tuned", base), learn="sessions", num_history=1)


@pytest.fixture(scope="module")
def drawn(one: Speaker) -> list[str]:
    """What is drawn first, second and third."""
    texts = [one._text(naive(one, [ASKED], SETTINGS, 3, number)[0]) for number in range(3)]
    assert len(set(texts)) == 3
    return texts


def said(*texts: str) -> list[Turn]:
    return [*((True, text) for text in texts), ASKED]


def test_what_was_said_is_drawn_again_and_the_third_draw_stands(one: Speaker, drawn: list[str]) -> None:
    first, second, third = drawn
    others = ["a", "b", "c", "d", "e"]
    histories = [
        said(), said("x"), said(first), said(second, first), said(first, second, third), said(first, *others),
        said(first, *others[1:]), [(False, first), ASKED],
    ]  # fmt: skip
    expected = [first, first, second, third, third, first, second, first]
    assert [reply.text for reply in one.replies(histories, SETTINGS, 3)] == expected
    assert [one.replies([history], SETTINGS, 3)[0].text for history in histories] == expected


def test_nothing_is_shown_of_a_reply_that_is_drawn_again(one: Speaker, drawn: list[str]) -> None:
    first, second, _ = drawn
    assert "".join(one.stream(said(first), SETTINGS, 3)) == second
    assert len(list(one.stream(said(), SETTINGS, 3))) > 1
    held = list(one.stream(said(f"{first}!"), SETTINGS, 3))
    assert held == [first], "held back while it could still become what was said"


def test_the_likeliest_words_are_said_again(one: Speaker) -> None:
    greedy = config(temperature=0)
    (reply,) = one.replies([said()], greedy, 3)
    assert one.replies([said(reply.text)], greedy, 3)[0].text == reply.text


def test_among_candidates_the_best_new_one_is_taken(one: Speaker) -> None:
    several = config(rerank="fit", candidates=3, no_repeat_ngram=0, max_tokens=12)
    ranked = sorted((naive(one, [ASKED], several, 3, number) for number in range(3)), key=lambda drawn: -drawn[1])
    best, next_best, _ = (one._text(ids) for ids, _ in ranked)
    assert one.replies([said()], several, 3)[0].text == best
    assert one.replies([said(best)], several, 3)[0].text == next_best
