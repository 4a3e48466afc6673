"""Who wrote it? A judge that knows how the owner writes, from character n-grams alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

from jaegpt.arrays import Floats, Ints
from jaegpt.dialogue.draws import text_hashes
from jaegpt.evaluation.intervals import NotMeasured, bootstrap_rows, middle_95, need

NUM_FOLDS = 5
MIN_TEXTS = 100  # of either side, to learn from
MAX_TEXTS = 20_000  # of either side; more do not change the judge, only its time


class StyleJudge:
    """Probability that the owner wrote a text, by a logistic regression on TF-IDF of character n-grams.

    Texts are dealt into folds by what they say, and each text is judged by the one model that learned from the other
    folds. So no text is judged by a model that has seen it, and a writer that repeats training replies word for word
    (the random and the retrieved ones, a model that copies) has no advantage over one that does not.

    It cannot show how far a model is from the owner: a sentence that the model says over and over falls into one fold,
    so the judge of that fold never learned it. The judges of `judges.py` are for that, and are dealt contexts.

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
        # If a side were one text over and over, the model that does not learn its fold would know one side only.
        for label in (True, False):
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


def style_score(owner: Floats, tuned: Floats, base: Floats, seed: int) -> tuple[float, list[float] | None]:
    """(tuned - base) / (owner - base) of mean probabilities, and its 95 % bootstrap interval over the contexts.

    0: as far from the owner as the base model; 1: the judge takes it for the owner as readily as the owner's own words.
    The interval is over the contexts; that other texts would make another judge is not in it. It is None where the
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
    # A resample in which the base model is no further from the owner than 0 has no score; too many such, no interval.
    scores = np.divide(gains, distances, out=np.full(len(rows), np.nan), where=distances > 0)
    clear = np.isfinite(scores)
    interval = middle_95(scores[clear]) if clear.mean() >= 0.975 else None
    return float(tuned.mean() - base.mean()) / distance, interval


def judge_auc(owner: Floats, others: Floats) -> float:
    """How well the judge knows the owner: the share of pairs of an own and another's text it ranks right."""
    labels = np.concatenate([np.ones(len(owner)), np.zeros(len(others))])
    return float(roc_auc_score(labels, np.concatenate([owner, others])))


def means(probabilities: Mapping[str, Floats]) -> dict[str, float | None]:
    """The mean of each writer; None for one without texts."""
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


def _some(texts: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
    if len(texts) <= MAX_TEXTS:
        return texts
    return [texts[index] for index in sorted(rng.choice(len(texts), MAX_TEXTS, replace=False).tolist())]
