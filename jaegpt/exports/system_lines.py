"""Lines that Messenger wrote in a person's name ("Ben named the group Ski trip."), set apart from what people write.

Nothing marks them, so each rule describes a whole line, never a part of one, and says whose name may stand in it. RE2
finds the few lines that any rule could mean; those are then judged with the sender and the names of the thread.
"""

import functools
import re
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.errors import JaegptError
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.system_rules import HINTS, RULES, VERBS

MAX_LENGTH = 500  # characters; longer lines are people's

# Capitalised at the start of a sentence, and no name. "A contact" and "Someone" do stand in Messenger's own lines.
_NO_NAME_WORDS = """
    I I'm We He She They It Who What When Where Why How That This These Those There Then The My Your His Her Our Their
    Mom Mum Dad Mama Papa Somebody Everyone Everybody Nobody And But So Or If Yeah Yes No Ok Okay Oh Well Just Also
    Because Did Do Does Has Have Had Is Was Were Are Maybe Now Not Only Even Still An One Some All Both
"""
_NO_NAMES = frozenset(_NO_NAME_WORDS.split())
# A wording that no rule knows has a verb of such lines, a thing of the chat, and nothing that only people write.
_DEED = re.compile(
    rf"(?:{VERBS})\b(?=.*\b(?:group|chat|conversation|channel|call|poll|plan|event|messages?|nicknames?|theme|emoji|"
    r"reactions?|prompt|privacy|admins?|members?|approval|invit\w+|settings?|notifications?|background|colou?r)\b)"
    r"(?!.*\b(?:I|I['’]m|me|my|we|us|our|lol|haha)\b).*[^!?…)]",
    re.IGNORECASE,
)
# White space of all kinds, and two characters that show nothing of their own.
_BLANK = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u200b\ufe0f"
)


def find_system_lines(
    texts: pa.Array,
    people_of: Callable[[int], Sequence[str]],
    own_patterns: Sequence[str],
    sender_of: Callable[[int], str | None] = lambda row: None,
) -> dict[int, str]:
    """Row -> kind, for the rows of `texts` that no human wrote; `empty` for those without a visible character.

    Args:
        texts: messages of any number of threads (many at a time: RE2 compiles its expressions again on each call).
        people_of: the names in the thread of a row.
        own_patterns: RE2 expressions for whole lines; their kind is `system_pattern`.
        sender_of: who wrote a row; None where that is not known, which makes it anybody of the thread.
    """
    found = _blank_lines(texts)
    hinted = pc.indices_nonzero(pc.match_substring_regex(texts, HINTS))
    lines = texts.take(hinted)
    rule_like = functools.reduce(pc.or_, (pc.match_substring_regex(lines, rules) for rules in _loose_rules()))
    for row, line, is_like in zip(hinted.to_pylist(), lines.to_pylist(), rule_like.to_pylist(), strict=True):
        sender = sender_of(row)
        if is_like:
            kind = kind_of(line, people_of(row), sender)
        else:
            kind = "thread" if _speaks_of_its_sender(line.strip(), sender) else None
        if kind:
            found[row] = kind
    return _like_own_patterns(texts, own_patterns) | found


def find_own_lines(texts: pa.Array, own_patterns: Sequence[str]) -> dict[int, str]:
    """Row -> kind, by what holds for every messenger: `empty` and, for `own_patterns`, `system_pattern`."""
    return _like_own_patterns(texts, own_patterns) | _blank_lines(texts)


def _blank_lines(texts: pa.Array) -> dict[int, str]:
    blank = pc.equal(pc.binary_length(pc.utf8_trim(texts, characters=_BLANK)), 0)
    return dict.fromkeys(pc.indices_nonzero(blank).to_pylist(), "empty")


def _like_own_patterns(texts: pa.Array, patterns: Sequence[str]) -> dict[int, str]:
    if not patterns:
        return {}
    mask = pc.match_substring_regex(texts, _whole_lines(patterns))
    return dict.fromkeys(pc.indices_nonzero(mask).to_pylist(), "system_pattern")


def kind_of(line: str, names: Sequence[str], sender: str | None = None) -> str | None:
    """The kind of a system line, or None for what a person wrote.

    Args:
        names: the people of its thread.
        sender: who wrote it; None where that is not known. Deleted accounts have lost the name their lines still bear.
    """
    line = line.strip()
    if len(line) > MAX_LENGTH:
        return None
    is_known = sender is not None and sender != NAMELESS
    senders = {sender} if is_known else set(names)
    others = set(names) - senders
    for kind, pattern in _compiled_rules():
        match = pattern.fullmatch(line)
        if match and all(_fits(role, who, senders, others) for role, who in match.groupdict().items() if who):
            return kind
    return "thread" if _speaks_of_its_sender(line, sender) else None


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse an expression that RE2 cannot read, or that would drop every line.

    Raises:
        JaegptError: with the expression and what is wrong with it.
    """
    for pattern in patterns:
        try:
            matches_nothing_at_all = pc.match_substring_regex(pa.array([""]), _whole_lines([pattern]))[0].as_py()
        except pa.ArrowException as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise JaegptError(f"export.system_patterns: {pattern!r} is no RE2 expression ({reason}).") from None
        if matches_nothing_at_all:
            raise JaegptError(f"export.system_patterns: {pattern!r} also matches an empty line. Describe a whole line.")


def _speaks_of_its_sender(line: str, sender: str | None) -> bool:
    """Whether the sender's whole name (two words or more) opens a line on what they did to the chat.

    People write of themselves like this in jest: "Ben Ødeby left the building" stays.
    """
    if sender is None or " " not in sender or sender == NAMELESS or not line.startswith(sender + " "):
        return False
    return len(line) <= MAX_LENGTH and bool(_DEED.fullmatch(line, len(sender) + 1))


def _fits(role: str, who: str, senders: Collection[str | None], others: Collection[str]) -> bool:
    """Whether the name `who` may stand where a rule has `role`."""
    if _is_one_of(who, senders) or (who in ("You", "A contact") and role != "them"):
        return True
    is_pair = len(others) == 1
    if _is_one_of(who, others):
        return role == "to" or (is_pair and role in ("one", "any"))
    return role in ("to", "any") and _looks_like_a_name(who)


def _is_one_of(who: str, names: Collection[str | None]) -> bool:
    """Whether `who` is one of `names`, or the first words of one ("Ben", "Anna Maria"), or the last (Hungarian)."""
    return any(name == who or (name or "").startswith(who + " ") or (name or "").endswith(" " + who) for name in names)


def _looks_like_a_name(who: str) -> bool:
    """One to five words, the first with a capital (or of a script that has none), and not a pronoun or the like."""
    words = who.split(" ")
    first = words[0]
    if who in ("A contact", "Someone", "Facebook user"):
        return True
    capital = first[:1].isalpha() and not first[:1].islower()
    return capital and len(words) <= 5 and first not in _NO_NAMES and len(who) <= 80


def _whole_lines(patterns: Sequence[str]) -> str:
    alternatives = "|".join(f"(?:{pattern})" for pattern in patterns)
    return rf"^[\s\pZ]*(?:{alternatives})[\s\pZ]*$"  # \s alone is ASCII to RE2


@functools.cache
def _loose_rules() -> list[str]:
    """All rules for RE2, made to match too much: any name, no limits on counts (RE2 would write them out), any digits.

    Ten rules per expression: RE2 takes longer over a single one of all rules.
    """
    rules = [re.sub(r"(?<=[.\w])\{\d,\d\d\}", "*", re.sub(r"\{[a-z]+\}", ".+", rule)) for _, rule in RULES]
    rules = [re.sub(r"\\[dw]", r"\\S", rule) for rule in rules]
    return ["(?s)" + _whole_lines(rules[start : start + 10]) for start in range(0, len(rules), 10)]


@functools.cache
def _compiled_rules() -> list[tuple[str, re.Pattern[str]]]:
    return [(kind, re.compile(re.sub(r"\{([a-z]+)\}", r"(?P<\1>.+?)", rule), re.DOTALL)) for kind, rule in RULES]
