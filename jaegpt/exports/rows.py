"""From a file's list of messages to columns, and every message that is left out under one reason.

The common case is column-wise: one pass a key, types checked by column. Only messages with unusual keys are looked at
one by one. On the sample that is five times faster than a loop over messages.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.exports.system_lines import find_system_lines
from jaegpt.exports.text import repair

END_OF_TIME_MS = 4_102_444_800_000  # the year 2100: no message is from later

# What a message with unusual keys comes to: its text (None: it has none), or the reason to leave it out.
Verdict = tuple[str | None, str | None]  # (text, reason)


@dataclass(frozen=True)
class Shape:
    """How one format spells a message."""

    sender: str
    time: str
    time_unit_ms: int  # 1,000 where times are in seconds
    text: str
    plain: frozenset[str]  # keys that cannot change what becomes of a message
    judge: Callable[[dict[str, Any]], Verdict]


@dataclass
class Rows:
    """The messages of one file, oldest first.

    Attributes:
        table: sender int32 (an index into `senders`), sent_at int64 (ms since 1970), text string.
        senders: every name that wrote, also where nothing of it is kept.
        read: messages in the file = len(table) + sum(dropped).
        dropped: messages by reason.
        fault: the first malformed message, for the user; None when there is none.
    """

    table: pa.Table
    senders: list[str]
    read: int
    dropped: Counter[str]
    fault: str | None


def read_rows(messages: Sequence[Any], shape: Shape, names: Sequence[str], system_patterns: Sequence[str]) -> Rows:
    """The messages of one file as columns.

    Args:
        messages: the file's list, of whatever it holds.
        names: the thread's participants; system lines speak of them.
        system_patterns: the user's own, RE2.
    """
    well_formed, fault = _well_formed(messages, shape)
    dropped: Counter[str] = Counter(malformed=len(messages) - len(well_formed))
    times = [message[shape.time] for message in well_formed]
    newest_first = len(times) < 2 or times[0] >= times[-1]
    texts: list[str | None] = [message.get(shape.text) for message in well_formed]
    reasons: dict[int, str] = {}
    is_plain = shape.plain.issuperset
    for index in [index for index, message in enumerate(well_formed) if not is_plain(message)]:
        texts[index], reason = shape.judge(well_formed[index])
        if reason:
            reasons[index] = reason
    if None in texts:
        for index, text in enumerate(texts):
            if text is None:
                reasons.setdefault(index, "empty")
    senders = pa.array([message[shape.sender] for message in well_formed], pa.string()).dictionary_encode()
    table = pa.table(
        {
            "sender": senders.indices,
            "sent_at": pa.array(times, pa.int64()) if shape.time_unit_ms == 1 else _in_ms(times, shape.time_unit_ms),
            "text": pa.array([text if text is None or text.isascii() else repair(text) for text in texts], pa.string()),
        }
    )
    dropped.update(reasons.values())
    if reasons:
        kept = pa.array([index for index in range(len(table)) if index not in reasons], pa.int64())
        table = table.take(kept)
    if newest_first:  # a stable sort by time then keeps messages of one millisecond in the order they were written
        table = table.take(pa.array(range(len(table) - 1, -1, -1), pa.int64()))
    writers = [clean_name(name) for name in senders.dictionary.to_pylist()]
    table, more = _without_system_lines(_without_nul(table), writers, names, system_patterns)
    dropped.update(more)
    return Rows(table, writers, len(messages), +dropped, fault)


def clean_name(name: str) -> str:
    """A display name, repaired; the nameless (deleted accounts) get the name that newer exports give them."""
    return repair(name).replace("\0", "").strip() or "Facebook user"


def _well_formed(messages: Sequence[Any], shape: Shape) -> tuple[Sequence[dict[str, Any]], str | None]:
    """The messages whose sender, time and text are of the right types, and what is wrong with the first other one."""
    if set(map(type, messages)) <= {dict}:
        times = [message.get(shape.time) for message in messages]
        if (
            set(map(type, times)) <= {int}
            and (not times or (min(times) >= 0 and max(times) * shape.time_unit_ms < END_OF_TIME_MS))
            and {type(message.get(shape.sender)) for message in messages} <= {str}
            and {type(message.get(shape.text)) for message in messages} <= {str, type(None)}
        ):
            return messages, None
    faults = [_fault(message, shape) for message in messages]
    first = next((index, fault) for index, fault in enumerate(faults) if fault)
    bad = len(faults) - faults.count(None)
    described = f"{bad:,} of {len(messages):,} messages malformed, the first is messages[{first[0]}]: {first[1]}"
    return [message for message, fault in zip(messages, faults, strict=True) if fault is None], described


def _fault(message: Any, shape: Shape) -> str | None:
    if type(message) is not dict:
        return f"{type(message).__name__} instead of an object"
    sender, time, text = message.get(shape.sender), message.get(shape.time), message.get(shape.text)
    if type(sender) is not str:
        return f"`{shape.sender}` is {_kind(sender)} instead of a text"
    if type(time) is not int:
        return f"`{shape.time}` is {_kind(time)} instead of a whole number"
    if not 0 <= time * shape.time_unit_ms < END_OF_TIME_MS:
        return f"`{shape.time}` {time} lies outside the years 1970 to 2099"
    if text is not None and type(text) is not str:
        return f"`{shape.text}` is {_kind(text)} instead of a text"
    return None


def _kind(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def _in_ms(times: list[int], unit_ms: int) -> pa.Array:
    return pa.array([time * unit_ms for time in times], pa.int64())


def _without_nul(table: pa.Table) -> pa.Table:
    texts = table.column("text")
    if not pc.any(pc.match_substring(texts, "\0")).as_py():
        return table
    return table.set_column(2, "text", pc.replace_substring(texts, "\0", ""))


def _without_system_lines(
    table: pa.Table, senders: list[str], names: Sequence[str], system_patterns: Sequence[str]
) -> tuple[pa.Table, Counter[str]]:
    texts = table.column("text").combine_chunks()
    blank = pc.match_substring_regex(texts, r"^[\s\p{Z}\x{200B}\x{FE0F}]*$")
    reasons = dict.fromkeys(pc.indices_nonzero(blank).to_pylist(), "empty")
    for index, kind in find_system_lines(texts, table.column("sender"), senders, names, system_patterns).items():
        reasons.setdefault(index, kind)
    if not reasons:
        return table, Counter()
    kept = pa.array([index for index in range(len(table)) if index not in reasons], pa.int64())
    return table.take(kept), Counter(reasons.values())
