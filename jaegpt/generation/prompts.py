"""A history as the model is asked about it: through the one encoder, and no longer than what it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.dialogue.separators import without_blank_lines
from jaegpt.errors import JaegptError

MAX_TEXT = 32_768  # characters of one text that are read: tokenizing takes hundreds of times a text's size in memory
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")})  # Unicode's category Cc


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Token ids up to where the reply begins, and as many roles (1 = owner, 0 = other).

    shortened: whether the last turn alone was too long, and only its end is here.
    recent: the owner's last turns of the whole history, which a reply is not to repeat.
    """

    ids: list[int]
    roles: list[int]
    shortened: bool = False
    recent: tuple[str, ...] = ()


def keep_end(text: str) -> str:
    """The last MAX_TEXT characters of a longer text: its end is what a reply answers."""
    return text[-MAX_TEXT:]


def clean_text(text: str) -> str:
    """What a user typed or sent, fit for a model: without control characters, halves of emoji and space around it.

    Line breaks and tabs stay, and so do joiners and direction marks: emoji and right-to-left text need them. Of a text
    beyond MAX_TEXT its end is kept.
    """
    text = keep_end(text.strip()).replace("\r\n", "\n").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.translate(_CONTROLS).strip()


def make_prompt(encoder: Encoder, history: Sequence[Turn], num_history: int, room: int) -> Prompt:
    """The last `num_history` turns, in at most `room` tokens.

    Where they are too long, whole turns are left out, oldest first; of a last turn that is too long, its end is kept.
    No more than MAX_TEXT characters of a turn are tokenized.

    Raises:
        JaegptError: not even a word fits.
    """
    assert history, "nothing to reply to"
    turns = [(is_owner, keep_end(text)) for is_owner, text in history[-num_history:]]
    if encoder.joint == "\n":
        turns = [(is_owner, without_blank_lines(text)) for is_owner, text in turns]
    ids, roles = encode_history(encoder, turns)
    while len(ids) > room and len(turns) > 1:
        turns = turns[1:]
        ids, roles = encode_history(encoder, turns)
    too_long = len(ids) > room
    if too_long:
        ids, roles = _cut(encoder, turns[0], room)
    return Prompt(ids=ids, roles=roles, shortened=too_long or len(history[-1][1]) > MAX_TEXT)


def _cut(encoder: Encoder, turn: Turn, room: int) -> tuple[list[int], list[int]]:
    """The history of this one turn, with as much of its end as fits."""
    is_owner, text = turn
    content = encoder.tokenize([text])[0]
    keep = room - len(encode_history(encoder, [(is_owner, "")])[0])
    while keep > 0:
        # Decoded and encoded again, the end of a text may split into a token or two more than it had, so its number of
        # tokens is checked, and the overshoot left out in the next round.
        end = encoder.decode(content[-keep:]).lstrip("\ufffd")
        ids, roles = encode_history(encoder, [(is_owner, end)])
        if len(ids) <= room:
            return ids, roles
        keep -= len(ids) - room
    raise JaegptError(
        "generate.max_tokens: block_size must hold a turn and a reply of so many tokens, and does not. Lower it, or "
        "raise block_size and run `dvc repro`."
    )
