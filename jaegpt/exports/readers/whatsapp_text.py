"""WhatsApp's "Export chat": the text file of Android and iOS in the language of the phone, alone or in its zip.

A file is gone through twice: first for the order of its dates, its names and who the owner may be, then for its
messages, block by block.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers import whatsapp_words
from jaegpt.exports.readers.collecting import add_columns, malformed
from jaegpt.exports.readers.local_times import ClockWords, LocalTimes, decide_order
from jaegpt.exports.readers.names import NameParts, plain_name
from jaegpt.exports.readers.text_blocks import PIECE, blocks
from jaegpt.exports.readers.whatsapp_lines import Header, Lines, header_of, sniff
from jaegpt.exports.readers.whatsapp_words import LRM

_GROUP_WORDS = re.compile(
    r"created group|created this group|joined using|invite link|hat die Gruppe|creó el grupo|a créé le groupe|"
    r"ha creato il gruppo|criou o grupo|heeft de groep|создал(?:\(?-?а\)?)? группу|utworzył|建立了群組|创建了群组"
)
# The name of a file, without its ending, in the languages of phones; `name` is the chat's.
_FILE_NAMES = [
    re.compile(pattern)
    for pattern in (
        r"(?:WhatsApp[ -]Chat|Chat WhatsApp|Chat de WhatsApp|Conversa d?n?o WhatsApp|Discussion WhatsApp|Чат WhatsApp|"
        r"WhatsApp-chat|Czat WhatsApp)(?: -| with| mit| con| com| avec| met| med| z| с контактом| с)? (?P<name>.+)",
        r"[与與](?P<name>.+?) ?的 ?WhatsApp ?(?:聊天|對話|对话)(?:記錄|记录)?",
        r"(?P<name>.+) ile WhatsApp Sohbeti",
    )
]
_COPY = re.compile(r"\s*\(\d{1,3}\)$")


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a file, in pieces.

    Raises:
        BadFileError: no message begins anywhere, or it is no UTF-8.
    """
    header = header_of(file)
    survey = _Survey(header.layout)
    for text, _ in blocks(file, header.pattern):
        survey.look_at(Lines.of(header.pattern, text))
    if not survey.dates:
        raise BadFileError(file.name, "not_this_format", "no line begins as WhatsApp's messages do")
    verdict = decide_order(list(survey.dates), options.date_order)
    if not verdict.is_sure:
        shown = " and ".join(list(survey.stamps)[:2])
        day = "day" if verdict.order == "dmy" else "month" if verdict.order == "mdy" else "year"
        say(f"lines dated {shown} may have the day or the month first; the {day} was taken as first. "
            "If that is wrong, set export.date_order.")  # fmt: skip
    survey.clocks.learn()
    chat = survey.chat(file)
    times = LocalTimes(options.timezone, verdict.order, survey.clocks)
    thread = chat.thread()
    for text, line in blocks(file, header.pattern):
        _add_block(thread, chat, header, times, text, line)
        if len(thread.texts) >= PIECE:
            yield thread
            thread = chat.thread()
    if thread.num_read:
        yield thread


@dataclass
class _Chat:
    """What holds for the whole file."""

    key: str
    title: str
    people: tuple[str, ...]
    is_group: bool | None
    owner: tuple[str, ...]
    is_ios: bool
    resolution_ms: int
    names: NameParts

    def thread(self) -> SourceThread:
        """A piece of the chat that has no messages yet."""
        return SourceThread(
            self.key, self.title, self.people, self.is_group, self.owner, resolution_ms=self.resolution_ms
        )


@dataclass
class _Survey:
    """What the first pass finds."""

    layout: str
    dates: dict[str, None] = field(default_factory=dict)  # in the order of their first appearance
    stamps: dict[str, None] = field(default_factory=dict)  # the first headers of the first two days
    clocks: ClockWords = field(default_factory=ClockWords)
    names: NameParts = field(default_factory=NameParts)
    senders: Counter[str | None] = field(default_factory=Counter)
    deleters: Counter[str] = field(default_factory=Counter)
    notice_by: str = ""  # iOS writes the first notice in the name of the group, or of the other person
    has_group_lines: bool = False

    def look_at(self, lines: Lines) -> None:
        self.dates |= dict.fromkeys(lines.dates)
        self.clocks.look_at(lines.dates, lines.clocks)
        if len(self.stamps) < 2:
            first_of_days = dict(zip(reversed(lines.dates), reversed(lines.clocks), strict=True))
            self.stamps |= {plain_name(f"{day} {clock}"): None for day, clock in list(first_of_days.items())[::-1][:2]}
        if self.layout == "ios":
            for index, text in enumerate(lines.texts):
                if text[:1] == LRM and (name := lines.names[index]):
                    self._own_line(name, text)
                    lines.names[index] = None
        if not self.has_group_lines:
            self.has_group_lines = any(_GROUP_WORDS.search(lines.texts[index]) for index in lines.unnamed())
        self.names.look_at(lines.names, lines.texts)
        self.senders.update(lines.names)
        if deleted := whatsapp_words.own_deleted_among(lines.texts):
            by = (name for name, text in zip(lines.names, lines.texts, strict=True) if text in deleted)
            self.deleters.update(name for name in by if name)

    def _own_line(self, name: str, text: str) -> None:
        if whatsapp_words.own_deleted_among([text]):
            self.deleters[name] += 1
        elif whatsapp_words.judge(text, True)[1] != "system":
            self.senders[name] += 1
        elif not self.notice_by:
            self.notice_by = name

    def chat(self, file: SourceFile) -> _Chat:
        people = list(dict.fromkeys(self.names.whole(name) for name in (*self.senders, *self.deleters) if name))
        base, title = _title_of(file)
        folded = _folded(base)
        named = [name for name in people if len(name) > 1 and _folded(name) in folded]
        notice_by = plain_name(self.notice_by)
        other = max(named, key=len) if named else notice_by if notice_by in people else ""
        is_group = (
            len(people) > 2 or self.has_group_lines or (bool(notice_by) and notice_by not in people and bool(people))
        )
        owner = [self.names.whole(name) for name, _ in self.deleters.most_common(1)]
        if not owner and other and len(people) == 2 and not is_group:
            owner = [name for name in people if name != other]
        if not title:
            title = notice_by or other or " & ".join(sorted(people)[:4])
        elif other and not is_group:
            title = other
        return _Chat(
            unicodedata.normalize("NFC", title),
            title,
            tuple(people),
            True if is_group else False if len(people) == 2 and other else None,
            tuple(owner),
            self.layout == "ios",
            1000 if self.clocks.has_seconds else 60_000,
            self.names,
        )


def _title_of(file: SourceFile) -> tuple[str, str]:
    """(what names the chat, the title in it or "") by the file's name, or its zip's or folder's for `_chat.txt`."""
    parts = [part for part in file.name.replace("\\", "/").split("/") if part]
    if file.member is None and len(parts) > 2:
        parts = parts[-2:]
    base = ""
    for part in reversed(parts):
        base = _COPY.sub("", re.sub(r"(?i)\.(?:txt|zip)$", "", part)).strip()
        if base.lower().strip("_") != "chat":
            break
    readable = base.replace("_", " ")
    for pattern in _FILE_NAMES:
        if match := pattern.fullmatch(readable):
            return readable, match["name"].strip()
    return readable, ""


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", plain_name(name)).replace("_", " ").casefold().split())


def _add_block(thread: SourceThread, chat: _Chat, header: Header, times: LocalTimes, text: str, line: int) -> None:
    """Add the messages of a block whose first line is number `line`."""
    lines = Lines.of(header.pattern, text)
    texts = lines.texts
    if lines.before.strip():
        malformed(thread, f"line {line:,}", "no date and time before the first message")
    sent_at = times.column(lines.dates, lines.clocks)
    reasons: dict[int, str | None] = {}
    whole = {name: chat.names.whole(name) for name in set(lines.names) if name}
    for name, rest in [(name, rest) for name in whole if (rest := chat.names.rest(name))]:
        lines.cut(name, rest)
    for index in whatsapp_words.find_suspects(texts):
        texts[index], reason = whatsapp_words.judge(texts[index], chat.is_ios)
        if reason:
            reasons[index] = reason
    reasons |= dict.fromkeys(lines.unnamed(), "system")
    if None in sent_at:
        bad = [index for index, time in enumerate(sent_at) if time is None]
        reasons |= dict.fromkeys(bad, "malformed")
        thread.fault = thread.fault or _fault(header, text, line, lines, bad[0])
    senders = [name and whole[name] for name in lines.names]
    add_columns(thread, senders, sent_at, texts, reasons)


def _fault(header: Header, text: str, line: int, lines: Lines, index: int) -> str:
    starts = (match.start() for match in header.pattern.finditer(text))
    place = line + text.count("\n", 0, next(itertools.islice(starts, index, None)))
    return f"line {place:,}: {lines.dates[index]!r}, {lines.clocks[index]!r} is no time from 1990 to 2099"


READER = Reader(
    source="whatsapp",
    name="WhatsApp, exported chat (text)",
    sniff=sniff,
    read=read,
    how="In a chat: its menu (iPhone: tap the name), More, Export chat, Without media. One chat at a time, and at most "
    "its newest 40,000 messages.",
)
