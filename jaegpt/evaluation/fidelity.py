"""The figures of metrics/fidelity.json: does it sound like the person, and what does it give away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.dialogue.encoding import Encoder
from jaegpt.evaluation.baselines import OtherReply, random_replies, retrieved_replies, split_others
from jaegpt.evaluation.content import content_figures, familiar
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.intervals import MIN_CONTEXTS, NotMeasured, exact_interval, need
from jaegpt.evaluation.leak import Training
from jaegpt.evaluation.membership import draw_members, membership
from jaegpt.evaluation.ranking import Trial, hits, trials
from jaegpt.evaluation.scoring import CandidateScores, score_candidates
from jaegpt.evaluation.shape import shape_distances
from jaegpt.evaluation.style import StyleJudge, judge_auc, means, style_score, told_apart
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.packing import Example

DIGITS = 4  # that figures are rounded to; none is known better
# Of the owner's share of familiar words, what a model must reach for its distance to the owner to be one of style. On
# the sample the untouched base model reaches 0.85, stiff English 0.4, and random bytes, letters or tokens at most 0.03;
# with 100 training examples in place of 3,151 it is 0.75, 0.15 and 0.01.
LEAST_FAMILIAR = 0.1
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is measured on: all contexts of both sides, the chosen ones with both models' replies, what others replied.

    tuned, base: [contexts] generated replies. tokens: split -> the examples of that side that fit a block.
    """

    train: Sequence[Context]
    valid: Sequence[Context]
    contexts: Sequence[Context]
    tuned: Sequence[str]
    base: Sequence[str]
    others: Sequence[OtherReply]
    tokens: Mapping[str, Sequence[Example]]
    block_size: int
    seed: int


class Report:
    """Figures by name, and under `reasons` why one of them is null: name -> {what was found or needed: number}."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.reasons: dict[str, dict[str, float]] = {}

    def add(self, names: Sequence[str], measure: Callable[[], Mapping[str, Any]]) -> None:
        """Add the figures `names` that `measure` returns; all of them null, with the reason, when it cannot."""
        try:
            found = measure()
        except NotMeasured as reason:
            found = dict.fromkeys(names)
            self.reasons[names[0]] = reason.counts
        assert set(found) == set(names), (set(found), names)
        self.figures |= found

    def content(self) -> Figures:
        """All figures, rounded, and the reasons."""
        return _rounded({**self.figures, "reasons": self.reasons})


def text_figures(material: Material, report: Report) -> None:
    """Style, shape, content and leak: what the replies themselves tell."""
    sources = sources_of(material)
    judged = cache(partial(_judged, material, sources))
    real, owner = sources["owner"], [context.reply for context in material.train]

    def enough() -> None:
        need(MIN_CONTEXTS, contexts=len(material.contexts))

    def shape() -> Figures:
        enough()
        return {"shape": shape_distances(sources, owner)}

    def content() -> Figures:
        enough()
        return {"content": content_figures(sources, real)}

    def leak() -> Figures:
        enough()
        return _leak(Training(material.train), {"tuned": material.tuned, "base": material.base, "real": real})

    report.figures["contexts"] = len(material.contexts)
    report.add(("style_score", "style_score_ci"), lambda: _style_score(material, sources, judged()))
    report.add(("style", "style_auc"), lambda: _style(judged()))
    report.add(("told_apart", "told_apart_ci"), lambda: _told_apart(material, sources))
    if not sources["others"]:
        report.reasons["others"] = {"held_out_replies_of_others": 0}
    report.add(("shape",), shape)
    report.add(("content",), content)
    report.add(("leak", "leak_ci", "leak_replies", "leak_spans", "identifiers"), leak)


def model_figures(model: DoubleHeads, device: Device, encoder: Encoder, material: Material, report: Report) -> None:
    """hits@1 and membership: what the fine-tuned model's own scores and likelihoods tell."""
    tokens = {example.example_id: example for example in material.tokens["valid"]}
    tried = trials(material.contexts, tokens, material.others, encoder, material.block_size, material.seed)
    scores = score_candidates(model, [trial.example for trial in tried], device, "fidelity: ranking")
    for name, own in (("hits_own", True), ("hits_others", False)):
        report.add((name,), partial(_hits, name, tried, scores, own))

    def members() -> Figures:
        examples = draw_members(material.tokens["train"], material.tokens["valid"], material.seed)
        found = score_candidates(model, examples, device, "fidelity: membership")
        return membership(np.array([float(score.likelihood[0]) for score in found]), material.seed)

    report.add(("membership_auc", "membership_auc_ci", "membership_examples"), members)


def exposure_figure(measured: Mapping[str, Any], report: Report) -> None:
    """What the stage `exposure` found (metrics/exposure.json), or that it was not asked to."""

    def exposure() -> Figures:
        if measured["exposure"] is None:
            raise NotMeasured(canaries=measured["canaries"])
        return {"exposure": measured["exposure"]}

    report.add(("exposure",), exposure)


def sources_of(material: Material) -> dict[str, Sequence[str]]:
    """Source -> its replies: to the chosen contexts, and of `others` as many as there are contexts, drawn."""
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


def _judged(material: Material, sources: Mapping[str, Sequence[str]]) -> dict[str, Floats]:
    """Source -> [replies] the style judge's probability that the owner wrote it."""
    need(MIN_CONTEXTS, contexts=len(material.contexts))
    learned, _ = split_others(material.others, material.valid)
    judge = StyleJudge([context.reply for context in material.train], learned, material.seed)
    return {name: judge.probabilities(texts) for name, texts in sources.items()}


def _style_score(material: Material, sources: Mapping[str, Sequence[str]], judged: Mapping[str, Floats]) -> Figures:
    """How far fine-tuning went. The judge has no opinion of noise and gives it something in the middle, so that a model
    of noise would seem to have gone half of the way; neither end of the way may be noise."""
    known = [text for context in material.train for text in (context.reply, *(text for _, text in context.history))]
    shares = {f"familiar_words_{name}": familiar(sources[name], known) for name in ("owner", "base", "tuned")}
    needed = LEAST_FAMILIAR * shares["familiar_words_owner"]
    if min(shares.values()) < needed:
        raise NotMeasured(**shares, needed=needed)
    score, interval = style_score(judged["owner"], judged["tuned"], judged["base"], material.seed)
    return {"style_score": score, "style_score_ci": interval}


def _style(judged: Mapping[str, Floats]) -> Figures:
    knows = judge_auc(judged["owner"], judged["others"]) if len(judged["others"]) else None
    return {"style": means(judged), "style_auc": knows}


def _told_apart(material: Material, sources: Mapping[str, Sequence[str]]) -> Figures:
    names = [context.example_id for context in material.contexts]
    share, interval = told_apart(sources["owner"], sources["tuned"], names, material.seed)
    return {"told_apart": share, "told_apart_ci": interval}


def _hits(name: str, tried: Sequence[Trial], scores: Sequence[CandidateScores], own: bool) -> Figures:
    return {name: hits(tried, scores, own)}


def _leak(training: Training, sources: Mapping[str, Sequence[str]]) -> Figures:
    def shares(test: Callable[[str], bool]) -> dict[str, float]:
        return {name: sum(map(test, texts)) / len(texts) for name, texts in sources.items()}

    return {
        "leak": shares(training.leaks),
        "leak_ci": {
            name: exact_interval(sum(map(training.leaks, texts)), len(texts)) for name, texts in sources.items()
        },
        "leak_replies": shares(training.repeats_reply),
        "leak_spans": shares(training.shares_span),
        "identifiers": {name: training.known_identifiers(texts) for name, texts in sources.items()},
    }


def _rounded(value: Any) -> Any:
    """Figures to DIGITS, but what is neither 0 nor 1 becomes neither; of an interval the ends may."""
    if isinstance(value, float):
        least = 10.0**-DIGITS
        return round(min(max(value, least), 1 - least) if 0 < value < 1 else value, DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [round(item, DIGITS) for item in value] if isinstance(value, list) else value
