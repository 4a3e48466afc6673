"""Local times as phones write them: dates in any order, clocks with day halves in any script, hours that come twice.

A line alone does not show whether it means 5 March or 3 May, so the order is decided once, from all dates of a file.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from jaegpt.exports.reader import DateOrder
from jaegpt.exports.rows import BEGIN_OF_TIME_MS, END_OF_TIME_MS

# What shows nothing and stands in headers: marks of the direction of writing, joiners, a byte order mark.
MARKS = "\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
SPACES = " \u00a0\u2009\u202f"
_SIGN, _DOT = rf"[{MARKS}]*+", rf"\.[{SPACES}]?"
# A date in figures with the separators / - or . (a space may follow a dot), perhaps with an era. What cannot match in
# another way is possessive (`*+`), which saves a quarter of the time.
DATE = (
    rf"\d{{1,4}}+{_SIGN}(?:[/-]|{_DOT}){_SIGN}\d{{1,2}}+{_SIGN}(?:[/-]|{_DOT}){_SIGN}\d{{1,4}}+{_SIGN}"
    rf"\.?(?:[{SPACES}](?:BE|AP|AH|г\.|ж\.|พ\.ศ\.))?"
)
# A clock with perhaps a word before it ("à", "klo", "下午") or behind it ("PM", "p. m.", "م").
_WORD = r"[^\W\d_][^\d\n\[\]:,/]{0,14}?"
CLOCK = rf"(?:{_WORD}[{SPACES}]?)?\d{{1,2}}+[:.]\d{{2}}(?:[:.]\d{{2}})?(?:[{SPACES}]?{_WORD})?"

Order = Literal["ymd", "dmy", "mdy"]
UNKNOWN = -(10**18)  # stands for a day or a clock that cannot be understood; no sum with it is a time
_BY_HAND = 10**16  # added to days on which the zone's offset changes
_FIRST_YEAR, _LAST_YEAR = 2000, 2099
_NUMBERS = re.compile(r"\d{1,9}")  # longer ones are no part of a date
_CLOCK_PARTS = re.compile(r"(\D*)(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(\D*)")
_NO_LETTERS = re.compile(r"[\W_]+")
# Halves of the day after CLDR. Chinese divides the day further.
_AM = """
    am 上午 凌晨 早上 清晨 午前 오전 ص ق.ظ قبل‌ازظهر לפנה״צ לפנה"צ π.μ öö sa pg ap fm de dop priekšp priešpiet пр.об
    претпл f.h ጥዋት पूर्वाह्न म.पू முற்பகல் ಪೂರ್ವಾಹ್ನ ਪੂ.ਦੁ পূর্বাহ্ণ ก่อนเที่ยง ກ່ອນທ່ຽງ နံနက် yb r.n vm vorm e.paradites
"""
_PM = """
    pm 下午 中午 晚上 傍晚 午後 오후 م ب.ظ بعدازظهر אחה״צ אחה"צ μ.μ ös ch ptg ip em du odp pop pēcp popiet сл.об попл
    e.h ከሰዓት अपराह्न म.उ பிற்பகல் ಅಪರಾಹ್ನ ਬਾ.ਦੁ অপরাহ্ণ หลังเที่ยง ຫຼັງທ່ຽງ ညနေ yh i.n nm nachm e.pasdites
"""


def _letters(word: str) -> str:
    return _NO_LETTERS.sub("", word).casefold()


_HALVES = {_letters(word): False for word in _AM.split()} | {_letters(word): True for word in _PM.split()}


def numbers_of(text: str) -> tuple[int, ...]:
    """The figures in a date, of whatever script: `"٥/٣/٢٠٢٤"` -> (5, 3, 2024)."""
    return tuple(int(number) for number in _NUMBERS.findall(text))


def day_of(text: str, order: Order) -> date | None:
    """The day of a date in figures; None where the calendar has none.

    Years of two figures are 20YY. The Thai calendar (2567) and the Persian one (1403) are converted.
    """
    numbers = numbers_of(text)
    if len(numbers) != 3:
        return None
    year, month, day = (numbers[order.index(part)] for part in "ymd")
    try:
        if year < 100:
            # The Thai year 67 is 2567 = 2024; nobody has messages of 2067.
            year += 2000 if year < 52 else 2500
        if 1380 <= year < 1430:
            return _of_persian_calendar(year, month, day)
        found = date(year - 543 if 2500 <= year < 2650 else year, month, day)
    except (ValueError, OverflowError):
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None


def _of_persian_calendar(year: int, month: int, day: int) -> date:
    """Its years begin on 20 or 21 March; in 33 years 8 are leap years (holds for 1244 to 1472)."""
    if not (1 <= month <= 12 and 1 <= day <= (31 if month <= 6 else 30)):
        raise ValueError
    cycles, rest = divmod(year - 1375, 33)  # 1375, a leap year, began on 20 March 1996
    leap_years = cycles * 8 + sum(1 for leap in (0, 4, 8, 12, 16, 20, 24, 28, 33) if leap < rest)
    days = (year - 1375) * 365 + leap_years + min(month - 1, 6) * 31 + max(month - 7, 0) * 30 + day - 1
    return date(1996, 3, 20) + timedelta(days=days)


@dataclass(frozen=True)
class OrderVerdict:
    """The order of a file's dates; `is_sure` is False where it had to be assumed."""

    order: Order
    is_sure: bool


def decide_order(dates: Sequence[str], preferred: DateOrder) -> OrderVerdict:
    """The order of the dates of a file, given in the order in which they first stand there.

    What exceeds 12 is a day. Where nothing does: what the user says, the order in which time never runs backwards, the
    one with the smallest steps, the day first.
    """
    fields = [numbers for numbers in map(numbers_of, dates) if len(numbers) == 3]
    if sum(numbers[0] > 99 for numbers in fields) * 2 > len(fields):
        return OrderVerdict("ymd", True)
    has_long_years = sum(numbers[2] > 99 for numbers in fields) * 2 > len(fields)
    candidates: list[Order] = ["dmy", "mdy"] if has_long_years else ["dmy", "mdy", "ymd"]
    days = {order: [day_of(text, order) for text in dates] for order in candidates}
    faults = {order: sum(day is None or day.year < 2009 for day in days[order]) for order in candidates}
    fewest = min(faults.values())
    # One damaged line must not decide: an order that a few lines contradict is as good as one that fits all.
    possible = [order for order in candidates if faults[order] <= fewest + len(dates) // 100]
    if len(possible) > 1 and "dmy" in possible and any("." in text for text in dates[:1]):
        possible = ["dmy"]  # nobody writes the month first with dots
    if len(possible) == 1:
        return OrderVerdict(possible[0], True)
    wish: Order | None = {"day_first": "dmy", "month_first": "mdy"}.get(preferred)  # type: ignore[assignment]
    if wish in possible:
        return OrderVerdict(wish, True)
    steps = {order: _steps(days[order]) for order in possible}
    ranked = sorted(possible, key=lambda order: steps[order])  # stable: the day first in ties
    (back, size), (other_back, other_size) = steps[ranked[0]], steps[ranked[1]]
    return OrderVerdict(ranked[0], back < other_back or (back == other_back and size * 2 < other_size))


def _steps(days: Iterable[date | None]) -> tuple[int, int]:
    """(how often time runs backwards, days passed in sum) over the days of a file."""
    known = [day.toordinal() for day in days if day]
    steps = [after - before for before, after in itertools.pairwise(known)]
    return sum(step < 0 for step in steps), sum(map(abs, steps))


@dataclass
class ClockWords:
    """What the words beside clocks mean, found from all clocks of a file."""

    halves: dict[str, bool] = field(default_factory=lambda: dict(_HALVES))  # letters -> whether it is after noon
    has_24_hours: bool = False
    has_seconds: bool = False
    _seen: dict[str, str] = field(default_factory=dict)  # clock -> an unknown word in it, or ""
    _votes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def look_at(self, dates: Sequence[str], clocks: Sequence[str]) -> None:
        """Take note of a part of the file."""
        for clock in set(clocks) - self._seen.keys():
            match = _CLOCK_PARTS.fullmatch(clock)
            if not match:
                continue
            words = [word for word in map(_letters, match.group(1, 5)) if word]
            self._seen[clock] = next((word for word in words if word not in self.halves), "")
            self.has_24_hours |= int(match[2]) > 12
            self.has_seconds |= match[4] is not None
        if self.has_24_hours or not any(self._seen.values()):
            return
        day, before = "", ""
        for text, clock in zip(dates, clocks, strict=True):
            word = self._seen.get(clock, "")
            if text == day and word and before and word != before:
                self._votes[before, word] += 1
            day, before = text, word

    def learn(self) -> None:
        """Words that no table has: of two, the one that comes first in a day stands for the hours before noon."""
        unknown = sorted(set(self._seen.values()) - {""})
        if len(unknown) == 2 and not self.has_24_hours:
            first, second = unknown
            is_first = self._votes[first, second] >= self._votes[second, first]
            self.halves |= {first: not is_first, second: is_first}
        self._seen.clear()

    def ms_of(self, clock: str) -> int:
        """ms since midnight, or UNKNOWN: `"8:28 p. m."` -> 73,680,000."""
        match = _CLOCK_PARTS.fullmatch(clock)
        if not match:
            return UNKNOWN
        hour, minute, second = int(match[2]), int(match[3]), int(match[4] or 0)
        known = [self.halves[word] for word in map(_letters, match.group(1, 5)) if word in self.halves]
        if known and hour <= 12:
            hour = hour % 12 + 12 * known[0]
        return (hour * 3600 + minute * 60 + second) * 1000 if hour < 24 and minute < 60 and second < 60 else UNKNOWN


class LocalTimes:
    """Dates and clocks of a file, in the order of the file, to ms since 1970 in UTC; each date is looked at once.

    An hour that daylight saving repeats is identified by the order of the file: where the clock jumps back, it is the
    second one.
    """

    def __init__(self, zone: ZoneInfo, order: Order, words: ClockWords) -> None:
        self._zone, self._order, self._words = zone, order, words
        self._days: dict[str, int] = {}
        self._clocks: dict[str, int] = {}
        self._last_ms = 0

    def column(self, dates: Sequence[str], clocks: Sequence[str]) -> list[int | None]:
        """One time per message; None where date or clock cannot be understood."""
        for text in set(dates) - self._days.keys():
            self._days[text] = self._start_of(day_of(text, self._order))
        for clock in set(clocks) - self._clocks.keys():
            self._clocks[clock] = self._words.ms_of(clock)
        days, clock_ms = self._days, self._clocks
        sums = [days[text] + clock_ms[clock] for text, clock in zip(dates, clocks, strict=True)]
        times: list[int | None] = [*sums]
        if sums and (min(sums) < BEGIN_OF_TIME_MS or max(sums) >= END_OF_TIME_MS):
            for index, time in enumerate(sums):
                if not BEGIN_OF_TIME_MS <= time < END_OF_TIME_MS:
                    times[index] = self._one(time, (times[index - 1] if index else None) or self._last_ms)
        self._last_ms = (times[-1] if times else None) or self._last_ms
        return times

    def _start_of(self, day: date | None) -> int:
        """The day's midnight in ms of UTC; on a day on which the offset changes, that of its clocks plus _BY_HAND."""
        if day is None:
            return UNKNOWN
        midnight = datetime(day.year, day.month, day.day)
        offsets = {(midnight + timedelta(days=after)).replace(tzinfo=self._zone).utcoffset() for after in (0, 1)}
        local_ms = round(midnight.replace(tzinfo=UTC).timestamp()) * 1000
        if len(offsets) > 1:
            return local_ms + _BY_HAND
        return local_ms - round((offsets.pop() or timedelta()).total_seconds()) * 1000

    def _one(self, time: int, before_ms: int) -> int | None:
        if time >= _BY_HAND:
            clock = datetime.fromtimestamp((time - _BY_HAND) / 1000, UTC)
            first, second = (round(clock.replace(tzinfo=self._zone, fold=f).timestamp()) * 1000 for f in (0, 1))
            time = second if first < before_ms <= second else first
        return time if BEGIN_OF_TIME_MS <= time < END_OF_TIME_MS else None
