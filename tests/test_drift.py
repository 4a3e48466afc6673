"""A longer conversation: who speaks when, what is a repetition, and what a judge makes of each round."""

import numpy as np
import pytest
from helpers.chat_models import save_base
from helpers.chats import chat_tables, context, other_text, own_text, texts
from helpers.dialogue_reference import messages_of, table, turns_and_sessions
from helpers.models import CPU

from jaegpt.evaluation.contexts import choose_contexts
from jaegpt.evaluation.drift import ROUNDS, drift, owner_repetition, self_talk
from jaegpt.evaluation.intervals import NotMeasured
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker

SETTINGS = GenerateConfig(top_p=0.95, top_k=0, temperature=1.0, no_repeat_ngram=0, max_tokens=6, candidates=1)


def test_the_model_speaks_for_both_sides_in_turn(tmp_path) -> None:
    speaker = Speaker(save_base(tmp_path / "base"), num_history=4, device=CPU)
    asked = [context("a", "how are you?"), context("b", "and the cat", "is it fed")]
    talks = self_talk(speaker, asked, SETTINGS, 3)
    for one, talk in zip(asked, talks, strict=True):
        assert len(talk) == len(one.history) + ROUNDS
        assert [text for _, text in talk[: len(one.history)]] == [text for _, text in one.history]
        sides = [is_owner for is_owner, _ in talk[len(one.history) - 1 :]]
        assert sides == [number % 2 == 1 for number in range(ROUNDS + 1)]
    # The first turn is the reply that the context gets anyway.
    first = speaker.replies([one.history for one in asked], SETTINGS, 3)
    assert [talk[-ROUNDS][1] for talk in talks] == [reply.text for reply in first]
    assert self_talk(speaker, asked, SETTINGS, 3) == talks


def test_an_owner_repeats_what_was_said_in_the_last_five_own_turns_of_a_session() -> None:
    own = ["ok", "yeah", "OK!", "a", "b", "c", "d", "e", "ok", "fine"]
    turns = [message for text in own for message in ((1000, "Bo", False, text + "?"), (1000, "Ann", True, text))]
    later = [(3_600_000, "Bo", False, "new"), (1000, "Ann", True, "fine")] * 3
    threads = [[(gap, (sender, is_owner), text) for gap, sender, is_owner, text in (*turns, *later)]]
    sessions = table(turns_and_sessions(messages_of(threads), 95, None), "sessions")
    # "OK!" repeats "ok"; the second "ok" comes six turns later; "fine" in further sessions repeats nothing.
    assert owner_repetition(sessions) == (1, 9)


def talking(contexts, rounds: list[list[str]]):
    """[contexts] their history and `rounds` turns, the sides in turn."""
    return [
        [*one.history, *((number % 2 == 0, said[place]) for number, said in enumerate(rounds))]
        for place, one in enumerate(contexts)
    ]


def test_rounds_that_become_unlike_the_owner_and_repeat_are_seen_by_round() -> None:
    _, examples = chat_tables()
    contexts = choose_contexts(examples, 150, 3)
    talked = contexts[:40]
    tuned = texts(own_text, 150, 5)
    rounds = [texts(own_text, 40, 10 + number) for number in range(4)]
    rounds += [texts(other_text, 40, 20 + number) for number in range(4)]
    rounds[6] = rounds[4]
    found = drift(talking(talked, rounds), talked, contexts, tuned, (3, 100), seed=1)
    assert found["contexts"] == 40
    assert np.mean(found["told_apart_text"][:4]) == pytest.approx(0.5, abs=0.15)
    assert min(found["told_apart_text"][4:]) > 0.9
    assert found["repetition"][6] == 1
    assert [found["repetition"][place] for place in (0, 1, 2, 3, 4, 5, 7)] == [0] * 7
    assert found["repetition_owner"] == 0.03
    with pytest.raises(NotMeasured) as caught:
        drift(talking(talked[:19], rounds), talked[:19], contexts, tuned, (0, 0), seed=1)
    assert caught.value.counts == {"talks": 19, "needed": 20}
