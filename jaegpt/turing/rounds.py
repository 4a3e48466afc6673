"""The rounds of `jaegpt turing`: which pairs of replies are shown, what came of them, and a sheet to print."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jaegpt.dialogue.encoding import Turn
from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import Context
from jaegpt.evaluation.intervals import exact_interval
from jaegpt.files import write_csv, write_text

MIN_ROUNDS = 20  # fewer say nothing: 15 of 20 is the least that guessing rarely reaches
COLUMNS = ("round", "example_id", "real", "picked", "right")

Side = Literal["A", "B"]
SIDES: tuple[Side, Side] = ("A", "B")


@dataclass(frozen=True)
class Round:
    """A context, two replies to it, and which of them the person really gave."""

    example_id: str
    history: tuple[Turn, ...]
    replies: dict[Side, str]
    real: Side


def make_rounds(contexts: Sequence[Context], generated: Sequence[str], count: int, seed: Sequence[int]) -> list[Round]:
    """`count` rounds in an order, and with sides, that depend on `seed` alone.

    Contexts where the model said word for word what the person said are left out: there is nothing to choose.

    Args:
        generated: the model's replies to `contexts`.

    Raises:
        JaegptError: fewer than MIN_ROUNDS are asked for, or there are fewer contexts than asked for.
    """
    if count < MIN_ROUNDS:
        raise JaegptError(f"--rounds must be at least {MIN_ROUNDS}, found {count}.")
    pairs = [
        (context, reply)
        for context, reply in zip(contexts, generated, strict=True)
        if context.reply.strip() != reply.strip()
    ]
    if len(pairs) < count:
        raise JaegptError(
            f"turing: {count:,} rounds need as many contexts, found {len(pairs):,} where the model's reply is not the "
            "real one. Raise fidelity.contexts, or ask for fewer with --rounds."
        )
    rng = np.random.default_rng(list(seed))
    rounds = []
    for index in rng.permutation(len(pairs))[:count].tolist():
        context, reply = pairs[index]
        real: Side = "A" if rng.random() < 0.5 else "B"
        other: Side = "B" if real == "A" else "A"
        rounds.append(Round(context.example_id, context.history, {real: context.reply, other: reply}, real))
    return rounds


def verdict(rounds: Sequence[Round], picks: Sequence[Side]) -> str:
    """How often the real reply was found, the exact 95 % interval, and what that means."""
    right = sum(pick == one.real for pick, one in zip(picks, rounds, strict=True))
    low, high = exact_interval(right, len(picks))
    if low > 0.5:
        meaning = "The real replies can be distinguished from the model's."
    elif high < 0.5:
        meaning = "The model's replies are taken for the real ones."
    else:
        meaning = "Guessing could do the same."
    share, ends = f"{right / len(picks):.0%}", f"{low:.1%} to {high:.1%}"
    return f"{right} of {len(picks)} found: {share} (95 % interval {ends}; guessing finds 50 %). {meaning}"


def save_picks(path: Path, rounds: Sequence[Round], picks: Sequence[Side]) -> None:
    """Write the rounds that were played as CSV: ids and sides, no text."""
    rows = [
        (number, one.example_id, one.real, pick, int(pick == one.real))
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
            f"<li><b>{side}</b> &#9744; {html.escape(one.replies[side]) or '<i>(nothing)</i>'}</li>" for side in SIDES
        )
        + "</ul></section>"
        for number, one in enumerate(rounds, start=1)
    )
    answers = "".join(f"<li>{one.real}</li>" for one in rounds)
    intro = (
        "Each conversation was answered once by a person and once by a model of that person. Tick the person's reply."
    )
    paths = folder / "sheet.html", folder / "key.html"
    write_text(paths[0], _PAGE.format(title="Which reply is real?", body=f"<p>{intro}</p>{questions}"))
    write_text(paths[1], _PAGE.format(title="Key: the real replies", body=f"<ol>{answers}</ol>"))
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
