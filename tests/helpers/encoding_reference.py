"""The plain way to encode a history and a reply, turn by turn: what the columns' way is compared with."""

from collections.abc import Sequence

from jaegpt.dialogue.encoding import Encoder, Turn


def history(encoder: Encoder, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Ids and roles of one history."""
    joined = join_neighbours(turns)
    layout = encoder.layout(tuple(is_owner for is_owner, _ in joined))
    joined = joined[layout.skipped :]
    ids: list[int] = []
    roles: list[int] = []
    role = 0
    for (closing, opening), spaced, (is_owner, text) in zip(layout.before, layout.spaced, joined, strict=True):
        (content,) = encoder.tokenize([" " * spaced + text])
        ids += [*closing, *opening, *content]
        roles += [role] * len(closing) + [int(is_owner)] * (len(opening) + len(content))
        role = int(is_owner)
    closing, opening = layout.after
    return [*ids, *closing, *opening], [*roles, *[role] * len(closing), *[1] * len(opening)]


def candidate(encoder: Encoder, text: str) -> list[int]:
    """Ids of one reply."""
    return [*encoder.reply_opening, *encoder.tokenize([" " * encoder.reply_spaced + text])[0], *encoder.end_of_turn]


def join_neighbours(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbouring turns of one role become one: [(F, "a"), (F, "b"), (T, "c")] -> [(F, "a b"), (T, "c")]."""
    joined: list[Turn] = []
    for is_owner, text in turns:
        if joined and joined[-1][0] == is_owner:
            joined[-1] = (is_owner, f"{joined[-1][1]} {text}")
        else:
            joined.append((is_owner, text))
    return joined
