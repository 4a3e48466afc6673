"""The figures that follow from a model's scores: one candidate at a time, and with models known to be good or bad."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.chats import chat_tables
from helpers.models import CPU, random_examples

from jaegpt.dialogue.encode_table import encode_candidate, encode_examples
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.evaluation.baselines import OtherReply, other_replies
from jaegpt.evaluation.contexts import Context, answer_contexts, choose_contexts, contexts_of, open_speaker
from jaegpt.evaluation.exposure import (
    exposures,
    make_canaries,
    measure_exposure,
)
from jaegpt.evaluation.fidelity import Figures, Material, model_figures, text_figures
from jaegpt.evaluation.intervals import NotMeasured
from jaegpt.evaluation.membership import draw_members, membership
from jaegpt.evaluation.ranking import Lineup, hits, lineups
from jaegpt.evaluation.reading import Reader
from jaegpt.evaluation.scoring import CandidateScores, score_candidates
from jaegpt.generation.settings import GenerateConfig
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.loop import train
from jaegpt.training.model_folder import load_base, save_model
from jaegpt.training.packing import Example, examples_from_table

BLOCK = 1024  # the tiny model reads bytes
TRAIN = TrainConfig(
    learning_rate=5e-3,
    epochs=30,
    batch_size=8,
    warmup=0.05,
    weight_decay=0.0,
    max_grad_norm=1.0,
    pack_width=0,
    precision="fp32",
    token_types=False,
    evaluations=0,
    valid_examples=0,
    accumulation=1,
    mc_share=1,
    lora_rank=0,
    base_bits=16,
    adamw_bits=32,
    checkpoint_activations=False,
)
GREEDY = GenerateConfig(top_p=1.0, top_k=0, temperature=0.0, no_repeat_ngram=0, max_tokens=40, candidates=1)


@pytest.fixture(scope="module")
def chats(tiny: Path) -> Material:
    """Invented chats, with 24 examples to train on, 40 contexts, and no replies yet."""
    sessions, examples = chat_tables(num_threads=4, num_history=1)
    tokens = encode_examples(examples, Encoder(tiny))
    train_rows = contexts_of(examples, "train")[:24]
    names = {context.example_id for context in train_rows}
    return Material(
        train=train_rows,
        valid=contexts_of(examples, "valid"),
        contexts=choose_contexts(examples, 40, 3),
        tuned=[],
        base=[],
        readings={},
        talked=[],
        talks=[],
        repeats=(0, 0),
        others=other_replies(sessions),
        tokens={
            "train": [one for one in examples_from_table(tokens, "train", BLOCK) if one.example_id in names],
            "valid": examples_from_table(tokens, "valid", BLOCK),
        },
        block_size=BLOCK,
        seed=3,
    )


def answers(model: DoubleHeads, tiny: Path, contexts: list[Context], folder: Path) -> list[str]:
    """What the model replies, always taking the likeliest byte."""
    folder.mkdir()
    save_model(model, tiny, folder, "card", {})
    speaker = open_speaker(folder, contexts, block_size=BLOCK, token_types=False, device=CPU)
    return answer_contexts(speaker, contexts, GREEDY, 1)


# Scores


def test_scores_of_every_candidate_equal_those_of_one_at_a_time(tiny: Path) -> None:
    model = load_base(tiny, 3, token_types=False).eval()
    examples = random_examples(37)
    examples[5] = dataclasses.replace(examples[5], candidates=examples[5].candidates[:2])
    found = score_candidates(model, examples, CPU, "test")
    model.lm.set_attn_implementation("eager")
    assert len(found) == len(examples)
    for example, score in zip(examples, found, strict=True):
        assert len(score.head) == len(score.log_likelihood) == len(example.candidates)
        for number, candidate in enumerate(example.candidates):
            row = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
            with torch.no_grad():
                hidden = model.lm.transformer(row).last_hidden_state
                log_probabilities = model.lm.lm_head(hidden)[0].log_softmax(-1)
                assert score.head[number] == pytest.approx(model.score(hidden[0, -1]).item(), abs=1e-4)
            expected = sum(
                log_probabilities[place - 1, row[0, place]].item()
                for place in range(len(example.history), row.shape[1])
            )
            assert score.log_likelihood[number] == pytest.approx(expected, abs=2e-3)
            assert score.likelihood[number] == pytest.approx(expected / len(candidate), abs=2e-3)
    assert score_candidates(model, [], CPU, "test") == []


# Ranking


def scores_of(*rows: tuple[list[float], list[float]]) -> list[CandidateScores]:
    return [CandidateScores(np.array(a), np.array(b), np.ones(len(b), np.int64)) for a, b in rows]


def test_hits_look_at_one_kind_of_distractor_and_count_no_ties() -> None:
    example = random_examples(1, num_distractors=4)[0]
    shown = [Lineup(example, (True, True, False, False))] * 3
    scores = scores_of(
        ([0, 1, 5, 5, 2], [0, 0, 0, 0, 1]),  # first among own by the head, first by likelihood
        ([9, 9, 0, 0, 2], [0, 0, 0, 2, 1]),  # first among others by the head, among own by likelihood
        ([2, 0, 2, 0, 2], [0, 0, 0, 0, 1]),  # a tie is no hit
    )
    own, other = hits(shown, scores, own=True), hits(shown, scores, own=False)
    assert (own["head"], own["likelihood"]) == pytest.approx((1 / 3, 1))
    assert (other["head"], other["likelihood"]) == pytest.approx((1 / 3, 2 / 3))
    assert own["contexts"] == 3
    assert own["chance"] == pytest.approx(1 / 3)
    assert own["head_ci"] == pytest.approx([0.0084, 0.9057], abs=1e-4)
    with pytest.raises(NotMeasured):
        hits([], [], own=True)


def test_other_peoples_distractors_come_from_the_thread_and_another_session(tiny: Path, chats: Material) -> None:
    encoder = Encoder(tiny)
    tokens = {example.example_id: example for example in chats.tokens["valid"]}
    shown = lineups(chats.contexts, tokens, chats.others, encoder, BLOCK, 3)
    assert len(shown) == len(chats.contexts)
    for context, lineup in zip(chats.contexts, shown, strict=True):
        own = tokens[context.example_id].candidates
        assert lineup.is_own == (True,) * 3 + (False,) * 3
        assert [ids.tolist() for ids in lineup.example.candidates[:3]] == [ids.tolist() for ids in own[:3]]
        assert lineup.example.candidates[-1].tolist() == encode_candidate(encoder, context.reply)
        allowed = [
            encode_candidate(encoder, other.text)
            for other in chats.others
            if other.thread_id == context.thread_id and other.session_index != context.session_index
        ]
        drawn = [ids.tolist() for ids in lineup.example.candidates[3:6]]
        assert all(ids in allowed for ids in drawn)
        assert len({tuple(ids) for ids in drawn}) == 3
    # Where the thread has too few, from all threads; where nobody else ever replied, no lineup.
    few = [other for other in chats.others if other.thread_id != chats.contexts[0].thread_id]
    again = lineups(chats.contexts[:1], tokens, few, encoder, BLOCK, 3)
    assert [ids.tolist() for ids in again[0].example.candidates[3:6]] != [
        ids.tolist() for ids in shown[0].example.candidates[3:6]
    ]
    alone = lineups(chats.contexts, tokens, [OtherReply("t", 0, "hi")], encoder, BLOCK, 3)
    assert [lineup.is_own for lineup in alone] == [(True,) * 3] * len(chats.contexts), "own ones need nobody else"
    long = [OtherReply(f"t{number}", 0, f"{number} far too long " * BLOCK) for number in range(9)]
    assert {lineup.is_own for lineup in lineups(chats.contexts, tokens, long, encoder, BLOCK, 3)} == {(True,) * 3}
    assert lineups(chats.contexts, {}, chats.others, encoder, BLOCK, 3) == []


# Membership


def test_members_are_equally_many_of_both_sides(chats: Material) -> None:
    members = draw_members(chats.tokens["train"], chats.tokens["valid"], 1)
    assert len(members) == 48
    train_ids = {example.example_id for example in chats.tokens["train"]}
    assert [example.example_id in train_ids for example in members] == [True] * 24 + [False] * 24
    assert all(len(example.candidates) == 1 for example in members)
    with pytest.raises(NotMeasured) as caught:
        draw_members(chats.tokens["train"], chats.tokens["valid"][:19], 1)
    assert caught.value.counts == {"valid_examples": 19, "needed": 20}


def test_membership_is_the_auc_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    same = membership(rng.normal(0, 1, 600), 1)
    assert same["membership_auc_ci"][0] < 0.5 < same["membership_auc_ci"][1]
    known = membership(np.concatenate([rng.normal(1, 0.1, 300), rng.normal(0, 0.1, 300)]), 1)
    assert known["membership_auc"] == 1.0
    assert known["membership_examples"] == 600


# Models known to be bad


def test_a_model_that_knows_its_examples_by_heart_is_caught(tiny: Path, chats: Material) -> None:
    model = load_base(tiny, 1, False)
    train(model, Task(w_lm=1.0, w_mc=0.0, seed=1, train=chats.tokens["train"], valid=[]), TRAIN, CPU)
    measured = Figures()
    model_figures(model, CPU, Encoder(tiny), chats, measured)
    figures = measured.content()
    assert figures["membership_auc"] > 0.95
    assert figures["membership_auc_ci"][0] > 0.85, "24 of either side show no more"


def test_an_untrained_model_is_at_the_floor(tiny: Path, chats: Material, tmp_path: Path) -> None:
    sessions, examples = chat_tables(num_history=1)
    model = load_base(tiny, 5, False)
    with torch.no_grad():  # untrained as well, but not the same as the base model
        model.lm.lm_head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(7))
    contexts = choose_contexts(examples, 40, 3)
    tuned = answers(model, tiny, contexts, tmp_path / "tuned")
    reader = Reader(str(tiny), block_size=BLOCK, token_types=False, separator="space", device=CPU)
    given = dataclasses.replace(
        chats,
        train=contexts_of(examples, "train"),
        valid=contexts_of(examples, "valid"),
        contexts=contexts,
        tuned=tuned,
        readings=reader.read({"owner": [one.reply for one in contexts], "tuned": tuned}, contexts),
        base=answers(load_base(tiny, 1, False), tiny, contexts, tmp_path / "base"),
        others=other_replies(sessions),
    )
    measured = Figures()
    text_figures(given, measured)
    model_figures(model, CPU, Encoder(tiny), chats, measured)
    figures = measured.content()
    assert figures["style"]["tuned"] < figures["style"]["owner"] - 0.2
    assert figures["style_score"] is None, "the way from one noise to another"
    assert figures["content"]["tuned"]["f1"] < 0.05
    assert figures["leak"]["tuned"] == 0
    assert figures["membership_auc_ci"][0] < 0.5 < figures["membership_auc_ci"][1]
    for name in ("hits_own", "hits_others"):
        low, high = figures[name]["head_ci"]
        assert low < 0.5, name
        assert high < 0.75, name


# Exposure


def test_a_canary_seen_often_is_exposed_and_an_unseen_one_is_not(tiny: Path, chats: Material) -> None:
    encoder = Encoder(tiny)
    task = Task(w_lm=1.0, w_mc=0.0, seed=4, train=chats.tokens["train"][:8], valid=[])
    model = load_base(tiny, 1, False)
    config = dataclasses.replace(TRAIN, epochs=10)
    found = measure_exposure(model, encoder, task, config, CPU, count=2, block_size=BLOCK)
    assert set(found) == {"0", "1", "4", "16", "most"}
    assert found["most"] == 9.0
    assert found["16"] > 6, "heavily overfitted"
    assert found["16"] > found["0"] + 3
    untouched = exposures(load_base(tiny, 1, False), make_canaries(2, 4), encoder, CPU, 4)
    assert untouched["16"] < 5, "what no model has seen is not exposed"
    with pytest.raises(JaegptError, match="a canary does not fit 16 tokens"):
        measure_exposure(model, encoder, task, config, CPU, count=1, block_size=16)


def test_nothing_to_rank_or_compare_is_null_with_a_reason(tiny: Path, chats: Material) -> None:
    nothing: dict[str, list[Example]] = {"train": [], "valid": []}
    measured = Figures()
    given = dataclasses.replace(chats, contexts=[], tokens=nothing)
    model_figures(load_base(tiny, 1, False), CPU, Encoder(tiny), given, measured)
    figures = measured.content()
    assert [figures[name] for name in ("hits_own", "hits_others", "membership_auc")] == [None] * 3
    assert figures["reasons"]["hits_own"] == {"contexts_with_distractors": 0, "needed": 1}
    assert figures["reasons"]["membership_auc"] == {"train_examples": 0, "valid_examples": 0, "needed": 20}
