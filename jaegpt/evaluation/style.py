"""Who wrote it? A judge that knows how the owner writes, from character n-grams alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

from jaegpt.arrays import Floats, Ints
from jaegpt.dialogue.draws import text_hashes, thread_key
from jaegpt.evaluation.intervals import NotMeasured, bootstrap_rows, exact_interval, middle_95, need

NUM_FOLDS = 5
NUM_DEALS = 3  # of contexts into folds, so that the luck of one deal does not decide whether two models differ
MIN_TEXTS = 100  # of either side, to learn from
MAX_TEXTS = 20_000  # of either side; more do not change the judge, only its time


class StyleJudge:
    """Probability that the owner wrote a text, by a logistic regression on TF-IDF of character n-grams.

    Texts are dealt into folds by what they say, and each text is judged by the one model that learned from the other
    folds. So no text is judged by a model that has seen it, and a source that repeats training replies word for word
    (the random and the retrieved ones, a model that copies) has no advantage over one that does not.

    It does not serve to tell a model from the owner: whoever deals a repeated sentence into one fold hides from the
    judge that it is repeated. `told_apart` deals contexts.

    Args:
        owner, others: texts to learn from. Both sides weigh the same, so 0.5 means "cannot tell".

    Raises:
        NotMeasured: either side has fewer than MIN_TEXTS.
    """

    def __init__(self, owner: Sequence[str], others: Sequence[str], seed: int) -> None:
        need(MIN_TEXTS, owner_replies=len(owner), other_replies=len(others))
        rng = np.random.default_rng(seed)
        texts = np.array([*_some(owner, rng), *_some(others, rng)], dtype=object)
        is_owner = np.arange(len(texts)) < min(len(owner), MAX_TEXTS)
        fold = _folds(texts.tolist())
        for label in (True, False):  # identical texts alone could leave a fold's model with one side only
            need(2, different_texts=len(set(fold[is_owner == label].tolist())))
        self._models = [
            _model().fit(texts[fold != held_out].tolist(), is_owner[fold != held_out]) for held_out in range(NUM_FOLDS)
        ]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] how likely the owner wrote each."""
        result = np.zeros(len(texts))
        fold = _folds(texts)
        for number, model in enumerate(self._models):
            rows = np.flatnonzero(fold == number)
            if len(rows):
                result[rows] = model.predict_proba([texts[row] for row in rows.tolist()])[:, 1]
        return result


def told_apart(
    real: Sequence[str], generated: Sequence[str], names: Sequence[str], seed: int
) -> tuple[float, list[float]]:
    """How often a judge that has read replies of both finds the real one of two, and its 95 % interval.

    The contexts are dealt into folds, each with both replies to it, and a pair is judged by the one model that learned
    from the other folds' pairs. So the judge knows what the model says over and over, as a reader would, and both sides
    are treated alike: a model whose replies are drawn as the owner's are is found in half of the pairs. It learns from
    the pairs alone, because the owner's training replies have no counterpart on the model's side.

    The interval is the exact one of so many pairs; it does not know of the texts that the judge learned from.

    Args:
        real, generated: [contexts] replies to the same contexts.
        names: [contexts] the contexts' own names, by which they are dealt.

    Raises:
        NotMeasured: there are fewer than MIN_TEXTS contexts.
    """
    need(MIN_TEXTS, contexts=len(names))
    texts = np.array([real, generated], dtype=object)  # [2, contexts]
    found = np.zeros(len(names))
    for deal in range(NUM_DEALS):
        fold = _deal(names, seed, deal)
        for held_out in range(NUM_FOLDS):
            learned = texts[:, fold != held_out]
            is_owner = np.repeat([True, False], learned.shape[1])
            model = _model().fit(learned.ravel().tolist(), is_owner)
            own, other = (model.predict_proba(side.tolist())[:, 1] for side in texts[:, fold == held_out])
            found[fold == held_out] += ((own > other) + 0.5 * (own == other)) / NUM_DEALS
    share = float(found.mean())
    return share, exact_interval(min(float(found.sum()), len(names)), len(names))


def style_score(owner: Floats, tuned: Floats, base: Floats, seed: int) -> tuple[float, list[float] | None]:
    """(tuned - base) / (owner - base) of mean probabilities, and its 95 % bootstrap interval over the contexts.

    0: as far from the owner as the base model; 1: the judge takes it for the owner as readily as the owner's own words.
    The interval knows of the contexts drawn, not of the texts that the judge learned from. It is None where the
    distance from base to owner is not clearly above 0.

    Args:
        owner, tuned, base: [contexts] probabilities for the replies to the same contexts.

    Raises:
        NotMeasured: the judge does not take the owner's replies for the owner's more readily than the base model's.
    """
    distance = float(owner.mean() - base.mean())
    if distance <= 0:
        raise NotMeasured(owner_minus_base=distance)

    rows = bootstrap_rows(len(owner), seed)
    base_means = base[rows].mean(axis=1)
    distances = owner[rows].mean(axis=1) - base_means
    gains = tuned[rows].mean(axis=1) - base_means
    scores = np.divide(gains, distances, out=np.full(len(rows), np.nan), where=distances > 0)
    clear = np.isfinite(scores)
    interval = middle_95(scores[clear]) if clear.mean() >= 0.975 else None
    return float(tuned.mean() - base.mean()) / distance, interval


def judge_auc(owner: Floats, others: Floats) -> float:
    """How well the judge knows the owner: the share of pairs of an own and another's text it ranks right."""
    labels = np.concatenate([np.ones(len(owner)), np.zeros(len(others))])
    return float(roc_auc_score(labels, np.concatenate([owner, others])))


def means(probabilities: Mapping[str, Floats]) -> dict[str, float | None]:
    """The mean of each source; None for one without texts."""
    return {name: float(values.mean()) if len(values) else None for name, values in probabilities.items()}


def _model() -> Pipeline:
    return make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), lowercase=False, sublinear_tf=True, min_df=2),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )


def _folds(texts: Sequence[str]) -> Ints:
    """[texts] a number in 0..NUM_FOLDS-1 that depends on the text alone."""
    hashes = text_hashes(pa.array(texts, pa.string()))
    return (hashes % np.uint64(NUM_FOLDS)).astype(np.int64)


def _deal(names: Sequence[str], seed: int, deal: int) -> Ints:
    """[contexts] a fold's number; folds differ by one context at most, and the order of the contexts does not count."""
    drawn = {name: thread_key(seed, f"fold {deal}", name) for name in names}
    place = {name: number for number, name in enumerate(sorted(names, key=lambda name: (drawn[name], name)))}
    return np.array([place[name] % NUM_FOLDS for name in names], dtype=np.int64)


def _some(texts: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
    if len(texts) <= MAX_TEXTS:
        return texts
    return [texts[index] for index in sorted(rng.choice(len(texts), MAX_TEXTS, replace=False).tolist())]
