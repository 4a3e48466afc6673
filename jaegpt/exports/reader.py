"""What a reader of a chat format is given, and what it hands back. Discovery and the first pass know no more of it."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol
from zoneinfo import ZoneInfo

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.streams import find_entry, open_entry

HEAD_BYTES = 8192  # what `sniff` may look at

DateOrder = Literal["auto", "day_first", "month_first"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a reader cannot find in the file: `timezone` is for formats that write local time without its zone.

    reactions: whether emoji reactions and stickers are wanted as messages.
    """

    timezone: ZoneInfo
    date_order: DateOrder = "auto"
    reactions: bool = False


@dataclass(frozen=True)
class SourceFile:
    """One file to read, in a folder or inside a zip; `member` is its name in the zip, None outside of one."""

    path: str  # of the file, or of the zip
    member: str | None = None

    @property
    def name(self) -> str:
        """For people and for what its name says: the path of the file, through the zip where it lies in one."""
        return f"{self.path}/{self.member}" if self.member else self.path

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes as a stream, from its start; it can be sought.

        Raises:
            BadFileError: there is no such file, or it cannot be read: also while it is read, where a zip is damaged.
        """
        entry = find_entry(self.path, self.member)
        if entry is None:
            raise BadFileError(self.name, "unreadable", "there is no such file")
        with open_entry(entry) as stream:
            yield stream

    def beside(self, name: str) -> "SourceFile":
        """The file called `name` in the same folder; it need not exist."""
        folder, slash, _ = (self.member if self.member is not None else self.path).rpartition("/")
        full = f"{folder}{slash}{name}"
        return SourceFile(full) if self.member is None else SourceFile(self.path, full)

    def exists(self) -> bool:
        entry = find_entry(self.path, self.member)
        return entry is not None and entry.fault is None

    @contextmanager
    def copied(self, *companions: str) -> Iterator[Path]:
        """A private copy on disk, for programs that need a file and may write beside it (SQLite and its WAL).

        `companions` are suffixes of files that are copied along where they exist, such as `-wal`.

        Raises:
            BadFileError: it cannot be read, or there is no room for it in the machine's folder for temporary files.
        """
        with tempfile.TemporaryDirectory(prefix="jaegpt-") as folder:
            copy = Path(folder) / "copy"
            for suffix in ("", *companions):
                file = self.beside(self.name.rpartition("/")[2] + suffix) if suffix else self
                if suffix and not file.exists():
                    continue
                try:
                    with file.open() as source, open(f"{copy}{suffix}", "wb") as target:
                        shutil.copyfileobj(source, target, 2**20)
                except OSError as error:
                    detail = f"no private copy can be made in {folder} ({error.strerror}); set TMPDIR to a roomy folder"
                    raise BadFileError(file.name, "unreadable", detail) from None
            yield copy


@dataclass
class SourceThread:
    """One conversation as a reader hands it over, its messages in the order in which they were written.

    Attributes:
        key: what identifies the thread among all of its source, the same in every export of it (an id or a number; a
            title where the format has no more).
        title: for people; "" where there is none.
        people: names of those who take part, as far as the format says; whoever collects adds the senders.
        is_group: None where the format does not say.
        owner: the names under which the owner writes here; empty where the format does not say.
        owner_is_marked: whether the format marks the owner (True), or the reader found evidence (False).
        resolution_ms: the step of its times: 1, 1,000 or 60,000.
        senders, sent_at, texts: one entry per kept message; names for people, ms since 1970 in UTC, text as typed.
        dropped: messages left out, by reason; `malformed` are those that could not be understood.
        fault: the first malformed message, for the user: what is wrong and where (line or byte). None if there is none.
        box: inbox, archived or requests.
        source: the value of the column `source`, where a file says so itself; "" is the reader's own.
    """

    key: str
    title: str = ""
    people: tuple[str, ...] = ()
    is_group: bool | None = None
    owner: tuple[str, ...] = ()
    owner_is_marked: bool = False
    resolution_ms: int = 1
    senders: list[str] = field(default_factory=list)
    sent_at: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    fault: str | None = None
    box: str = "inbox"
    source: str = ""

    @property
    def num_read(self) -> int:
        return len(self.texts) + self.dropped.total()

    def add(self, sender: str, sent_at_ms: int, text: str) -> None:
        self.senders.append(sender)
        self.sent_at.append(sent_at_ms)
        self.texts.append(text)


@dataclass(frozen=True)
class Reader:
    """One chat format.

    Attributes:
        source: the value of the column `source`: whatsapp, telegram, ...
        name: for people: "WhatsApp, exported chat (text)".
        sniff: (file's name, its first HEAD_BYTES bytes without UTF-8's byte order mark) -> how sure it is, 0 to 1, that
            the file is of this format. The name alone is never enough.
        read: the threads of a file, one after the other, so that memory is bounded by a thread; threads whose messages
            lie scattered over the file may be handed over in pieces of one key. Raises `BadFileError` (reason, detail,
            byte or line) where the file cannot be read.
        how: how a person makes such an export, in a line or two.
    """

    source: str
    name: str
    sniff: Callable[[str, bytes], float]
    read: "ReadFunction"
    how: str = ""


class ReadFunction(Protocol):
    """`say` takes a line for people about the file: a date order that had to be assumed, parts that are missing."""

    def __call__(
        self, file: SourceFile, options: ReadOptions, say: Callable[[str], None]
    ) -> Iterator[SourceThread]: ...
