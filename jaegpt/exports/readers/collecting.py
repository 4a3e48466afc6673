"""What readers of chat formats share: names that are one person's alone, faults, and clocks without a zone."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import cast
from zoneinfo import ZoneInfo

from jaegpt.exports.reader import SourceThread
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS

PIECE_MESSAGES = 65_536  # of a thread, at which a piece of it is handed over, so that memory stays bounded

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[T ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)", re.ASCII)


class Names:
    """One name per identity: two people of one name must not become one sender, nor one of them the owner."""

    def __init__(self) -> None:
        self._by_identity: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, identity: str, name: str) -> str:
        """The name of `identity`, which is `name` unless somebody else has that: then the identity stands behind it."""
        known = self._by_identity.get(identity)
        if known is None:
            known = name if name not in self._taken else f"{name} ({identity})"
            self._by_identity[identity] = known
            self._taken.add(known)
        return known

    def get(self, identity: str) -> str | None:
        return self._by_identity.get(identity)

    def identities(self) -> Collection[str]:
        return self._by_identity.keys()


class LocalClock:
    """Wall clock times as UTC. In the hour that daylight saving doubles, time goes on as the file does."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._days: dict[str, tuple[int, int | None]] = {}

    def ms(self, text: str, before_ms: int | None) -> int:
        """ms since 1970 of `2024-03-05T14:03:21`; `before_ms` is the time of the message before.

        Raises:
            ValueError: it is no such time.
        """
        found = _CLOCK.fullmatch(text)
        if not found:
            raise ValueError(f"{text[:40]!r} is no time like 2024-03-05T14:03:21")
        day, hour, minute, second = found.groups()
        if day not in self._days:
            self._days[day] = self._day(day)
        midnight_ms, offset_ms = self._days[day]
        clock_ms = midnight_ms + ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000
        if offset_ms is not None:
            return clock_ms - offset_ms
        wall = datetime.fromisoformat(text)
        first, later = (clock_ms - self._offset_ms(wall.replace(fold=fold)) for fold in (0, 1))
        return later if before_ms is not None and first < before_ms <= later else first

    def _day(self, day: str) -> tuple[int, int | None]:
        """A day's midnight as ms, and its distance from UTC; None where that changes on the day."""
        start = datetime.fromisoformat(day)
        midnight_ms = (start.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
        first, last = self._offset_ms(start), self._offset_ms(start.replace(hour=23, minute=59, second=59, fold=1))
        return midnight_ms, first if first == last else None

    def _offset_ms(self, wall: datetime) -> int:
        return (wall.replace(tzinfo=self._zone).utcoffset() or timedelta(0)) // timedelta(milliseconds=1)


def checked_time(ms: int, key: str) -> int:
    """`ms`, if a message can be of that time.

    Raises:
        ValueError: it cannot.
    """
    if not BEGIN_OF_TIME_MS <= ms < END_OF_TIME_MS:
        raise ValueError(f"`{key}` lies outside the years 1990 to 2099")
    return ms


def iso_ms(value: object, key: str) -> int:
    """ms since 1970 of a time by ISO 8601 that has an offset, or is in UTC.

    Raises:
        ValueError: it is no such time.
    """
    if type(value) is not str:
        raise ValueError(f"`{key}` is {kind_of(value)} instead of a time")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return checked_time((moment - _EPOCH) // timedelta(milliseconds=1), key)
    except (ValueError, OverflowError):
        raise ValueError(f"`{key}` {value[:40]!r} is no time of the years 1990 to 2099") from None


def add_columns(
    thread: SourceThread,
    senders: Iterable[str | None],
    sent_at: Iterable[int | None],
    texts: Sequence[str],
    reasons: Mapping[int, str | None],
) -> None:
    """Add messages by columns, but for those left out: `reasons` has these by their places, None for no message at all.

    Only what is left out may lack its sender or time.
    """
    thread.dropped.update(reason for reason in reasons.values() if reason)
    is_kept = bytearray(b"\1") * len(texts)
    for place in reasons:
        is_kept[place] = 0
    thread.senders.extend(cast("Iterator[str]", compress(senders, is_kept)))
    thread.sent_at.extend(cast("Iterator[int]", compress(sent_at, is_kept)))
    thread.texts.extend(compress(texts, is_kept))


def malformed(thread: SourceThread, where: str, what: object) -> None:
    """Count a message that cannot be understood, and remember the first."""
    thread.dropped["malformed"] += 1
    thread.fault = thread.fault or f"{where}: {what}"


def kind_of(value: object) -> str:
    """What a value of a wrong type is, for people."""
    return "missing" if value is None else type(value).__name__
