"""LINE's exported chats: day lines, and under them clock, name and text, between tabs (phones) or spaces (desktop)."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import DateOrder, Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.collecting import add_columns, malformed
from jaegpt.exports.readers.line_words import ENDS, STARTS, reason_of, unquoted
from jaegpt.exports.readers.local_times import MARKS, ClockWords, LocalTimes, day_of, decide_order
from jaegpt.exports.readers.names import NameParts
from jaegpt.exports.readers.text_blocks import PIECE, blocks, decoder_of

_HEAD = rf"\n[{MARKS}]*+"
_WORD = r"[^\W\d_]"
# 2026/01/30(金), 2026/1/30周五, 2025.12.10 Wednesday, Fri, 1/30/2026, R7/02/09(日): alone on its line.
_DATE = r"(?:R|H|令和|平成)?\d{1,4}+[/.]\d{1,2}+[/.]\d{1,4}+"
_DAY = rf"((?:{_WORD}{{2,12}}\.?, {_DATE}|{_DATE} ?(?:[(（][^()（）\n]{{1,12}}[)）]|{_WORD}[^\n\d:]{{0,20}})))(?=\n|\Z)"
_CLOCK = rf"((?:{_WORD}{{2,4}}\.? ?)?\d{{1,2}}+:\d{{2}}(?: ?[AaPp]\.?[Mm]\.?)?)"
# What follows the clock, and what stands between name and text; a line without the second was written by LINE.
_LAYOUTS = {
    "tabs": r"\t([^\t\n]*+)(?:(\t)|(?=\n|\Z))",
    "wide": r" {2,4}([^\n]*?)(?:( {2,4})|(?=\n|\Z))",
    "desktop": r" ([^ \n]*+)(?:( )|(?=\n|\Z))",
}
_COMPILED = {layout: re.compile(rf"{_HEAD}(?:{_DAY}|{_CLOCK}{rest})") for layout, rest in _LAYOUTS.items()}
_ERA = re.compile(r"(?:R|令和|(H|平成))(\d{1,2})(?=/)")
_TITLE = re.compile(rf"[{MARKS}]*\[LINE\] ?([^\n]*)")
# In turn with one person and with a group.
_TITLES = [
    (re.compile(pattern), is_group)
    for pattern, is_group in (
        (r"Chat history with (.+)", False), (r"Chat history in (.+)", True), (r"(.+?)とのトーク履歴", False),
        (r"(.+?)のトーク履歴", True), (r"[与與] ?(.+?) ?的聊天[记記紀][录錄]?", False),
        (r"(.+?) ?的?聊天[记記紀][录錄]", True),
        (r"ประวัติการ(?:สนทนา|แชท)กับ (.+)", False), (r"Riwayat (?:chat|obrolan) dengan (.+)", False),
        (r"(.+?) ?님과의? ?대화.*", False),
    )
]  # fmt: skip
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def sniff(name: str, head: bytes) -> float:
    """By LINE's first line, or by day lines with clocks and tabs under them."""
    text = "\n" + head.decode(decoder_of(head), "ignore").replace("\r\n", "\n").lstrip()
    found = _COMPILED[_layout_of(text)].split(text)
    days, clocks = [day for day in found[1::5] if day], [clock for clock in found[2::5] if clock]
    is_named = _TITLE.match(text, 1) is not None
    if is_named and days and clocks:
        return 0.95
    if is_named or (_layout_of(text) != "desktop" and days and len(clocks) > 1):
        return 0.6
    return 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a file, in pieces.

    Raises:
        BadFileError: there is no message under a day line, or it is no UTF-8.
    """
    with file.open() as stream:
        raw = stream.read(2**16)
    layout = _layout_of("\n" + raw.decode(decoder_of(raw), "ignore").replace("\r\n", "\n"))
    pattern = _COMPILED[layout]
    survey = _Survey(NameParts(" ") if layout == "desktop" else NameParts("\t"))
    for text, _ in blocks(file, pattern):
        survey.look_at(pattern.split(text))
    if not survey.days or not survey.clocks_seen:
        raise BadFileError(file.name, "not_this_format", "no message stands under a day, as in LINE's exported chats")
    verdict = decide_order([_plain_day(day) for day in survey.days], _by_weekdays(survey.days) or options.date_order)
    if not verdict.is_sure:
        shown = " and ".join(list(survey.days)[:2])
        say(f"days such as {shown} may have the day or the month first; the day was taken as first. "
            "If that is wrong, set export.date_order.")  # fmt: skip
    survey.clocks.learn()
    chat = _Reading(survey, layout == "desktop", LocalTimes(options.timezone, verdict.order, survey.clocks))
    thread = survey.thread()
    for text, line in blocks(file, pattern):
        chat.add_block(thread, pattern.split(text), line)
        if len(thread.texts) >= PIECE:
            yield thread
            thread = survey.thread()
    if thread.num_read:
        yield thread


def _layout_of(text: str) -> str:
    for layout in ("tabs", "wide"):
        if any(match[2] for match in _COMPILED[layout].finditer(text)):
            return layout
    return "desktop"


def _plain_day(day: str) -> str:
    """Japanese eras: R7/02/09 -> 2025/02/09."""
    return _ERA.sub(lambda match: str(int(match[2]) + (1988 if match[1] else 2018)), day, count=1)


def _by_weekdays(days: Sequence[str] | dict[str, None]) -> DateOrder | None:
    """The order in which the weekdays beside the dates are right."""
    right = {"day_first": 0, "month_first": 0}
    for text in days:
        word = re.search(r"[A-Za-z]{3}", text)
        if word and word[0].lower() in _WEEKDAYS:
            for wish, order in (("day_first", "dmy"), ("month_first", "mdy")):
                day = day_of(text, order)  # type: ignore[arg-type]
                right[wish] += day is not None and day.weekday() == _WEEKDAYS.index(word[0].lower())
    if right["day_first"] == right["month_first"]:
        return None
    return "day_first" if right["day_first"] > right["month_first"] else "month_first"


@dataclass
class _Survey:
    """What the first pass finds."""

    names: NameParts
    days: dict[str, None] = field(default_factory=dict)
    clocks: ClockWords = field(default_factory=ClockWords)
    clocks_seen: int = 0
    senders: dict[str, None] = field(default_factory=dict)
    head: str | None = None  # what stands before the first day

    def look_at(self, parts: Sequence[str | None]) -> None:
        days, clocks = parts[1::5], [clock or "" for clock in parts[2::5]]
        self.head = self.head if self.head is not None else str(parts[0]).strip()
        self.days |= dict.fromkeys(day for day in days if day)
        self.clocks_seen += sum(map(bool, clocks))
        self.clocks.look_at([day or "" for day in days], clocks)
        names = [name if mark else None for name, mark in zip(parts[3::5], parts[4::5], strict=True)]
        self.names.look_at(names, [str(text) for text in parts[5::5]])
        self.senders |= dict.fromkeys(name for name in dict.fromkeys(names) if name)

    def thread(self) -> SourceThread:
        """A piece of the chat that has no messages yet."""
        people = tuple(dict.fromkeys(self.names.whole(name) for name in self.senders))
        title, is_group = self._title()
        other = title if title in people else ""
        owner = tuple(name for name in people if name != other) if other and len(people) == 2 else ()
        if len(people) > 2:
            is_group, owner = True, ()
        elif other:
            is_group = False
        title = title or " & ".join(sorted(people))
        return SourceThread(title, title, people, is_group, owner, resolution_ms=60_000)

    def _title(self) -> tuple[str, bool | None]:
        match = _TITLE.match(self.head or "")
        line = match[1].strip() if match else ""
        for pattern, is_group in _TITLES:
            if found := pattern.fullmatch(line):
                return found[1].strip(), is_group
        return line, None


@dataclass
class _Reading:
    """The second pass: the day that holds goes on from block to block."""

    survey: _Survey
    is_desktop: bool
    times: LocalTimes
    day: str = ""

    def add_block(self, thread: SourceThread, parts: Sequence[str | None], line: int) -> None:
        dates: list[str] = []
        for day in parts[1::5]:
            self.day = _plain_day(day) if day else self.day
            dates.append(self.day)
        clocks, names, marks = parts[2::5], parts[3::5], parts[4::5]
        texts = [str(text) for text in parts[5::5]]
        sent_at = self.times.column(dates, [clock or "0:00" for clock in clocks])
        head = str(parts[0]).strip()
        if head and not self._is_head(head):
            malformed(thread, f"line {line:,}", "no day line and no time before the first message")
        whole = {name: self.survey.names.whole(name) for name in {*names} if name}
        rests = {name: rest for name in whole if (rest := self.survey.names.rest(name))}
        if rests:
            texts = [text.removeprefix(rests.get(name or "", "")) for name, text in zip(names, texts, strict=True)]
        reasons: dict[int, str | None] = {}
        for index in self._unusual(names, marks, texts):
            if not clocks[index]:
                reasons[index] = None  # a day line
                continue
            text = texts[index].rstrip("\n")
            if names[index] and marks[index]:
                texts[index] = text = unquoted(text)
                reason = reason_of(text, self.is_desktop)
            else:
                reason = reason_of(f"{names[index] or ''}{text}", self.is_desktop) or "system"
            if reason:
                reasons[index] = reason
        for index in (index for index, time in enumerate(sent_at) if time is None and clocks[index]):
            reasons[index] = "malformed"
            place = line + "".join(str(part) for part in parts[: 5 * index + 1] if part).count("\n") + index
            what = f"{dates[index]!r}, {clocks[index]!r} is no time from 1990 to 2099"
            thread.fault = thread.fault or f"line {place:,}: {what}"
        add_columns(thread, map(whole.get, names), sent_at, texts, reasons)  # type: ignore[arg-type]  # names may lack

    def _unusual(self, names: Sequence[str | None], marks: Sequence[str | None], texts: Sequence[str]) -> Iterable[int]:
        """The lines that LINE may have written itself, or changed."""
        if self.is_desktop:
            return range(len(texts))
        starts, ends = STARTS, ENDS
        return [
            index
            for index, (name, mark, text) in enumerate(zip(names, marks, texts, strict=True))
            if not (mark and name) or text[:1] in starts or text[-2:] in ends or text[-1:] == "\n"
        ]

    def _is_head(self, head: str) -> bool:
        return bool(_TITLE.match(head)) and head.count("\n") <= 2


READER = Reader(
    source="line",
    name="LINE, exported chat (text)",
    sniff=sniff,
    read=read,
    how="In a chat: the menu, Settings, Export chat history (on a computer: the menu, Save chat). One chat at a time.",
)
