"""Guidance, min_p and fit against what their papers define, computed without a cache; and what they refuse."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers.chat_models import CONFIG, config, save_base, save_tuned, speaker
from torch import Tensor

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.generation import decoding
from jaegpt.generation.prompts import Prompt
from jaegpt.generation.sampling import sample, uniform_draws
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker

HISTORIES: list[list[Turn]] = [
    [(False, "hi")],
    [(False, "what did you do?"), (True, "slept"), (False, "all day long? I was out in the rain")],
    [(True, "me first"), (False, "ok é 😀")],
    [],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = save_base(tmp_path_factory.mktemp("model") / "base")
    return save_tuned(base.parent / "tuned", base)


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Speaker:
    return speaker(folder, learn="sessions")


def logits(one: Speaker, ids: list[int]) -> Tensor:
    """After the last token, [vocabulary]; the whole row is computed again."""
    with torch.no_grad():
        return one.model.lm(torch.tensor([ids])).logits[0, -1].float()


def naive(
    one: Speaker, history: list[Turn], settings: GenerateConfig, seed: int, number: int
) -> tuple[list[int], float]:
    """Candidate `number` with guidance as its formula says, token by token, and its fit."""
    prompt, free = one.prompt(history, settings).ids, encode_history(one.encoder, [])[0]
    (draws,) = uniform_draws(prompt, seed, range(number, number + 1), settings.max_tokens)
    stop = one.encoder.end_of_turn[-1]
    written: list[int] = []
    fit = 0.0
    for draw in draws:
        inside, outside = logits(one, prompt + written), logits(one, free + written)
        guided = outside + settings.guidance * (inside - outside)
        for token in one.encoder.controls - ({stop} if written else set()):
            guided[token] = -torch.inf
        token = int(
            sample(
                guided[None],
                torch.tensor([draw], dtype=torch.float32),
                top_p=settings.top_p,
                top_k=settings.top_k,
                temperature=settings.temperature,
            )
        )
        fit += float(inside.log_softmax(-1)[token] - outside.log_softmax(-1)[token])
        if token == stop:
            break
        written.append(token)
    return written, fit


@pytest.mark.parametrize("guidance", [0, 1.5, 3])
def test_guided_replies_are_those_of_the_formula_without_a_cache(tuned: Speaker, guidance: float) -> None:
    settings = config(guidance=guidance, no_repeat_ngram=0, max_tokens=12)
    expected = [tuned._text(naive(tuned, history, settings, 3, 0)[0]) for history in HISTORIES]
    assert [reply.text for reply in tuned.replies(HISTORIES, settings, 3)] == expected
    assert ["".join(tuned.stream(history, settings, 3)) for history in HISTORIES] == expected
    unguided = [reply.text for reply in tuned.replies(HISTORIES, config(no_repeat_ngram=0, max_tokens=12), 3)]
    assert expected[:3] != unguided[:3]
    assert expected[3] == unguided[3], "first words have no context to go by"


@pytest.mark.parametrize("guidance", [1, 1.5])
def test_fit_takes_the_candidate_that_its_context_makes_likelier_by_most(tuned: Speaker, guidance: float) -> None:
    settings = config(rerank="fit", candidates=4, guidance=guidance, no_repeat_ngram=0, max_tokens=12)
    for history, reply in zip(HISTORIES[:3], tuned.replies(HISTORIES[:3], settings, 5), strict=True):
        drawn = [naive(tuned, history, settings, 5, number) for number in range(4)]
        ids, fit = max(drawn, key=lambda one: one[1])
        assert len({tuned._text(one) for one, _ in drawn}) > 1
        assert reply.text == tuned._text(ids)
        assert reply.score == pytest.approx(fit, abs=1e-3)


def test_what_compares_with_first_words_needs_a_model_that_learned_them(folder: Path) -> None:
    never = speaker(folder)
    for changes in ({"guidance": 1.5}, {"rerank": "fit", "candidates": 2}):
        with pytest.raises(JaegptError, match=r"never learned any.*dataset\.learn to sessions"):
            never.replies(HISTORIES[:1], config(**changes), 1)
    assert never.replies(HISTORIES[:1], config(rerank="fit"), 1)[0].text, "with one candidate there is no choice"
    assert never.replies(HISTORIES[:1], CONFIG, 1)[0].score is None


def test_under_several_settings_each_history_is_read_once(tuned: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [config(max_tokens=12), config(max_tokens=12, guidance=1.5), config(max_tokens=12, temperature=0.5)]
    alone = [tuned.replies(HISTORIES, one, 3) for one in settings]
    reads, padded = [], decoding._padded

    def counted(prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, ...]:
        reads.append(len(prompts))
        return padded(prompts, device)

    monkeypatch.setattr(decoding, "_padded", counted)
    assert tuned.replies_under(HISTORIES, settings, 3) == alone
    assert reads == [len(HISTORIES) + 1], "the histories and the empty one, all in one batch"
