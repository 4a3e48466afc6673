"""Can replies of the owner and of the model be told apart? A judge of texts, a judge that reads, and both together.

Each has seen replies of both sides to other contexts, and is shown one reply of each side to a context it has not seen.
What it ranks right more often than in half of the pairs gives the model away.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from jaegpt.arrays import Bools, Floats, Ints
from jaegpt.dialogue.draws import thread_key
from jaegpt.evaluation.intervals import bootstrap_rows, exact_interval, middle_95, need
from jaegpt.evaluation.reading import Readings

NUM_FOLDS = 5
NUM_DEALS = 3  # of contexts into folds, so that the luck of one deal does not decide whether two models differ
MIN_CONTEXTS = 100  # for a judge to learn from
MAX_COMPONENTS = 60
JUDGES = {"both": "told_apart", "text": "told_apart_text", "reading": "told_apart_reading"}  # and the figure of each


def wins(
    real: Sequence[str],
    generated: Sequence[str],
    names: Sequence[str],
    seed: int,
    readings: tuple[Readings, Readings] | None = None,
) -> dict[str, Floats]:
    """Judge -> [contexts] whether it ranks the owner's reply above the model's; a tie counts half.

    The contexts are dealt into folds, each with both replies to it, and a pair is judged by the one model that learned
    from the other folds' pairs. So the judge knows what the model says over and over, as a reader would, and both sides
    are treated alike: a model whose replies are drawn as the owner's are is found in half of the pairs. It learns from
    the pairs alone, because the owner's training replies have no counterpart on the model's side. What is returned is
    the mean over NUM_DEALS deals.

    text: logistic regression on TF-IDF of character n-grams. reading: logistic regression on principal components of
    what the base model made of the replies. both: the sum of their two scores, each scaled.

    Args:
        real, generated: [contexts] replies to the same contexts.
        names: [contexts] the contexts' own names, by which they are dealt.
        readings: of `real` and of `generated`; without them there is only the judge of texts.

    Raises:
        NotMeasured: there are fewer than MIN_CONTEXTS contexts.
    """
    need(MIN_CONTEXTS, contexts=len(names))
    # In the order of the names, so that not even a last digit depends on the order of the contexts.
    order = sorted(range(len(names)), key=names.__getitem__)
    texts = np.array([real, generated], dtype=object)[:, order]  # [2, contexts]
    features = None if readings is None else np.stack([one.features[order] for one in readings])  # [2, contexts, ...]
    found = {name: np.zeros(len(names)) for name in (JUDGES if readings else ("text",))}
    for held_out in _folds([names[index] for index in order], seed):
        scores = {"text": _scores(_text_judge(), texts, held_out)}
        if features is not None:
            scores["reading"] = _scores(_reading_judge(features, held_out), features, held_out)
            # Neither judge's score has a unit; each counts by how much it varies over the replies it is shown.
            scores["both"] = np.sum([score / (score.std() or 1) for score in scores.values()], axis=0)
        for name, (own, other) in scores.items():
            found[name][np.array(order)[held_out]] += ((own > other) + 0.5 * (own == other)) / NUM_DEALS
    return found


def share(won: Floats, seed: int) -> tuple[float, list[float]]:
    """The share of pairs ranked right, and its 95 % interval: the bootstrap's, over contexts.

    Where all pairs come out alike, all resamples do and it would be a point; so it reaches at least as far as the exact
    interval of so many pairs that all came out alike. That other texts would make another judge is not in it.
    """
    low, high = middle_95(won[bootstrap_rows(len(won), seed)].mean(axis=1))
    all_alike = exact_interval(0, len(won))[1]
    return float(won.mean()), [min(low, 1 - all_alike), max(high, all_alike)]


def told_apart(won: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    """The figures of all judges: each one's share of pairs ranked right, and as `..._ci` its 95 % interval."""
    figures: dict[str, Any] = {}
    for judge, figure in JUDGES.items():
        figures[figure], figures[f"{figure}_ci"] = share(won[judge], seed)
    return figures


def text_scores(real: Sequence[str], generated: Sequence[str], shown: Sequence[str]) -> Floats:
    """[shown] how much more like `real` than like `generated` the judge of texts takes each text to be."""
    is_real = np.repeat([True, False], [len(real), len(generated)])
    judge = _text_judge().fit([*real, *generated], is_real)
    scores: Floats = judge.decision_function(list(shown))
    return scores


def _folds(names: Sequence[str], seed: int) -> Iterator[Bools]:
    """The contexts of each fold of each deal, as a mask [contexts]."""
    for deal in range(NUM_DEALS):
        fold = deal_folds(names, seed, deal)
        yield from (fold == number for number in range(NUM_FOLDS))


def deal_folds(names: Sequence[str], seed: int, deal: int = 0) -> Ints:
    """[contexts] a fold's number; folds differ by one context at most, and the order of the contexts does not count."""
    drawn = {name: thread_key(seed, f"fold {deal}", name) for name in names}
    place = {name: number for number, name in enumerate(sorted(names, key=lambda name: (drawn[name], name)))}
    return np.array([place[name] % NUM_FOLDS for name in names], dtype=np.int64)


def _scores(judge: Pipeline, shown: np.ndarray, held_out: Bools) -> Floats:
    """[2, held-out contexts] of the owner's and the model's replies, by a judge that learns from all others'."""
    learned = shown[:, ~held_out]
    is_owner = np.repeat([True, False], learned.shape[1])
    judge.fit(learned.reshape(-1, *learned.shape[2:]), is_owner)
    return np.stack([judge.decision_function(side) for side in shown[:, held_out]])


def _text_judge() -> Pipeline:
    return make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), lowercase=False, sublinear_tf=True),
        LogisticRegression(C=10, class_weight="balanced", solver="liblinear", random_state=0),
    )


def _reading_judge(features: Floats, held_out: Bools) -> Pipeline:
    """With fewer components than there are replies to learn from."""
    components = min(MAX_COMPONENTS, 2 * int((~held_out).sum()) - 1, features.shape[-1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, svd_solver="full"),
        LogisticRegression(C=0.05, solver="liblinear", random_state=0),
    )
