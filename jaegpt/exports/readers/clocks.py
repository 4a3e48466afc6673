"""Times of messages: by ISO 8601, and by wall clocks without a zone.

In an hour that comes twice, at the end of daylight saving, the file's order decides which one is meant.
Formats that write other clocks than one to the second have `local_times`.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS, kind_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[T ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)", re.ASCII)


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


class LocalClock:
    """Wall clock times as UTC. In the hour that comes twice at the end of daylight saving, the file's order decides."""

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


class HourClock:
    """Clock times of one file, in its order, as ms since 1970.

    Args:
        zone: the clock's.
        iso: from the hour as the file writes it to `2024-03-05T14`; ValueError where it is not one.
    """

    def __init__(self, zone: ZoneInfo, iso: Callable[[str], str] = str) -> None:
        self._clock, self._iso = LocalClock(zone), iso
        self._hours: dict[str, tuple[int, int]] = {}
        self._before_ms = 0

    def ms(self, hour: str, minute: str, second: str) -> int:
        """The time of `minute` and `second` in `hour`.

        Raises:
            ValueError: there is no such time.
        """
        if hour not in self._hours:
            self._hours[hour] = self._hour(hour)
        if minute > "59" or second > "59":
            raise ValueError(f"'{hour}:{minute}:{second}' is no time")
        start, doubled_ms = self._hours[hour]
        found = start + (int(minute) * 60 + int(second)) * 1000
        if doubled_ms and found < self._before_ms:
            found += doubled_ms
        self._before_ms = found
        return found

    def _hour(self, hour: str) -> tuple[int, int]:
        """When an hour begins, and how much later it begins again where the clock is put back; else 0."""
        iso = f"{self._iso(hour)}:00:00"
        start = checked_time(self._clock.ms(iso, None), "time")
        return start, self._clock.ms(iso, start + 1) - start
