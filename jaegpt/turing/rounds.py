"""The rounds of `jaegpt turing`: which replies are shown together, what came of them, and a sheet to print."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.intervals import exact_interval
from jaegpt.files import write_csv, write_text

MIN_ROUNDS = 20  # fewer say nothing: 15 of 20 pairs, or 10 of 20 pools of 4, is the least that guessing rarely reaches
COLUMNS = ("round", "example_id", "pool", "real", "picked", "right")

Side = Literal["A", "B", "C", "D", "E", "F", "G", "H"]
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True)
class Round:
    """A context, the replies to it by side, and which of them the person really gave."""

    example_id: str
    history: tuple[Turn, ...]
    replies: dict[Side, str]
    real: Side


def check_numbers(count: int, pool: int) -> None:
    """Refuse games that would say nothing.

    Raises:
        JaegptError: fewer than MIN_ROUNDS rounds are asked for, or a pool of too few or too many replies.
    """
    if count < MIN_ROUNDS:
        raise JaegptError(f"--rounds must be at least {MIN_ROUNDS}, found {count}.")
    if not 2 <= pool <= len(SIDES):
        raise JaegptError(f"--pool must be from 2 to {len(SIDES)} replies, found {pool}.")


def make_rounds(
    contexts: Sequence[Context], generated: Sequence[Sequence[str]], count: int, seed: Sequence[int]
) -> list[Round]:
    """`count` rounds in an order, and with sides, that depend on `seed` alone.

    Contexts where two replies are the same are left out, the real one among them: a pair of those is no choice, and
    among more, a text that was drawn again until it differed would be a rarer one than the real, which gives that away.

    Args:
        generated: [contexts] the model's replies to each, one less than a pool holds.

    Raises:
        JaegptError: `check_numbers`, or there are fewer contexts than rounds asked for.
    """
    pool = 1 + max(map(len, generated), default=1)
    check_numbers(count, pool)
    choices = [
        (context, texts)
        for context, texts in zip(contexts, generated, strict=True)
        if len({text.strip() for text in (context.reply, *texts)}) == pool
    ]
    if len(choices) < count:
        differ = "the model's reply is not the real one" if pool == 2 else f"all {pool} replies differ"
        raise JaegptError(
            f"turing: {count:,} rounds need as many contexts, found {len(choices):,} where {differ}. "
            f"Raise fidelity.contexts, or ask for fewer with --rounds{'' if pool == 2 else ' or --pool'}."
        )
    rng = np.random.default_rng(list(seed))
    rounds = []
    for index in rng.permutation(len(choices))[:count].tolist():
        context, texts = choices[index]
        place = int(rng.random() * pool)
        # Shuffled again in each game: in a context that comes again, only the real reply would have moved otherwise.
        shown = [texts[other] for other in rng.permutation(pool - 1).tolist()]
        shown.insert(place, context.reply)
        replies = dict(zip(SIDES, shown, strict=False))
        rounds.append(Round(context.example_id, context.history, replies, SIDES[place]))
    return rounds


def verdict(rounds: Sequence[Round], picks: Sequence[Side]) -> str:
    """How often the real reply was found, the exact 95 % interval, and what that means beside a guess among so many."""
    right = sum(pick == one.real for pick, one in zip(picks, rounds, strict=True))
    low, high = exact_interval(right, len(picks))
    pool = len(rounds[0].replies)
    if low > 1 / pool:
        meaning = "The real replies can be distinguished from the model's."
    elif high < 1 / pool:
        meaning = "The model's replies are taken for the real ones."
    else:
        meaning = "Guessing could do the same."
    share, ends = f"{right / len(picks):.0%}", f"{low:.1%} to {high:.1%}"
    guess = f"guessing among {pool} finds {100 / pool:.3g} %"
    return f"{right} of {len(picks)} found: {share} (95 % interval {ends}; {guess}). {meaning}"


def save_picks(path: Path, rounds: Sequence[Round], picks: Sequence[Side]) -> None:
    """Write the rounds that were played as CSV: ids, how many replies there were, and sides; no text."""
    rows = [
        (number, one.example_id, len(one.replies), one.real, pick, int(pick == one.real))
        for number, (one, pick) in enumerate(zip(rounds, picks, strict=False), start=1)
    ]
    write_csv(path, COLUMNS, rows)


def history_html(history: Sequence[Turn]) -> str:
    """The turns before the replies, escaped: nothing anyone wrote is ever markup."""
    turns = "".join(
        f'<p class="{"own" if is_owner else "other"}"><b>{"The person" if is_owner else "Someone"}</b> '
        f"{html.escape(text)}</p>"
        for is_owner, text in history
    )
    return f'<div class="history">{turns}</div>'


def write_sheet(folder: Path, rounds: Sequence[Round]) -> tuple[Path, Path]:
    """Write sheet.html, to print and give away, and key.html, to keep; their paths."""
    questions = "".join(
        f"<section><h2>{number}</h2>{history_html(one.history)}<ul>"
        + "".join(
            f"<li><b>{side}</b> &#9744; {html.escape(text) or '<i>(nothing)</i>'}</li>"
            for side, text in one.replies.items()
        )
        + "</ul></section>"
        for number, one in enumerate(rounds, start=1)
    )
    answers = "".join(f"<li>{one.real}</li>" for one in rounds)
    pool = len(rounds[0].replies)
    intro = (
        "Each conversation was answered once by a person and "
        f"{'once' if pool == 2 else f'{pool - 1} times'} by a model of that person. Tick the person's reply."
    )
    guess = f"Of these {len(rounds)}, guessing among {pool} replies finds about {len(rounds) / pool:.0f}."
    paths = folder / "sheet.html", folder / "key.html"
    write_text(paths[0], _PAGE.format(title="Which reply is real?", body=f"<p>{intro}</p>{questions}"))
    write_text(paths[1], _PAGE.format(title="Key: the real replies", body=f"<p>{guess}</p><ol>{answers}</ol>"))
    return paths


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; line-height: 1.4; max-width: 42rem; margin: 1.5rem auto; padding: 0 1rem; }}
section {{ break-inside: avoid; border-top: 1px solid #999; padding-top: 0.3rem; }}
h1, h2 {{ margin: 0.4rem 0; }}
h2 {{ font-size: 1rem; }}
p, li {{ overflow-wrap: anywhere; }}
.history p {{ margin: 0.2rem 0; color: #333; }}
ul {{ list-style: none; padding-left: 0.5rem; }}
li {{ margin: 0.3rem 0; }}
ol li {{ break-inside: avoid; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
