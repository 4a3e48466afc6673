"""The figures of metrics/fidelity.json: does it sound like the person, and what does it give away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.evaluation.baselines import OtherReply, random_replies, retrieved_replies, split_others
from jaegpt.evaluation.content import common_words, content_figures, context_words, familiar
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.drift import drift
from jaegpt.evaluation.intervals import MIN_CONTEXTS, NotMeasured, exact_interval, need, rounded
from jaegpt.evaluation.judges import JUDGES, told_apart, wins
from jaegpt.evaluation.leak import Training
from jaegpt.evaluation.membership import draw_members, membership
from jaegpt.evaluation.ranking import Lineup, hits, lineups
from jaegpt.evaluation.reading import Readings, fit
from jaegpt.evaluation.scoring import CandidateScores, score_candidates
from jaegpt.evaluation.style import StyleJudge, judge_auc, means, style_score
from jaegpt.evaluation.surface import surface_distances
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.packing import Example

# A model whose replies reach less than this part of the owner's share of familiar words is not far from the owner in
# style: it does not write language. On the sample the untouched base model reaches 0.85, stiff English 0.4, and random
# bytes, letters or tokens at most 0.03; with 100 training examples in place of 3,151 it is 0.75, 0.15 and 0.01.
LEAST_FAMILIAR = 0.1

TOLD_APART = tuple(name for figure in JUDGES.values() for name in (figure, f"{figure}_ci"))


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is measured on: all contexts of both sides, the chosen ones with both models' replies, what others replied.

    tuned, base: [contexts] generated replies. readings: what the base model made of the replies of `owner` and `tuned`.
    talks: of the contexts `talked`, what the model said to itself. repeats: owner turns that repeat one of the owner's
        last ones, and of how many. tokens: split -> the examples of that side that fit a block.
    """

    train: Sequence[Context]
    valid: Sequence[Context]
    contexts: Sequence[Context]
    tuned: Sequence[str]
    base: Sequence[str]
    readings: Mapping[str, Readings]
    talked: Sequence[Context]
    talks: Sequence[Sequence[Turn]]
    repeats: tuple[int, int]
    others: Sequence[OtherReply]
    tokens: Mapping[str, Sequence[Example]]
    block_size: int
    seed: int


class Figures:
    """Figures by name, and under `reasons` why one of them is null: name -> {what was found or needed: number}."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, dict[str, float]] = {}

    def add(self, names: Sequence[str], measure: Callable[[], Mapping[str, Any]]) -> None:
        """Add the figures `names` that `measure` returns; all of them null, with the reason, when it cannot."""
        try:
            found = measure()
        except NotMeasured as reason:
            found = dict.fromkeys(names)
            self.reasons[names[0]] = reason.counts
        assert set(found) == set(names), (set(found), names)
        self.values |= found

    def content(self) -> dict[str, Any]:
        """All figures, rounded, and the reasons."""
        return rounded({**self.values, "reasons": self.reasons})


def text_figures(material: Material, figures: Figures) -> None:
    """Style, surface, content and leak: what the replies themselves show."""
    replies = replies_by_writer(material)
    judged = cache(partial(_judged, material, replies))
    real, owner = replies["owner"], [context.reply for context in material.train]

    def enough() -> None:
        need(MIN_CONTEXTS, contexts=len(material.contexts))

    def surface() -> dict[str, Any]:
        enough()
        return {"shape": surface_distances(replies, owner)}

    def content() -> dict[str, Any]:
        enough()
        return {"content": content_figures(replies, real)}

    def leak() -> dict[str, Any]:
        enough()
        return _leak(Training(material.train), {"tuned": material.tuned, "base": material.base, "real": real})

    figures.values["contexts"] = len(material.contexts)
    figures.add(("style_score", "style_score_ci"), lambda: _style_score(material, replies, judged()))
    figures.add(("style", "style_auc"), lambda: _style(judged()))
    figures.add(TOLD_APART, lambda: _told_apart(material, replies))
    figures.add(("context_words",), lambda: _context_words(material, replies))
    figures.add(("fit",), lambda: _fit(material))
    figures.add(("drift",), lambda: {"drift": _drift(material)})
    if not replies["others"]:
        figures.reasons["others"] = {"held_out_replies_of_others": 0}
    figures.add(("shape",), surface)
    figures.add(("content",), content)
    figures.add(("leak", "leak_ci", "leak_replies", "leak_spans", "identifiers"), leak)


def model_figures(model: DoubleHeads, device: Device, encoder: Encoder, material: Material, figures: Figures) -> None:
    """hits@1 and membership: what the fine-tuned model's own scores and likelihoods show."""
    tokens = {example.example_id: example for example in material.tokens["valid"]}
    shown = lineups(material.contexts, tokens, material.others, encoder, material.block_size, material.seed)
    scores = score_candidates(model, [lineup.example for lineup in shown], device, "fidelity: ranking")
    for name, own in (("hits_own", True), ("hits_others", False)):
        figures.add((name,), partial(_hits, name, shown, scores, own))

    def members() -> dict[str, Any]:
        examples = draw_members(material.tokens["train"], material.tokens["valid"], material.seed)
        found = score_candidates(model, examples, device, "fidelity: membership")
        return membership(np.array([float(score.likelihood[0]) for score in found]), material.seed)

    figures.add(("membership_auc", "membership_auc_ci", "membership_examples"), members)


def exposure_figure(measured: Mapping[str, Any], figures: Figures) -> None:
    """What the stage `exposure` found (metrics/exposure.json), or that it was not asked to."""

    def exposure() -> dict[str, Any]:
        if measured["exposure"] is None:
            raise NotMeasured(canaries=measured["canaries"])
        return {"exposure": measured["exposure"]}

    figures.add(("exposure",), exposure)


def replies_by_writer(material: Material) -> dict[str, Sequence[str]]:
    """Writer -> replies: to the chosen contexts, and of `others` as many as there are contexts, drawn."""
    replies = [context.reply for context in material.train]
    _, others = split_others(material.others, material.valid)
    count = min(len(others), len(material.contexts))
    rows = np.random.default_rng([material.seed, len(others)]).choice(len(others), count, replace=False)
    return {
        "owner": [context.reply for context in material.contexts],
        "tuned": material.tuned,
        "base": material.base,
        "random": random_replies(material.contexts, replies, material.seed) if replies else [],
        "retrieval": retrieved_replies(material.contexts, material.train, material.seed) if replies else [],
        "others": [others[row] for row in sorted(rows.tolist())],
    }


def _judged(material: Material, replies: Mapping[str, Sequence[str]]) -> dict[str, Floats]:
    """Writer -> [replies] the style judge's probability that the owner wrote it."""
    need(MIN_CONTEXTS, contexts=len(material.contexts))
    learned, _ = split_others(material.others, material.valid)
    judge = StyleJudge([context.reply for context in material.train], learned, material.seed)
    return {name: judge.probabilities(texts) for name, texts in replies.items()}


def _style_score(
    material: Material, replies: Mapping[str, Sequence[str]], judged: Mapping[str, Floats]
) -> dict[str, Any]:
    """How far fine-tuning went from the base model to the owner.

    The judge has learned nothing about noise and rates it somewhere in the middle, so that a model of noise would seem
    to have gone half of the way. So none of the three may be noise.
    """
    known = [text for context in material.train for text in (context.reply, *(text for _, text in context.history))]
    shares = {f"familiar_words_{name}": familiar(replies[name], known) for name in ("owner", "base", "tuned")}
    needed = LEAST_FAMILIAR * shares["familiar_words_owner"]
    if min(shares.values()) < needed:
        raise NotMeasured(**shares, needed=needed)
    score, interval = style_score(judged["owner"], judged["tuned"], judged["base"], material.seed)
    return {"style_score": score, "style_score_ci": interval}


def _style(judged: Mapping[str, Floats]) -> dict[str, Any]:
    knows = judge_auc(judged["owner"], judged["others"]) if len(judged["others"]) else None
    return {"style": means(judged), "style_auc": knows}


def _told_apart(material: Material, replies: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    names = [context.example_id for context in material.contexts]
    readings = material.readings["owner"], material.readings["tuned"]
    return told_apart(wins(replies["owner"], replies["tuned"], names, material.seed, readings), material.seed)


def _context_words(material: Material, replies: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    need(MIN_CONTEXTS, contexts=len(material.contexts))
    common = common_words([context.reply for context in material.train])
    histories = [[text for _, text in context.history] for context in material.contexts]
    shares = {name: context_words(replies[name], histories, common) for name in ("tuned", "owner")}
    return {"context_words": shares}


def _fit(material: Material) -> dict[str, Any]:
    need(MIN_CONTEXTS, contexts=len(material.contexts))
    own = material.readings["owner"]
    found = fit(material.readings["tuned"], own)
    if found is None:
        raise NotMeasured(owner_gain=own.gain)
    return {"fit": found}


def _drift(material: Material) -> dict[str, Any]:
    return drift(material.talks, material.talked, material.contexts, material.tuned, material.repeats, material.seed)


def _hits(name: str, shown: Sequence[Lineup], scores: Sequence[CandidateScores], own: bool) -> dict[str, Any]:
    return {name: hits(shown, scores, own)}


def _leak(training: Training, replies: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    def shares(test: Callable[[str], bool]) -> dict[str, float]:
        return {name: sum(map(test, texts)) / len(texts) for name, texts in replies.items()}

    return {
        "leak": shares(training.leaks),
        "leak_ci": {
            name: exact_interval(sum(map(training.leaks, texts)), len(texts)) for name, texts in replies.items()
        },
        "leak_replies": shares(training.repeats_reply),
        "leak_spans": shares(training.shares_span),
        "identifiers": {name: training.known_identifiers(texts) for name, texts in replies.items()},
    }
