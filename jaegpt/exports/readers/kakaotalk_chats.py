"""The Mac's CSV of a KakaoTalk chat, and who takes part in a chat of whatever form."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.kakaotalk_words import SYSTEM_LINE, reason_of
from jaegpt.exports.readers.local_times import ClockWords, LocalTimes
from jaegpt.exports.readers.names import NameParts
from jaegpt.exports.readers.text_blocks import PIECE

CSV_HEAD = re.compile(r'"?Date"?,"?User"?,"?Message"?\r?\n')
TITLES = [
    re.compile(pattern)
    for pattern in (
        r"(.+?) ?님과 (?:카카오톡 )?대화", r"(.+?) (?:\d+ )?카카오톡 대화", r"(.+?) with KakaoTalk Chats",
        r"KakaoTalk Chats with (.+)",
    )
]  # fmt: skip
_CSV_NAME = re.compile(r"KakaoTalk_Chat_(.+?)_\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2}\.csv", re.IGNORECASE)
_OWN_NAMES = ("회원님", "you", "You")
_BATCH = 5000  # rows whose times are made out together


@dataclass
class Survey:
    """What the first pass finds."""

    names: NameParts = field(default_factory=lambda: NameParts(" : "))
    clocks: ClockWords = field(default_factory=ClockWords)
    senders: dict[str, None] = field(default_factory=dict)
    head: str | None = None
    title: str = ""

    def look_at(self, before: str, names: Sequence[str | None], texts: Sequence[str]) -> None:
        """Take note of a block: what stands before its first message, and two columns."""
        if self.head is None:
            self.head = before.strip()
            line = self.head.partition("\n")[0].strip()
            found = (match[1] for pattern in TITLES if (match := pattern.fullmatch(line)))
            self.title = next(found, "").strip()
        self.names.look_at(names, texts)
        self.senders |= dict.fromkeys(name for name in dict.fromkeys(names) if name)

    def thread(self, resolution_ms: int) -> SourceThread:
        """A piece of the chat that has no messages yet."""
        people = tuple(dict.fromkeys(self.names.whole(name) for name in self.senders))
        owner = tuple(name for name in people if name in _OWN_NAMES)
        is_marked = bool(owner)
        if not owner and len(people) == 2 and self.title in people:
            owner = tuple(name for name in people if name != self.title)
        is_group = True if len(people) > 2 else False if len(people) == 2 and self.title in people else None
        title = self.title or " & ".join(sorted(people))
        return SourceThread(title, title, people, is_group, owner, is_marked, resolution_ms)


def csv_threads(file: SourceFile, options: ReadOptions) -> Iterator[SourceThread]:
    """The chat of a CSV, in pieces.

    Raises:
        BadFileError: it is no UTF-8 or no CSV, and where.
    """
    rows: list[tuple[int, list[str]]] = []
    survey = Survey()
    match = _CSV_NAME.fullmatch(file.name.rpartition("/")[2])
    survey.title = match[1].replace("_", " ").strip() if match else ""
    for _, row in _csv_rows(file):
        if len(row) == 3 and row[1]:
            survey.senders[row[1]] = None
    times = LocalTimes(options.timezone, "ymd", survey.clocks)
    thread = survey.thread(1000)
    for number, row in _csv_rows(file):
        rows.append((number, row))
        if len(rows) == _BATCH:
            _add_rows(thread, rows, times)
            rows = []
            if len(thread.texts) >= PIECE:
                yield thread
                thread = survey.thread(1000)
    _add_rows(thread, rows, times)
    if thread.num_read:
        yield thread


def _add_rows(thread: SourceThread, rows: Sequence[tuple[int, list[str]]], times: LocalTimes) -> None:
    stamps = [row[0].partition(" ") if len(row) == 3 else ("", "", "") for _, row in rows]
    sent_at = times.column([stamp[0] for stamp in stamps], [stamp[2] for stamp in stamps])
    for (number, row), time in zip(rows, sent_at, strict=True):
        if time is None:
            thread.dropped["malformed"] += 1
            what = (
                f"{row[0][:40]!r} is no time from 1990 to 2099" if len(row) == 3 else f"{len(row)} columns instead of 3"
            )
            thread.fault = thread.fault or f"line {number:,}: {what}"
            continue
        reason = reason_of(row[2]) if row[1] else "system"
        if reason or SYSTEM_LINE.fullmatch(row[2]):
            thread.dropped[reason or "system"] += 1
        else:
            thread.add(row[1], time, row[2])


def _csv_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of the rows under the head."""
    csv.field_size_limit(2**26)
    with file.open() as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        lines = csv.reader(text, strict=True)
        try:
            next(lines, None)
            for row in lines:
                if row:
                    yield lines.line_num, row
        except UnicodeDecodeError as error:
            raise BadFileError(file.name, "not_utf8", f"not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
        except csv.Error as error:
            raise BadFileError(file.name, "not_csv", f"line {lines.line_num:,}: no CSV ({error})") from None
        finally:
            text.detach()
