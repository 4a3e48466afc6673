"""Local times of a long file, fast: each hour is looked up once, and of one that comes twice the file's order tells.

Formats that write other clocks than one to the second have `local_times`.
"""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from jaegpt.exports.readers.collecting import LocalClock, checked_time


class HourClock:
    """Clock times of one file, in its order, as ms since 1970.

    Args:
        zone: where the clock hung.
        iso: from the hour as the file writes it to `2024-03-05T14`; ValueError for one that is none.
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
