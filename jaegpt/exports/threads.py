"""Files of one thread brought together, across boxes, zips and downloads."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jaegpt.exports.first_pass import BatchNote, FileNote
from jaegpt.exports.message_files import BOXES, ENCRYPTED_BOX, thread_id

Pool = tuple[str, bool]  # a messenger, and whether its threads mark the owner


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote a message; all names of the owner are one sender."""

    name: str
    is_owner: bool = False
    is_excluded: bool = False


@dataclass(slots=True)
class Thread:
    """One conversation.

    Attributes:
        pieces: its files in reading order, each with its batch.
        aliases: other names of people in it -> the name that stands for them.
        is_pair: it is between two people, though more names occur.
    """

    key: str
    pieces: list[tuple[FileNote, BatchNote]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    is_pair: bool = False

    @property
    def thread_id(self) -> str:
        return thread_id(self.key)

    @property
    def source(self) -> str:
        """The messenger. Of Meta's two, which may be joined, the one whose file is read first."""
        return self.pieces[0][0].file.source

    @property
    def pool(self) -> "Pool":
        """Threads that know the owner by the same names: those of one messenger, with marks of the owner or without.

        A database marks its owner, and the text exports of the same messenger may call them by another name.
        """
        return self.source, any(note.owner_is_marked for note, _ in self.pieces)

    @property
    def is_metas(self) -> bool:
        """Whether it is of Messenger or Instagram, whose threads are known by folders and names alone."""
        return not self.pieces[0][0].file.reader

    @property
    def is_encrypted(self) -> bool:
        """Whether it comes from encrypted downloads alone, before it is stitched to anything."""
        return self.key.startswith("encrypted/")

    @property
    def box(self) -> str:
        boxes = {note.file.box for note, _ in self.pieces}
        return next((box for box in BOXES if box in boxes), min(boxes - {ENCRYPTED_BOX}, default=ENCRYPTED_BOX))

    @property
    def people(self) -> set[str]:
        """Everyone who is or was part of it: who left stands among the senders only, the owner of 2018 too."""
        names = {name for note, _ in self.pieces for name in (*note.participants, *note.senders)}
        return {self.aliases.get(name, name) for name in names} if self.aliases else names

    @property
    def num_rows(self) -> int:
        return sum(note.rows for note, _ in self.pieces)

    def others(self, owners: Iterable[str]) -> set[str]:
        return self.people - set(owners)

    def is_group(self, owners: Sequence[str]) -> bool:
        """Whether it is a group: by what its files say (until 2023 they did), else by more than two people.

        Where none of the owner's known names is in it, one of two other people may be the owner, or the owner has left.
        """
        declared = [note.is_group for note, _ in self.pieces if note.is_group is not None]
        if declared:
            return any(declared)
        at_once = max((len(note.participants) for note, _ in self.pieces), default=0)
        has_owner = not self.people.isdisjoint(owners) or all(note.has_partial_people for note, _ in self.pieces)
        others = len(self.others(owners))
        return at_once > 2 or (not self.is_pair and others > (1 if owners and has_owner else 2))


def collect(notes: Iterable[BatchNote]) -> list[Thread]:
    """Threads by their folder's name, which is their only identity: people of one name are common.

    The numbers in the names of encrypted files mean something else in each download, so that `Bo_40` of a second one is
    a thread of its own, `Bo_40/2`, until their messages show that they are the same.
    """
    threads: dict[tuple[str, str], Thread] = {}
    num_bearers: Counter[str] = Counter()
    for note in notes:
        for file_note in note.files:
            file = file_note.file
            is_alone = file.format == "encrypted" and file_note.rows > 0
            place = (file.thread_key, file.download if is_alone else "")
            if place not in threads:
                num_bearers[file.thread_key] += 1
                number = num_bearers[file.thread_key]
                threads[place] = Thread(file.thread_key if number == 1 else f"{file.thread_key}/{number}")
            threads[place].pieces.append((file_note, note))
    return sorted(threads.values(), key=lambda thread: thread.key)


def presence(threads: Sequence[Thread]) -> Counter[str]:
    """Name -> number of threads it takes part in."""
    return Counter(name for thread in threads for name in thread.people)
