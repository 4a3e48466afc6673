"""How a message of WhatsApp's exported chats begins: the layouts of lines, and whether a file is such a chat at all."""

import re
from dataclasses import dataclass

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.readers.local_times import CLOCK, DATE, MARKS, SPACES
from jaegpt.exports.readers.text_blocks import decoder_of
from jaegpt.exports.readers.whatsapp_words import LRM

_HEAD = rf"\n[{MARKS}]*+"
_BETWEEN = rf"[{MARKS}]*+[,،]?[{SPACES}]{{1,2}}+[{MARKS}]*+"
# A name ends at the first colon with a space; lines without one were written by WhatsApp.
_NAME = "(?:([^\\n:]++(?::(?! )[^\\n:]*+)*+): )?"
# Each begins at a line break and captures date, clock and name. In turn: [DATE, CLOCK] of iOS, DATE, CLOCK - of
# Android, DATE CLOCK: of 2012 to 2014.
_LAYOUTS = {
    "ios": rf"{_HEAD}\[[{MARKS}]*+({DATE}){_BETWEEN}({CLOCK})[{MARKS}]*+\][{SPACES}]?{_NAME}",
    "android": rf"{_HEAD}({DATE}){_BETWEEN}({CLOCK})[{MARKS}]*+[{SPACES}][-–][{SPACES}]{_NAME}",
    "old": rf"{_HEAD}({DATE}){_BETWEEN}({CLOCK}):[{SPACES}]{_NAME}",
}
_COMPILED = {layout: re.compile(pattern) for layout, pattern in _LAYOUTS.items()}
MAX_NAME = 150  # letters
_QUOTES = re.compile('["“”„«»「」『』]')  # in lines such as: Ben changed the subject to "Ski: 2024"
_LOG_LEVELS = re.compile(r"(?:[\w.]+\.)?(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b")


def sniff(name: str, head: bytes) -> float:
    """By the first line's header, and by what only WhatsApp writes (its name, U+200E)."""
    if name.lower().endswith((".md", ".json", ".csv", ".log")) or (
        b"\0" in head[:64] and decoder_of(head) == "utf-8-sig"
    ):
        return 0.0
    text = "\n" + head.decode(decoder_of(head), "ignore").replace("\r\n", "\n").lstrip()
    layout = _layout_of(text)
    if not layout or not (first := _COMPILED[layout].match(text)):
        return 0.0
    lines = Lines.of(_COMPILED[layout], text)
    names = [name_of for name_of in lines.names if name_of]
    if any(_LOG_LEVELS.match(sender) for sender in names):
        return 0.0
    file_name = name.rpartition("/")[2]
    if LRM in text or "WhatsApp" in text or "WhatsApp" in name or file_name.endswith("_chat.txt"):
        return 0.95
    has_seconds = len(re.findall(r"\d+", first[2])) > 2
    if not names or (has_seconds and layout == "android"):  # Android has none, but logs do
        return 0.2
    return 0.8 if len(set(names)) < len(names) else 0.6


@dataclass(frozen=True)
class Header:
    """`layout` is ios, android or old; `pattern` captures date and clock of a message's first line."""

    layout: str
    pattern: re.Pattern[str]


def _layout_of(text: str) -> str | None:
    """The layout whose header comes first in `text`."""
    found = {layout: match.start() for layout, pattern in _COMPILED.items() if (match := pattern.search(text))}
    return min(found, key=lambda layout: found[layout]) if found else None


def header_of(file: SourceFile) -> Header:
    """The file's own header: of one layout, with one separator in its dates, so that pasted lines stay text."""
    with file.open() as stream:
        raw = stream.read(2**16)
    text = "\n" + raw.decode(decoder_of(raw), "ignore").replace("\r\n", "\n")
    layout = _layout_of(text)
    first = _COMPILED[layout].search(text) if layout else None
    if not layout or not first:
        raise BadFileError(file.name, "not_this_format", "no line begins as WhatsApp's messages do")
    separator = next(sign for sign in first[1] if sign in "/.-")
    own = DATE.replace(rf"(?:[/-]|\.[{SPACES}]?)", "[/]" if separator == "/" else rf"{re.escape(separator)}[{SPACES}]?")
    return Header(layout, re.compile(_LAYOUTS[layout].replace(DATE, own)))


@dataclass
class Lines:
    """A block, column by column: one entry per message.

    `names` is None where WhatsApp speaks itself; `before` is what stands before the first message.
    """

    before: str
    dates: list[str]
    clocks: list[str]
    names: list[str | None]
    texts: list[str]

    @classmethod
    def of(cls, pattern: re.Pattern[str], text: str) -> "Lines":
        """Cut a block at its headers."""
        parts: list[str] = pattern.split(text)
        lines = cls(parts[0], parts[1::4], parts[2::4], [*parts[3::4]], parts[4::4])
        for index in lines.unnamed():
            lines._find_empty(index)
        impossible = {name for name in set(lines.names) if name and (len(name) > MAX_NAME or _QUOTES.search(name))}
        if impossible:
            for index, name in enumerate(lines.names):
                if name in impossible:
                    lines.names[index], lines.texts[index] = None, f"{name}: {lines.texts[index]}"
        return lines

    def unnamed(self) -> list[int]:
        """Where WhatsApp speaks itself."""
        return [index for index, name in enumerate(self.names) if name is None] if None in self.names else []

    def _find_empty(self, index: int) -> None:
        """ "Anna:" and "Anna:." stand for what can be seen only once."""
        line, _, more = self.texts[index].partition("\n")
        line = line.rstrip(LRM).removesuffix(".")
        if line.endswith(":") and 1 < len(line) <= MAX_NAME:
            self.names[index], self.texts[index] = line[:-1], more

    def cut(self, name: str, rest: str) -> None:
        """Take the rest of a name off the texts of all who are called `name`."""
        for index, text in enumerate(self.texts):
            if self.names[index] == name:
                self.texts[index] = text.removeprefix(rest)
