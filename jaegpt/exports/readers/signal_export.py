"""signal-export's folders, one per chat, with `data.json` (JSON lines) and `chat.md`, both of the same messages.

`data.json` keeps quotations, stickers and reactions apart from the text; `chat.md` is read where it stands alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import add_reaction, is_emoji
from jaegpt.exports.reader import HEAD_BYTES, Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import HourClock
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, malformed
from jaegpt.exports.readers.json_lines import json_lines
from jaegpt.exports.readers.text_blocks import blocks
from jaegpt.exports.rows import kind_of

OWNER = "Me"
_NOTES = ("NotetoSelf", "Note to Self")
_KEYS = (b'"date"', b'"sender"', b'"body"', b'"quote"', b'"sticker"', b'"reactions"')
_CALL = re.compile(r"(?:Incoming|Outgoing|Missed)(?: (?:voice|video|group))? call(?: \([\w, ]{1,40}\))?")

_STAMP = r"\[(\d{4}-\d\d-\d\d),? (\d\d:\d\d)(:\d\d)?\] "
_START = re.compile(rf"\n{_STAMP}[^\n:]*:", re.ASCII)
_MESSAGE = re.compile(rf"\n{_STAMP}(.*?):(?: |(?=\n)|$)((?:[^\n]*)(?:\n(?!{_STAMP})[^\n]*)*)", re.ASCII)
_QUOTE = re.compile(r"\A *\n\n?>[^\n]*(?:\n>[^\n]*)*(?:\n\n?|\Z)")
# What stands behind the words of a message: files, stickers, reactions.
_REACTIONS = re.compile(r"\n\(- [^\n]* -\)(?=\s*\Z|!?\[|\n)")
_STICKER = re.compile(r"(?:\n\(\( ([^\n]*) \)\)|\[([^\n\]]*)\]\(\.\./exported_stickers/[^\n)]*\)  )\s*\Z")
_FILES = re.compile(r"(?:!?\[[^\n\]]*\]\(\./[^\n]*?\)  |\((?:media|attachment) not exported\)  )+\s*\Z")
_DELETED = "(This message was deleted)"


def sniff_json(name: str, head: bytes) -> float:
    first = head.partition(b"\n")[0]
    return 0.9 if first.startswith(b'{"date"') and all(key in first for key in _KEYS) else 0.0


def sniff_text(name: str, head: bytes) -> float:
    """WhatsApp on an iPhone writes such times too, but neither empty lines nor line breaks of Markdown's."""
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    if not _START.match(f"\n{text}"):
        return 0.0
    is_markdown = re.search(rf"(?:  |\))\n\n(?:{_STAMP}|\Z)", text, re.ASCII) is not None
    return 0.97 if is_markdown and name.lower().endswith(".md") else 0.3 * is_markdown


def read_json(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a `data.json`, in pieces.

    Raises:
        BadFileError: a line is no JSON.
    """
    chat = _Chat(file, options)
    for number, row in json_lines(file):
        try:
            chat.add(*_of_row(row), given=_given_in_row(row) if options.reactions else ())
        except ValueError as error:
            malformed(chat.thread, f"line {number:,}", error)
        if number % PIECE_MESSAGES == 0:
            yield chat.piece()
    yield chat.piece()


def read_text(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The chat of a `chat.md`, in pieces; nothing, where a `data.json` lies beside it, which says the same better.

    Raises:
        BadFileError: it does not begin with a message, or is no text.
    """
    twin = file.beside("data.json")
    if twin.exists():
        with twin.open() as stream:
            if sniff_json(twin.name, stream.read(HEAD_BYTES)):
                say("its messages are read from data.json beside it")
                return
    chat = _Chat(file, options)
    is_first = True
    for text, first_line in blocks(file, _START):
        if is_first and not _START.match(text):
            detail = "line 1: no message, such as [2019-05-29 15:04:32] Me: text"
            raise BadFileError(file.name, "wrong_structure", detail)
        is_first = False
        for match in _MESSAGE.finditer(text):
            try:
                chat.add(*_of_text(match), given=_given_in_text(match[5]) if options.reactions else ())
            except ValueError as error:
                malformed(chat.thread, f"line {first_line + text.count(chr(10), 0, match.start()):,}", error)
        yield chat.piece()


# The hour as 2024-03-05T14, minute and second, ms, sender, text (a sticker's: what it stands for), and why the message
# is left out, if it is.
_Written = tuple[str, str, str, int, str, str, str | None]


def _of_row(row: Any) -> _Written:
    if not isinstance(row, dict):
        raise ValueError(f"{kind_of(row)} instead of an object")
    for key in ("date", "sender", "body"):
        if type(row.get(key)) is not str:
            raise ValueError(f"`{key}` is {kind_of(row.get(key))} instead of a text")
    date, sender, body = row["date"], row["sender"], row["body"].rstrip()
    reason = "deleted" if row.get("deleted") else "call" if row.get("call") else None
    if not body:
        sticker = row.get("sticker")  # an object since version 3, before that its emoji
        reason = reason or ("sticker" if sticker else "media" if row.get("attachments") else "empty")
        body = str(sticker.get("emoji") if isinstance(sticker, dict) else sticker)
    elif _CALL.fullmatch(body):
        reason = "call"
    fraction = date[20:23]  # 2024-03-05T14:03:21.123000; none where it is 0
    after_ms = int(fraction) if fraction.isascii() and fraction.isdigit() else 0
    return date[:13], date[14:16], date[17:19], after_ms, sender, body, reason


def _of_text(match: re.Match[str]) -> _Written:
    date, time, seconds, sender, body = match.group(1, 2, 3, 4, 5)
    hour, minute, second = f"{date}T{time[:2]}", time[3:], seconds[1:] if seconds else "00"
    text, reason, shown = body.rstrip("\n"), None, ""
    if "\n" in text or "](" in text or " not exported)" in text:
        without_files = _FILES.sub("", text)
        without, reason = without_files, "media" if without_files != text else None
        if sticker := _STICKER.search(without_files):
            without, reason = without_files[: sticker.start()], reason or "sticker"
            shown = sticker[1] or sticker[2] or ""
        text = _QUOTE.sub("", _REACTIONS.sub("", without)).strip("\n")
    text = text.rstrip()
    if not text:
        return hour, minute, second, 0, sender, shown, reason or "empty"
    if text == _DELETED:
        return hour, minute, second, 0, sender, "", "deleted"
    return hour, minute, second, 0, sender, text, "call" if " call" in text and _CALL.fullmatch(text) else None


def _given_in_row(row: dict[str, Any]) -> Iterator[tuple[object, object]]:
    """(who, emoji) of each reaction to a message, which `data.json` has as lists of the two."""
    listed = row.get("reactions")
    for one in listed if isinstance(listed, list) else ():
        yield (one[0], one[1]) if isinstance(one, list) and len(one) == 2 else (None, None)


def _given_in_text(body: str) -> Iterator[tuple[object, object]]:
    """The same for `chat.md`, which has them in one line: `(- Anna: 👍, Me: 🎉 -)`."""
    found = _REACTIONS.findall(_STICKER.sub("", _FILES.sub("", body.rstrip("\n"))))
    for one in found[-1][len("\n(- ") : -len(" -)")].split(", ") if found else ():
        name, _, emoji = one.rpartition(": ")
        yield name, emoji


class _Chat:
    """The chat that the name of its folder stands for; `thread` is the piece of it that is being collected."""

    def __init__(self, file: SourceFile, options: ReadOptions) -> None:
        folder = file.name.replace("\\", "/").rpartition("/")[0]
        self._title = folder.rpartition("/")[2]
        self._clock = HourClock(options.timezone)
        self._reactions = options.reactions  # whether these, and stickers that stand for an emoji, become messages
        self._senders: dict[str, None] = {}
        self.thread = self._begin()

    def _begin(self) -> SourceThread:
        return SourceThread(self._title, title=self._title, owner=(OWNER,), owner_is_marked=True)

    def add(
        self,
        hour: str,
        minute: str,
        second: str,
        after_ms: int,
        sender: str,
        text: str,
        reason: str | None,
        given: Iterable[tuple[object, object]] = (),
    ) -> None:
        """Take a message, and the reactions to it where they are wanted."""
        sent_at = self._clock.ms(hour, minute, second) + after_ms
        self._senders[sender] = None
        if self._reactions and reason == "sticker" and is_emoji(text):
            reason = None
        if self._title in _NOTES:
            reason, given = "notes", ()
        if reason:
            self.thread.dropped[reason] += 1
        else:
            self.thread.add(sender, sent_at, text)
        for name, emoji in given:
            add_reaction(self.thread, None if reason else self._giver(name), sent_at, emoji)

    def _giver(self, name: object) -> str | None:
        """Whose reaction it is. The owner's are `Me` in newer versions (3.9.3); older ones have the name of the owner's
        own contact: that of the notes, a profile's, which is nobody's who writes, or none. Until somebody else has
        written, nobody can tell a profile's name from another person's.
        """
        name = "None" if name is None else name
        if not isinstance(name, str):
            return None
        if name in (OWNER, *_NOTES):
            return OWNER
        others = self._senders.keys() - {OWNER}
        if name != self._title and others <= {self._title}:
            return OWNER if others else None  # in a talk of two, not the other one's
        return name if name != "None" else None

    def piece(self) -> SourceThread:
        """What was collected since the last one."""
        thread, self.thread = self.thread, self._begin()
        thread.people = tuple(dict.fromkeys((*self._senders, OWNER)))
        thread.is_group = True if len(thread.people) > 2 else None
        for step in (60_000, 1000):
            if all(time % step == 0 for time in thread.sent_at):
                thread.resolution_ms = step
                break
        return thread


_HOW = "Run `sigexport FOLDER` (pip install signal-export) beside Signal Desktop, and give the folder."
READERS = (
    Reader(source="signal", name="Signal (signal-export, data.json)", sniff=sniff_json, read=read_json, how=_HOW),
    Reader(source="signal", name="Signal (signal-export, chat.md)", sniff=sniff_text, read=read_text, how=_HOW),
)
