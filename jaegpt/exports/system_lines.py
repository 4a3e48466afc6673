"""Lines that Messenger wrote in a person's name ("Ben named the group Ski trip."), told from what people write.

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

MAX_LENGTH = 500  # characters; longer lines are people's

# Messenger writes these lines in the name of whoever acts: {own} is "You" or the sender, {them} the sender only, {any}
# also a name that nobody of the thread bears (people are renamed), {one} the sender or the other of two people, {to}
# anybody. "I called you.", "Mum called you." and "You called me." are human, so are "You left the chat." and "You
# responded", and in a group "Anna called you." is when somebody else says it.
_CALL = r"(?:(?:video |audio |voice )?call|(?:video|audio|voice) chat)"
_RULES: tuple[tuple[str, str], ...] = (
    ("placeholder", r"{own} (?:sent|shared) (?:an?|\d+) (?:live )?(?:attachment|photo|video|GIF|sticker|location)s?\."),
    ("placeholder", r"{own} (?:sent|shared) (?:an?|\d+) (?:voice message|audio clip|link|file|post|reel|story)s?\."),
    ("reaction", r"(?:Reacted|{own} reacted) \S{1,40} to (?:your|a) message"),
    ("reaction", r"(?:Liked|{own} liked) (?:a|your) message"),
    ("unsent", r"(?:{own}|User) (?:unsent|removed) a message\.?"),
    ("unsent", r"This message was unsent\.?"),
    ("call", r"{own} called (?:you|{to})\."),
    ("call", r"{own} missed an? " + _CALL + r" (?:from|with) {any}\."),
    ("call", r"{one} missed your " + _CALL + r"\."),
    ("call", r"The " + _CALL + r" ended\."),
    ("call", r"{own} (?:started|joined|left) (?:an?|the) " + _CALL + r"\."),
    ("call", r"{own} started sharing video\."),
    ("group", r"{any} (?:added .+ to|removed .+ from|left|created) the group\."),
    ("group", r"A contact added participants\."),
    ("group", r"{any} named the group .+\."),
    ("group", r"{any} changed the group photo\."),
    ("group", r"{any} (?:added|removed) .+ as a group admin\."),
    ("group", r"{to} (?:is|are) now an admin\."),
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

# Capitalised at the start of a sentence, and no name. "A contact" and "Someone" do stand in Messenger's own lines.
_NO_NAME_WORDS = """
    I I'm We He She They It Who What When Where Why How That This These Those There Then The My Your His Her Our Their
    Mom Mum Dad Mama Papa Somebody Everyone Everybody Nobody And But So Or If Yeah Yes No Ok Okay Oh Well Just Also
    Because Did Do Does Has Have Had Is Was Were Are Maybe Now Not Only Even Still An One Some All Both
"""
_NO_NAMES = frozenset(_NO_NAME_WORDS.split())
# White space of all kinds, and two characters that show nothing of their own.
_BLANK = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u200b\ufe0f"
)
# Each line that a rule means has one of these: looking for them first costs half of looking for the rules.
_HINTS = (
    r"sent |shared |eacted |iked |unsent|removed |called |missed | ended| call\.| chat\.|sharing video| the group|"
    r"a group admin|added participants|now an admin|member approval|nickname|the emoji|quick reaction|theme|chat col|"
    r"pinned a|on Messenger|can now message|Say hi|waved at|read-only|a poll|the poll|This poll|a plan|the plan|"
    r"responded|Reminder, |scored |place in |challenged you|played back|the listing|requested "
)


def find_system_lines(
    texts: pa.Array,
    people_of: Callable[[int], Sequence[str]],
    own_patterns: Sequence[str],
    sender_of: Callable[[int], str | None] = lambda row: None,
) -> dict[int, str]:
    """Row -> kind, for the rows of `texts` that no human wrote; `empty` for those without a visible character.

    Args:
        texts: messages of any number of threads (many at a time: RE2 reads its expressions anew on each call).
        people_of: the names in the thread of a row.
        own_patterns: RE2 expressions for whole lines; their kind is `system_pattern`.
        sender_of: who wrote a row; None where that is not known, which makes it anybody of the thread.
    """
    blank = pc.equal(pc.binary_length(pc.utf8_trim(texts, characters=_BLANK)), 0)
    found = dict.fromkeys(pc.indices_nonzero(blank).to_pylist(), "empty")
    hinted = pc.indices_nonzero(pc.match_substring_regex(texts, _HINTS))
    lines = texts.take(hinted)
    candidates = pc.indices_nonzero(pc.match_substring_regex(lines, _any_rule()))
    for row, line in zip(hinted.take(candidates).to_pylist(), lines.take(candidates).to_pylist(), strict=True):
        kind = kind_of(line, people_of(row), sender_of(row))
        if kind:
            found[row] = kind
    if own_patterns:
        mask = pc.match_substring_regex(texts, _whole_lines(own_patterns))
        for row in pc.indices_nonzero(mask).to_pylist():
            found.setdefault(row, "system_pattern")
    return found


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


def _fits(role: str, who: str, senders: Collection[str | None], others: Collection[str]) -> bool:
    """Whether the name `who` may stand where a rule has `role`."""
    if _is_one_of(who, senders) or (who == "You" and role != "them"):
        return True
    is_pair = len(others) == 1
    if _is_one_of(who, others):
        return role == "to" or (is_pair and role in ("one", "any"))
    return role in ("to", "any") and _looks_like_a_name(who)


def _is_one_of(who: str, names: Collection[str | None]) -> bool:
    """Whether `who` is one of `names`, or the first part of one: lines use first names ("Ben", "Anna Maria")."""
    return any(name == who or (name or "").startswith(who + " ") for name in names)


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
def _any_rule() -> str:
    """All rules in one, for RE2, whoever the name is."""
    rules = [re.sub(r"\{[a-z]+\}", ".+", rule) for _, rule in _RULES]
    return "(?s)" + _whole_lines(rules)


@functools.cache
def _compiled_rules() -> list[tuple[str, re.Pattern[str]]]:
    return [(kind, re.compile(re.sub(r"\{([a-z]+)\}", r"(?P<\1>.+?)", rule), re.DOTALL)) for kind, rule in _RULES]
