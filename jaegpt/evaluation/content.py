"""What a reply says: how near it is to the real one, and how much it says over and over."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from jaegpt.evaluation.surface import words

NUM_COMMON = 60  # words of the owner's that say little: I, you, yes, ...

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"  # Thai to Khmer, kana, Chinese
_PARTS = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}]+")


def content_figures(replies: Mapping[str, Sequence[str]], real: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Writer -> figures of what it wrote. `real` are the owner's replies to the same contexts.

    f1: mean overlap of a reply's words with the real reply's (of word counts, as in SQuAD: Rajpurkar et al. 2016).
    bleu, chrf: sacrebleu's corpus figures, 0 to 100 (Papineni et al. 2002; Popovic 2015).
    distinct_1, distinct_2: different words, and pairs of neighbouring words, as a share of all (Li et al. 2016);
        shorter replies give higher ones.
    repetition: share of the pairs of neighbouring words that already stand in the same reply.
    different: different replies as a share of all. empty: share of replies without a word.

    The first three are None for a writer that answers other contexts than `real` or none, and for `real` itself.
    """
    return {
        name: {**_nearness([] if name in ("owner", "others") else texts, real), **_variety(texts)}
        for name, texts in replies.items()
    }


def _nearness(texts: Sequence[str], real: Sequence[str]) -> dict[str, float | None]:
    if not texts:
        return {"f1": None, "bleu": None, "chrf": None}
    pairs = list(zip(texts, real, strict=True))
    return {
        "f1": sum(token_f1(text, reference) for text, reference in pairs) / len(pairs),
        "bleu": BLEU().corpus_score(list(texts), [list(real)]).score,
        "chrf": CHRF().corpus_score(list(texts), [list(real)]).score,
    }


def token_f1(text: str, reference: str) -> float:
    """Harmonic mean of precision and recall of word counts; 1 for two texts without a word."""
    ours, theirs = Counter(words(text)), Counter(words(reference))
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total())


def common_words(texts: Sequence[str]) -> frozenset[str]:
    """The NUM_COMMON words that stand in them most often; of equally frequent ones the first by the alphabet."""
    counted = Counter(word for text in texts for word in _parted(text))
    return frozenset(sorted(counted, key=lambda word: (-counted[word], word))[:NUM_COMMON])


def context_words(replies: Sequence[str], histories: Sequence[Sequence[str]], common: frozenset[str]) -> float | None:
    """Of all words of the replies that are not `common`, the share that stands in their own history.

    Little of that: the model does not answer what was said. Far more than the owner's: it parrots. None without words.

    Args:
        histories: [replies] the texts said before each. common: the owner's own, by `common_words`.
    """
    hits = count = 0
    for reply, history in zip(replies, histories, strict=True):
        rarer = [word for word in _parted(reply) if word not in common]
        said = {word for text in history for word in _parted(text)}
        hits += sum(word in said for word in rarer)
        count += len(rarer)
    return _share(hits, count)


def familiar(texts: Sequence[str], known: Sequence[str]) -> float:
    """How familiar `texts` are: the share of their pairs of neighbouring words that `known` holds too.

    A text of one word counts by that word, one without a word not at all; 0 where nothing counts. Single words would
    not do: random letters are often words of a chat ("u", "k"), and random tokens are whole words. Pairs of them are
    rarely any that someone wrote.
    """
    seen = {part for text in known for part in (*_parted(text), *pairwise(_parted(text)))}
    parts = [part for text in texts for part in (list(pairwise(_parted(text))) or _parted(text))]
    return sum(part in seen for part in parts) / len(parts) if parts else 0.0


def _parted(text: str) -> list[str]:
    """`words`, where a letter of a script that puts no spaces between words is one: "ok 好的" -> ok, 好, 的."""
    return [part for word in words(text) for part in _PARTS.findall(word)]


def _variety(texts: Sequence[str]) -> dict[str, float | None]:
    tokens = [words(text) for text in texts]
    singles = [word for row in tokens for word in row]
    pairs = [list(pairwise(row)) for row in tokens]
    all_pairs = [pair for row in pairs for pair in row]
    repeated = sum(len(row) - len(set(row)) for row in pairs)
    return {
        "distinct_1": _share(len(set(singles)), len(singles)),
        "distinct_2": _share(len(set(all_pairs)), len(all_pairs)),
        "repetition": _share(repeated, len(all_pairs)),
        "different": _share(len(set(texts)), len(texts)),
        "empty": _share(sum(not row for row in tokens), len(tokens)),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
