"""KakaoTalk's exported chats: the text of Windows, Android and iPhones, Korean or English, and the CSV of the Mac."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.collecting import add_columns, malformed
from jaegpt.exports.readers.kakaotalk_chats import CSV_HEAD, TITLES, Survey, csv_threads
from jaegpt.exports.readers.kakaotalk_words import SYSTEM_LINE, reason_of
from jaegpt.exports.readers.local_times import MARKS, LocalTimes
from jaegpt.exports.readers.text_blocks import PIECE, blocks, decoder_of

_HEAD = rf"\n[{MARKS}]*+"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_ENGLISH = rf"{_MONTH} \d{{1,2}}, \d{{4}}"
_KOREAN = r"\d{4}년 \d{1,2}월 \d{1,2}일|\d{4}\. ?\d{1,2}\. ?\d{1,2}\.?"
_CLOCK = r"(?:(?:오전|오후|[AaPp][Mm]) )?\d{1,2}:\d{2}(?: ?[AaPp][Mm])?"
_END = r"(?=\n|\Z)"
# Behind date and clock: a comma, and then name and text or a line of KakaoTalk's own; a colon and such a line; nothing.
_REST = rf"(, |: |{_END})(?:(?<=, )([^\n]*?) : )?"
_DAY_LINE = rf"\d{{4}}년 \d{{1,2}}월 \d{{1,2}}일(?: .요일)?{_END}|(?:[A-Z][a-z]+day, )?{_ENGLISH}{_END}"
# Each captures four things, in the order of _GROUPS; a day line captures the day alone, or nothing.
_LAYOUTS = {
    "windows": rf"{_HEAD}(?:-{{3,}} ([^\n]*\d[^\n]*?) -{{3,}}{_END}|\[([^\n]{{1,100}}?)\] \[({_CLOCK})\]( ?))",
    "korean": rf"{_HEAD}(?:({_KOREAN}),? ({_CLOCK}){_REST}|{_DAY_LINE})",
    "english": rf"{_HEAD}(?:({_ENGLISH})(?:,| at)? ({_CLOCK}){_REST}|{_DAY_LINE})",
    "old english": rf"{_HEAD}(?:({_CLOCK}), ({_ENGLISH}){_REST}|{_DAY_LINE})",
}
_GROUPS = {
    "windows": ("date", "name", "clock", "mark"), "korean": ("date", "clock", "mark", "name"),
    "english": ("date", "clock", "mark", "name"), "old english": ("clock", "date", "mark", "name"),
}  # fmt: skip
_COMPILED = {layout: re.compile(pattern) for layout, pattern in _LAYOUTS.items()}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SAVED = re.compile(r"(?:저장한 날짜|Date Saved|Save date|내보낸 날짜) ?:")


def sniff(name: str, head: bytes) -> float:
    """By KakaoTalk's first lines, or by its way to write times."""
    text = head.decode(decoder_of(head), "ignore")
    if CSV_HEAD.match(text):
        return 0.95
    text = "\n" + text.replace("\r\n", "\n").lstrip()
    layout, count = _layout_of(text)
    if not count:
        return 0.0
    first = text[1:].partition("\n")[0]
    if any(pattern.fullmatch(first) for pattern in TITLES) or _SAVED.search(text[:500]):
        return 0.95
    return 0.7 if count > 1 or layout == "korean" else 0.4


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a file, in pieces.

    Raises:
        BadFileError: there is no message, or it is no UTF-8, or no CSV.
    """
    with file.open() as stream:
        raw = stream.read(2**16)
    text = raw.decode(decoder_of(raw), "ignore")
    if CSV_HEAD.match(text):
        yield from csv_threads(file, options)
        return
    layout, _ = _layout_of("\n" + text.replace("\r\n", "\n"))
    survey = Survey()
    for block, _ in blocks(file, _COMPILED[layout]):
        columns = _Columns.of(layout, block)
        survey.look_at(columns.before, columns.names, columns.texts)
    if not survey.senders:
        raise BadFileError(file.name, "not_this_format", "no line begins as KakaoTalk's messages do")
    reading = _Reading(survey, layout, LocalTimes(options.timezone, "ymd", survey.clocks))
    thread = survey.thread(60_000)
    for block, line in blocks(file, _COMPILED[layout]):
        reading.add_block(thread, block, line)
        if len(thread.texts) >= PIECE:
            yield thread
            thread = survey.thread(60_000)
    if thread.num_read:
        yield thread


def _layout_of(text: str) -> tuple[str, int]:
    """The layout that most messages of `text` have, and how many there are."""
    counts = {layout: sum(bool(name) for name in _Columns.of(layout, text).names) for layout in _LAYOUTS}
    best = max(counts, key=lambda layout: counts[layout])
    return best, counts[best]


def _plain_day(text: str) -> str:
    """The day with figures alone, the year first: "Monday, July 9, 2015" -> "2015/7/9"."""
    month = re.search(rf"({_MONTH}) (\d{{1,2}}), (\d{{4}})", text)
    return f"{month[3]}/{_MONTHS.index(month[1][:3].lower()) + 1}/{month[2]}" if month else text


@dataclass
class _Columns:
    """A block, column by column: one entry per message or day line; `before` stands before the first of them."""

    before: str
    dates: list[str | None]
    clocks: list[str | None]
    marks: list[str | None]
    names: list[str | None]
    texts: list[str]

    @classmethod
    def of(cls, layout: str, text: str) -> "_Columns":
        parts = _COMPILED[layout].split(text)
        groups = {name: parts[place::5] for place, name in enumerate(_GROUPS[layout], start=1)}
        return cls(parts[0], groups["date"], groups["clock"], groups["mark"], groups["name"], parts[5::5])


@dataclass
class _Reading:
    """The second pass; on Windows the day goes on from block to block."""

    survey: Survey
    layout: str
    times: LocalTimes
    day: str = ""

    def add_block(self, thread: SourceThread, text: str, line: int) -> None:
        columns = _Columns.of(self.layout, text)
        plain = {date: _plain_day(date) for date in set(columns.dates) if date}
        dates: list[str] = []
        for date in columns.dates:
            self.day = plain[date] if date else self.day
            dates.append(self.day)
        sent_at = self.times.column(dates, [clock or "0:00" for clock in columns.clocks])
        head = columns.before.strip()
        if head and not (head == self.survey.head and (self.survey.title or _SAVED.search(head))):
            malformed(thread, f"line {line:,}", "no time before the first message")
        names = columns.names
        whole = {name: self.survey.names.whole(name) for name in {*names} if name}
        rests = {name: rest for name in whole if (rest := self.survey.names.rest(name))}
        texts = [text.rstrip("\n") for text in columns.texts]
        reasons: dict[int, str | None] = {}
        for index, name in enumerate(names):
            if not columns.clocks[index] or not (columns.marks[index] or name):
                reasons[index] = None  # a day line
                continue
            if self.layout == "windows" and "\n" in texts[index]:
                texts[index] = self._without_own_lines(thread, texts[index])
            if sent_at[index] is None:
                reasons[index] = "malformed"
                place = line + text.count("\n", 0, self._start_of(text, index))
                what = f"{dates[index]!r}, {columns.clocks[index]!r} is no time from 1990 to 2099"
                thread.fault = thread.fault or f"line {place:,}: {what}"
            elif not name:
                reasons[index] = "system"
            else:
                if rests:
                    texts[index] = texts[index].removeprefix(rests.get(name, ""))
                if reason := reason_of(texts[index]):
                    reasons[index] = reason
        add_columns(thread, map(whole.get, names), sent_at, texts, reasons)  # type: ignore[arg-type]  # names may lack

    def _start_of(self, text: str, index: int) -> int:
        starts = [match.start() for match in _COMPILED[self.layout].finditer(text)]
        return starts[index]

    def _without_own_lines(self, thread: SourceThread, text: str) -> str:
        """On Windows what KakaoTalk itself says has no time, so that it stands behind a message."""
        lines = text.split("\n")
        while len(lines) > 1 and (SYSTEM_LINE.fullmatch(lines[-1]) or not lines[-1].strip()):
            thread.dropped["system"] += bool(lines.pop().strip())
        return "\n".join(lines)


READER = Reader(
    source="kakaotalk",
    name="KakaoTalk, exported chat (text or CSV)",
    sniff=sniff,
    read=read,
    how="In a chat: the menu, settings, Export chat (on a computer: the menu, Save chat). One chat at a time.",
)
