"""Files of one thread brought together: across boxes, zips, downloads, and the switch to end-to-end encryption."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jaegpt.exports.discovery import BOXES, ENCRYPTED_BOX, thread_id
from jaegpt.exports.reading import BatchNote, FileNote

NAMELESS = "Facebook user"  # what every deleted account is called, so that the name says nothing
_NUMBER = re.compile(r"_\d+$")


@dataclass(slots=True)
class Thread:
    """One conversation: `pieces` are its files in reading order, each with its batch."""

    key: str
    pieces: list[tuple[FileNote, BatchNote]] = field(default_factory=list)

    @property
    def thread_id(self) -> str:
        return thread_id(self.key)

    @property
    def box(self) -> str:
        boxes = {note.file.box for note, _ in self.pieces}
        return next((box for box in BOXES if box in boxes), ENCRYPTED_BOX)

    @property
    def people(self) -> set[str]:
        """Everyone who is or was part of it: who left stands among the senders only, the owner of 2018 too."""
        return {name for note, _ in self.pieces for name in (*note.participants, *note.senders)}

    @property
    def num_rows(self) -> int:
        return sum(note.rows for note, _ in self.pieces)

    def others(self, owners: Iterable[str]) -> set[str]:
        return self.people - set(owners)

    def is_group(self, owners: Sequence[str]) -> bool:
        """More than two people, unless its files say (until 2023 they did)."""
        declared = [note.is_group for note, _ in self.pieces if note.is_group is not None]
        if declared:
            return any(declared)
        at_once = max((len(note.participants) for note, _ in self.pieces), default=0)
        return at_once > 2 or len(self.others(owners)) > (1 if owners else 2)


def collect(notes: Iterable[BatchNote]) -> list[Thread]:
    """Threads by their folder's name, which is their only identity: people of one name are common."""
    threads: dict[str, Thread] = {}
    for note in notes:
        for file_note in note.files:
            key = file_note.file.thread_key
            threads.setdefault(key, Thread(key)).pieces.append((file_note, note))
    return [threads[key] for key in sorted(threads)]


def stitch(threads: list[Thread], owners: Sequence[str]) -> tuple[list[Thread], list[str]]:
    """Each encrypted thread joined to the `e2ee_cutover` thread it continues, and the joins that were ambiguous.

    They are joined by the other person's name, when exactly one thread of each side bears it; never by a guess.
    """
    earlier: dict[str, list[Thread]] = defaultdict(list)
    for thread in threads:
        if not thread.key.startswith("encrypted/") and any(note.file.box == BOXES[-1] for note, _ in thread.pieces):
            earlier[_other_person(thread, owners)].append(thread)
    later: dict[str, list[Thread]] = defaultdict(list)
    for thread in threads:
        if thread.key.startswith("encrypted/"):
            later[_other_person(thread, owners)].append(thread)
    joined: set[str] = set()
    ambiguous: list[str] = []
    for name, parts in sorted(later.items()):
        matches = earlier.get(name, [])
        if not name or not matches:
            continue
        if len(matches) == len(parts) == 1:
            matches[0].pieces += parts[0].pieces
            joined.add(parts[0].key)
        else:
            ambiguous.append(
                f"{name}: {len(parts)} encrypted and {len(matches)} earlier threads bear this name; not joined"
            )
    return [thread for thread in threads if thread.key not in joined], ambiguous


def presence(threads: Sequence[Thread]) -> Counter[str]:
    """Name -> number of threads it takes part in."""
    return Counter(name for thread in threads for name in thread.people)


def _other_person(thread: Thread, owners: Sequence[str]) -> str:
    """The one other person of a thread, or "" when there is none or more than one, or no name to go by.

    An encrypted file's own name (`Anna Berg_12`) decides when its list of participants does not.
    """
    others = thread.others(owners)
    if len(others) == 1:
        name = others.pop()
        return "" if name == NAMELESS else name
    if not others and thread.key.startswith("encrypted/"):
        return _NUMBER.sub("", thread.pieces[0][0].title)
    return ""
