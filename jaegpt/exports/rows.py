"""From a file's list of messages to columns, and every message that is left out under one reason.

The common case is column-wise: one pass per key, types checked by column. Only messages with an unusual
value (an unsent one, a share) are looked at one by one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaegpt.exports.reactions import REASON, is_emoji
from jaegpt.exports.text import repair

# No chat is older than 1990, and 0 stands for a time that is not known; so seconds are never taken for ms either.
BEGIN_OF_TIME_MS = 631_152_000_000
END_OF_TIME_MS = 4_102_444_800_000  # the year 2100: no message is from later

# What a message with an unusual value comes to: its text (None: it has none), and the reason to leave it out, if any.
Verdict = tuple[str | None, str | None]


@dataclass(frozen=True)
class Dialect:
    """How one format writes a message: the keys, the unit of time, and what unusual values mean."""

    sender: str
    time: str
    time_unit_ms: int  # 1,000 where times are in seconds
    text: str
    # Keys that can change what becomes of a message, each with its harmless values; `judge` decides on all others.
    usual: Mapping[str, tuple[Any, ...]]
    judge: Callable[[dict[str, Any]], Verdict]


@dataclass
class Rows:
    """The messages of one file, oldest first, as three lists of one length.

    Attributes:
        senders: names as the file writes them.
        times: ms since 1970.
        texts: repaired.
        writers: everyone who wrote in the file, those too of whom nothing is kept.
        read: messages in the file = len(texts) + sum(dropped).
        dropped: messages by reason.
        fault: the first malformed message, for the user; None when there is none.
        in_seconds: whether its times are whole seconds.
        reacting: places of reactions, each behind what it is a reaction to, or behind another one to that.
    """

    senders: list[str]
    times: list[int]
    texts: list[str]
    writers: set[str]
    read: int
    dropped: Counter[str]
    fault: str | None
    in_seconds: bool
    reacting: list[int] = field(default_factory=list)


def read_rows(messages: Sequence[Any], dialect: Dialect, reactions: bool = False) -> Rows:
    """The messages of one file, whatever its list holds; system lines are still among them.

    Args:
        reactions: whether emoji reactions to the messages that are kept become messages.
    """
    well_formed, fault = messages, None
    columns = _columns(messages, dialect)
    if columns is None:
        well_formed, fault = _without_faults(messages, dialect)
        columns = _columns(well_formed, dialect)
        assert columns is not None, fault
    senders, times, texts = columns
    reasons: dict[int, str] = {}
    for index in _unusual(well_formed, dialect):
        texts[index], reason = dialect.judge(well_formed[index])
        if reason:
            reasons[index] = reason
            texts[index] = None
    if None in texts:
        for index, text in enumerate(texts):
            if text is None:
                reasons.setdefault(index, "empty")
    writers = set(senders)
    given = [_reactions(message) for message in well_formed] if reactions else []
    if reasons:
        kept = [index for index in range(len(texts)) if index not in reasons]
        senders = [senders[index] for index in kept]
        times = [times[index] for index in kept]
        texts = [texts[index] for index in kept]
    # Files are newest first as a rule. Reversed here, so that the stable sort by time later on leaves messages of one
    # moment in the order in which they were written.
    step = -1 if len(times) < 2 or times[0] >= times[-1] else 1
    dropped = Counter(reasons.values())
    if len(well_formed) < len(messages):
        dropped["malformed"] = len(messages) - len(well_formed)
    rows = Rows(
        senders[::step],
        times[::step] if dialect.time_unit_ms == 1 else [time * dialect.time_unit_ms for time in times[::step]],
        [text if text.isascii() else repair(text) for text in texts[::step]],
        writers,
        len(messages),
        dropped,
        fault,
        dialect.time_unit_ms > 1,
    )
    if any(given):
        _add_reactions(rows, given, [index for index in range(len(given)) if index not in reasons][::step])
    return rows


def _reactions(message: dict[str, Any]) -> list[tuple[str, str] | None]:
    """(who, emoji) of each reaction to a message; None for one that does not say so."""
    listed = message.get("reactions")
    found: list[tuple[str, str] | None] = []
    for one in listed if type(listed) is list else ():
        actor, emoji = (one.get("actor"), one.get("reaction")) if type(one) is dict else (None, None)
        emoji = repair(emoji) if type(emoji) is str else ""
        found.append((actor, emoji) if type(actor) is str and actor and is_emoji(emoji) else None)
    return found


def _add_reactions(rows: Rows, given: Sequence[list[tuple[str, str] | None]], kept: Sequence[int]) -> None:
    """Put reactions behind their messages, at the same time; those to messages that are left out are left out.

    Args:
        given: [well-formed messages] the reactions to each.
        kept: [rows] which of these messages each row is.
    """
    senders: list[str] = []
    times: list[int] = []
    texts: list[str] = []
    reacting: list[int] = []
    for row, index in enumerate(kept):
        said = [(rows.senders[row], rows.texts[row]), *(one for one in given[index] if one)]
        reacting += range(len(texts) + 1, len(texts) + len(said))
        senders += [sender for sender, _ in said]
        texts += [text for _, text in said]
        times += [rows.times[row]] * len(said)
    num_given = sum(map(len, given))
    rows.writers |= {senders[row] for row in reacting}
    rows.senders, rows.times, rows.texts, rows.reacting = senders, times, texts, reacting
    rows.read += num_given
    if num_given > len(reacting):
        rows.dropped[REASON] += num_given - len(reacting)


def _unusual(messages: Sequence[dict[str, Any]], dialect: Dialect) -> set[int]:
    """The messages in which a key that matters has an unusual value."""
    keys = set().union(*messages) & dialect.usual.keys()
    return {
        index
        for key in keys
        for index, value in enumerate([message.get(key) for message in messages])
        if value not in dialect.usual[key]
    }


def is_a_time(time: int, dialect: Dialect) -> bool:
    """Whether a message can be of that time."""
    return BEGIN_OF_TIME_MS <= time * dialect.time_unit_ms < END_OF_TIME_MS


def _columns(messages: Sequence[Any], dialect: Dialect) -> tuple[list[str], list[int], list[Any]] | None:
    """(senders, times, texts), or None when one of them is not of its type."""
    if not set(map(type, messages)) <= {dict}:
        return None
    senders = [message.get(dialect.sender) for message in messages]
    times = [message.get(dialect.time) for message in messages]
    texts = [message.get(dialect.text) for message in messages]
    if not (set(map(type, senders)) <= {str} and set(map(type, times)) <= {int}):
        return None
    if times and not (is_a_time(min(times), dialect) and is_a_time(max(times), dialect)):
        return None
    return (senders, times, texts) if set(map(type, texts)) <= {str, type(None)} else None


def _without_faults(messages: Sequence[Any], dialect: Dialect) -> tuple[Sequence[dict[str, Any]], str]:
    """The messages whose sender, time and text are of the right types, and what is wrong with the first other one."""
    is_bad = [_fault(message, dialect) is not None for message in messages]  # a million descriptions would fill memory
    first = is_bad.index(True)
    described = (
        f"{sum(is_bad):,} of {len(messages):,} messages malformed, the first is messages[{first}]: "
        f"{_fault(messages[first], dialect)}"
    )
    return [message for message, bad in zip(messages, is_bad, strict=True) if not bad], described


def _fault(message: Any, dialect: Dialect) -> str | None:
    if type(message) is not dict:
        return f"{type(message).__name__} instead of an object"
    sender, time, text = message.get(dialect.sender), message.get(dialect.time), message.get(dialect.text)
    if type(sender) is not str:
        return f"`{dialect.sender}` is {kind_of(sender)} instead of a text"
    if type(time) is not int:
        return f"`{dialect.time}` is {kind_of(time)} instead of a whole number"
    if not is_a_time(time, dialect):
        return f"`{dialect.time}` {time} lies outside the years 1990 to 2099"
    if text is not None and type(text) is not str:
        return f"`{dialect.text}` is {kind_of(text)} instead of a text"
    return None


def kind_of(value: object) -> str:
    """What a value of a wrong type is, for people."""
    return "missing" if value is None else type(value).__name__
