"""metrics/fidelity.json in a few plain sentences, for people who do not read metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What a reason's name is called where a figure is null.
_NAMES = {
    "style": "style",
    "style_score": "how far fine-tuning went towards your style",
    "told_apart": "whether a stranger could tell",
    "context_words": "how often replies take up the words said before",
    "fit": "whether replies fit what was said before",
    "drift": "what becomes of a longer conversation",
    "others": "how the judge takes other people's replies",
    "shape": "the shape of replies",
    "content": "the content of replies",
    "leak": "repeated messages",
    "hits_own": "ranking among your own replies",
    "hits_others": "ranking among other people's replies",
    "membership_auc": "whether the loss gives training messages away",
    "exposure": "how well single messages are remembered",
}


def sentences(figures: Mapping[str, Any]) -> list[str]:
    """What the figures of metrics/fidelity.json say, one fact per sentence, then what is not known and why."""
    facts = (_style, _told_apart, _context, _drift, _content, _ranking, _leak, _membership, _exposure)
    return [
        f"Measured on {figures['contexts']:,} conversations that the model was not trained on.",
        *(sentence for fact in facts for sentence in fact(figures)),
        *(f"Not measured: {_NAMES[name]} ({_found(counts)})." for name, counts in figures["reasons"].items()),
    ]


def card_section(figures: Mapping[str, Any]) -> str:
    """The section on these figures of the model card of models/jaegpt, which is written before they are known."""
    lines = "\n".join(f"- {sentence}" for sentence in sentences(figures))
    return f"""## Does it sound like the person, and what does it give away?

This belongs to the model card of `models/jaegpt`, and to the model that was there when it was written.

{lines}
"""


def _style(figures: Mapping[str, Any]) -> Iterator[str]:
    style = figures["style"]
    if style is None:
        return
    others = "" if style["others"] is None else f"other people's with {percent(style['others'])}, "
    yield (
        f"A judge that has read your messages takes your own new replies for yours with {percent(style['owner'])}, "
        f"{others}the base model's with {percent(style['base'])} and the fine-tuned model's with "
        f"{percent(style['tuned'])}."
    )
    score = figures["style_score"]
    if score is not None:
        if score < 0:
            yield "By that, fine-tuning moved the model away from you."
            return
        more = " Above 100 % it sounds more like you than you do: it overdoes what is typical." if score > 1 else ""
        yield (
            f"By that, fine-tuning went {percent(score)} of the way from the base model to you"
            f"{_interval(figures['style_score_ci'])}.{more}"
        )


def _told_apart(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["told_apart"] is not None:
        text, reading = (of_100(figures[f"told_apart_{judge}"]) for judge in ("text", "reading"))
        yield (
            "A stranger who knows replies of yours and of the model, and reads what was said before, could tell yours "
            f"from the model's in {of_100(figures['told_apart'])} of 100 cases{_interval(figures['told_apart_ci'])}; "
            f"by the wording alone in {text}, by how replies fit what was said in {reading}. 50 is guessing."
        )


def _context(figures: Mapping[str, Any]) -> Iterator[str]:
    found = figures["context_words"]
    if found is not None and None not in found.values():
        yield (
            f"Of its rarer words {percent(found['tuned'])} had been said just before, of yours "
            f"{percent(found['owner'])}: fewer and it does not answer, many more and it parrots."
        )
    if figures["fit"] is not None:
        yield (
            f"What was said before makes its replies likelier by {percent(figures['fit'])} of what it does for yours, "
            "as the base model reads them; 80 to 125 % is like you."
        )


def _drift(figures: Mapping[str, Any]) -> Iterator[str]:
    found = figures["drift"]
    if found is not None and found["repetition_tuned"] is not None and found["repetition_owner"] is not None:
        first, *_, last = found["told_apart_text"]
        yield (
            f"Talking to itself for {len(found['repetition'])} turns, it repeats one of its last five in "
            f"{percent(found['repetition_tuned'])} of them, you in {percent(found['repetition_owner'])}; by the "
            f"wording it could be told from you in {of_100(first)} of 100 cases at first, in {of_100(last)} at the end."
        )


def _content(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["content"] is not None:
        found = {name: figures["content"][name]["f1"] for name in ("tuned", "base", "retrieval")}
        shares = {name: percent(share) for name, share in found.items() if share is not None}
        if len(shares) == len(found):  # without replies in training there is nothing to retrieve
            yield (
                f"Its replies share {shares['tuned']} of their words with what you really answered; the base model's "
                f"share {shares['base']}, and what you once answered to a similar message shares {shares['retrieval']}."
            )


def _ranking(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, whom in (("hits_own", "your own"), ("hits_others", "other people's")):
        hits = figures[name]
        if hits is not None:
            yield (
                f"Among {whom} replies it finds the one you really gave in {percent(hits['head'])} of the cases by "
                f"its classification head{_interval(hits['head_ci'])}, in {percent(hits['likelihood'])} by the "
                f"likelihood of the words{_interval(hits['likelihood_ci'])}; guessing finds {percent(hits['chance'])}."
            )


def _leak(figures: Mapping[str, Any]) -> Iterator[str]:
    leak = figures["leak"]
    if leak is None:
        return
    yield (
        f"It repeated messages of the training data word for word in {percent(leak['tuned'])} of its replies"
        f"{_interval(figures['leak_ci']['tuned'])}: a whole reply of yours of 6 words or more, or 8 words in a row of "
        f"anyone's. You repeat such words in {percent(leak['real'])} of your own, the base model has them in "
        f"{percent(leak['base'])}."
    )
    known = figures["identifiers"]["tuned"]
    count = (
        "no address, telephone or other long number, or link" if not known else f"{known:,} addresses, numbers or links"
    )
    yield f"Its replies held {count} from the training data."


def _membership(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["membership_auc"] is not None:
        yield (
            "Shown one message it was trained on and one it was not, its loss tells which is which in "
            f"{of_100(figures['membership_auc'])} of 100 cases{_interval(figures['membership_auc_ci'])}; 50 is "
            "guessing."
        )


def _exposure(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["exposure"] is not None:
        most, *found = (figures["exposure"][key] for key in ("most", "0", "1", "4", "16"))
        yield (
            f"Of an invented code, a copy of the model remembers {found[1]:.1f} bits after one copy, {found[2]:.1f} "
            f"after 4 and {found[3]:.1f} after 16; {most:.0f} is all there is to see, {found[0]:.1f} what chance gives."
        )


def percent(share: float) -> str:
    """A share as people read it, to two figures: 42 %, 4.2 %."""
    return f"{of_100(share, small=0.0995)} %"


def of_100(share: float, small: float = 0.015) -> str:
    """A share times 100: whole in the middle, and near 0 and 1 exact enough to differ from them.

    0 -> 0, 0.012 -> 1.2, 0.42 -> 42, 0.997 -> 99.7, 0.9999 -> 99.99, 1 -> 100, 1.26 -> 126.

    Args:
        small: shares below it are not whole.
    """
    if not (0 < share < small or 0.985 < share < 1):
        return str(round(100 * share))
    digits = 1
    while float(text := f"{100 * share:.{digits}f}") in (0, 100):
        digits += 1
    return text


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" (95 % interval {of_100(ends[0])} to {of_100(ends[1])})"


def _found(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number:g}" for name, number in counts.items())
