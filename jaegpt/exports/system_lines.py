"""Lines that Messenger wrote in a person's name ("Ben named the group Ski trip."), told from what people write.

Nothing marks them, so each rule describes a whole line, never a part of one, and says whose name may stand at its
start. RE2 finds the few lines of a file that any rule could mean; those are then judged with the names of the thread.
"""

import functools
import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.errors import JaegptError

MAX_LENGTH = 500  # characters; longer lines are people's

# {own}: "You" or somebody of the thread; {them}: the same without "You". {any} and {to}: also a name from outside the
# thread (members leave, people are renamed). A call needs all that: "I called you.", "Mum called you." and "You called
# me." are human, and so are "You left the chat." and "You responded".
_CALL = r"(?:(?:video |audio |voice )?call|(?:video|audio|voice) chat)"
_RULES: tuple[tuple[str, str], ...] = (
    ("placeholder", r"{own} (?:sent|shared) (?:an?|\d+) (?:live )?(?:attachment|photo|video|GIF|sticker|location)s?\."),
    ("placeholder", r"{own} (?:sent|shared) (?:an?|\d+) (?:voice message|audio clip|link|file|post|reel|story)s?\."),
    ("reaction", r"(?:Reacted|{own} reacted) \S{1,40} to (?:your|a) message"),
    ("reaction", r"(?:Liked|{own} liked) (?:a|your) message"),
    ("unsent", r"(?:{own}|User) (?:unsent|removed) a message\.?"),
    ("unsent", r"This message was unsent\.?"),
    ("call", r"{own} called (?:you|{to})\."),
    ("call", r"{own} missed an? " + _CALL + r" (?:from|with) {to}\."),
    ("call", r"{own} missed your " + _CALL + r"\."),
    ("call", r"The " + _CALL + r" ended\."),
    ("call", r"{own} (?:started|joined|left) (?:an?|the) " + _CALL + r"\."),
    ("call", r"{own} started sharing video\."),
    ("group", r"{any} (?:added .+ to|removed .+ from|left|created) the group\."),
    ("group", r"A contact added participants\."),
    ("group", r"{any} named the group .+\."),
    ("group", r"{any} changed the group photo\."),
    ("group", r"{any} (?:added|removed) .+ as a group admin\."),
    ("group", r"{any} (?:is|are) now an admin\."),
    ("group", r"{any} turned on member approval and will review requests to join the group\."),
    ("group", r"{any} turned off member approval\. Anyone with the link can join the group\."),
    ("group", r"{any} waved hello to the group\."),
    ("group", r"{any} joined the group(?: via the link| using the group link)?\."),
    ("thread", r"{any} set (?:the nickname for .+|(?:your|his|her|their|its)(?: own)? nickname) to .+\."),
    ("thread", r"{any} cleared (?:the nickname for .+|(?:your|his|her|their|its)(?: own)? nickname)\."),
    ("thread", r"{any} set the (?:emoji|quick reaction) to \S{1,40}\."),
    ("thread", r"{any} changed the (?:chat )?theme(?: to .+)?\.?"),
    ("thread", r"{any} changed the chat colou?rs\."),
    ("thread", r"{any} (?:un)?pinned a message\."),
    ("thread", r"You are now connected on Messenger\.?"),
    (
        "thread",
        r"You can now message and call each other and see info like Active Status and when you.ve read messages\.",
    ),
    ("thread", r"Say hi to your new Facebook friend, .+\."),
    ("thread", r"You waved at .+!"),
    ("thread", r"{own} waved at you!"),
    ("thread", r"This chat is read-only\."),
    ("thread", r"An admin, moderator or host removed .+ message\."),
    ("poll", r"{any} created a poll: .+"),
    ("poll", r"{any} (?:voted|removed (?:your|his|her|their) vote) for .+ in the poll: .+"),
    ("poll", r"{any} changed (?:your|his|her|their) vote to .+ in the poll: .+"),
    ("poll", r"This poll is no longer available\."),
    ("plan", r"{any} (?:started a plan|named the plan .+)\."),
    ("plan", r"{them} responded(?: (?:Going|Maybe|Can['’]t Go)(?: to .+)?\.?)?"),
    ("plan", r"Reminder, .+ at \d{1,2}(?::\d\d)? ?[AP]M"),
    ("game", r"{any} scored [\d.,]+ points? playing .+\."),
    ("game", r"{any} (?:is|are) now in \w+ place in .+"),
    ("game", r"{any} challenged you in .+"),
    ("game", r"{any} played back, now it is your turn!"),
    ("listing", r"{any} changed the listing (?:title|price|description|location|photo)(?: to .+)?\."),
    ("payment", r"{own} (?:sent|requested) .{0,80}[$€£]\d[\d,]*\.\d\d(?: (?:to|from) {to})?\."),
)
KINDS = tuple(dict.fromkeys(kind for kind, _ in _RULES))

# Capitalised at the start of a sentence, and no name. "A contact" and "Someone" do stand in Messenger's own lines.
_NO_NAME_WORDS = """
    I I'm We He She They It Who What When Where Why How That This These Those There Then The My Your His Her Our Their
    Mom Mum Dad Mama Papa Somebody Everyone Everybody Nobody And But So Or If Yeah Yes No Ok Okay Oh Well Just Also
    Because Did Do Does Has Have Had Is Was Were Are Maybe Now Not Only Even Still An One Some All Both
"""
_NO_NAMES = frozenset(_NO_NAME_WORDS.split())
# White space of all kinds, and two characters that show nothing of their own.
_BLANK = r"[\x09-\x0d\x1c-\x20\x{85}\x{200B}\x{FE0F}\pZ]*"


def find_system_lines(
    texts: pa.Array, people_of: Callable[[int], Sequence[str]], own_patterns: Sequence[str]
) -> dict[int, str]:
    """Row -> kind, for the rows of `texts` that no human wrote; `empty` for those without a visible character.

    Args:
        texts: messages of any number of threads (many at a time: RE2 reads its expressions anew on each call).
        people_of: the names in the thread of a row.
        own_patterns: RE2 expressions for whole lines; their kind is `system_pattern`.
    """
    found: dict[int, str] = {}
    candidates = pc.indices_nonzero(pc.match_substring_regex(texts, _any_rule()))
    for row, line in zip(candidates.to_pylist(), texts.take(candidates).to_pylist(), strict=True):
        kind = kind_of(line, people_of(row)) if _is_visible(line) else "empty"
        if kind:
            found[row] = kind
    if own_patterns:
        mask = pc.match_substring_regex(texts, _whole_lines(own_patterns))
        for row in pc.indices_nonzero(mask).to_pylist():
            found.setdefault(row, "system_pattern")
    return found


def kind_of(line: str, names: Sequence[str]) -> str | None:
    """The kind of a system line, or None for what a person wrote; `names` are the people of its thread."""
    line = line.strip()
    if len(line) > MAX_LENGTH:
        return None
    for kind, pattern in _compiled_rules():
        match = pattern.fullmatch(line)
        if match:
            who = match.groupdict()
            own, others = who.pop("own", None), [name for name in who.values() if name]
            if (own is None or _is_own(own, names)) and all(
                _is_own(name, names) or _looks_like_a_name(name) for name in others
            ):
                return kind
    return None


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


def _is_visible(line: str) -> bool:
    return bool(line.replace("\u200b", "").replace("\ufe0f", "").strip())


def _is_own(who: str, names: Sequence[str]) -> bool:
    """Whether `who` is "You", one of `names`, or the first part of one: lines use first names ("Ben", "Anna Maria")."""
    return who == "You" or any(who == name or name.startswith(who + " ") for name in names)


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
    return rf"^\s*(?:{alternatives})\s*$"


@functools.cache
def _any_rule() -> str:
    """All rules in one, for RE2, whoever the name is."""
    rules = [re.sub(r"\{[a-z]+\}", ".+", rule) for _, rule in _RULES]
    return "(?s)" + _whole_lines([*rules, _BLANK])


@functools.cache
def _compiled_rules() -> list[tuple[str, re.Pattern[str]]]:
    groups = {"own": r"(?P<own>.+?)", "them": r"(?!You )(?P<own>.+?)", "any": r"(?P<any>.+?)", "to": r"(?P<to>.+?)"}
    return [
        (kind, re.compile(re.sub(r"\{([a-z]+)\}", lambda name: groups[name[1]], rule), re.DOTALL))
        for kind, rule in _RULES
    ]
