"""Conversations that the switch to end-to-end encryption cut in two brought together.

Nothing but names connects the halves, and people share names and change them. Threads are joined where exactly one can
be meant; the rest is reported, never guessed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaegpt.exports.downloads import NUM_NAMED, groups
from jaegpt.exports.message_files import BOXES
from jaegpt.exports.people import NAMELESS, names_nobody
from jaegpt.exports.threads import Thread

CUTOVER = BOXES[-1]
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class _Other:
    """The one other person of a thread: the names it is known under, and those it wrote under before."""

    present: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()


def stitch(threads: Sequence[Thread], owners: Sequence[str]) -> tuple[list[Thread], list[str]]:
    """Threads joined to the ones they continue, and a line for the user on each that could not be.

    An encrypted thread and the `e2ee_cutover` thread before it: by the other person's name, when exactly one thread of
    each side bears it; a former name counts where no present one fits. The threads that are joined are changed in
    place; the earlier one keeps its key.
    """
    later = [thread for thread in threads if thread.is_encrypted and thread.num_rows]
    gone: set[str] = set()
    problems: list[str] = []
    if not owners:
        return list(threads), problems
    earlier = [
        thread
        for thread in threads
        if not thread.is_encrypted and any(note.file.box == CUTOVER for note, _ in thread.pieces)
    ]
    others = {thread.key: _other_person(thread, owners) for thread in (*later, *earlier)}
    for former in (False, True):
        rivals: set[str] = set()
        for group in groups(_links(earlier, later, others, former)):
            before = [thread for thread in earlier if thread.key in group]
            after = [thread for thread in later if thread.key in group]
            if len(before) == len(after) == 1:
                before[0].pieces += after[0].pieces
                before[0].aliases |= after[0].aliases
                gone.add(after[0].key)
            else:
                name = min(min(others[thread.key].present) for thread in after)
                problems.append(
                    f"{name}: {len(after):,} encrypted and {len(before):,} earlier threads bear this name; not joined"
                )
            rivals |= group
        earlier = [thread for thread in earlier if thread.key not in rivals]
        later = [thread for thread in later if thread.key not in rivals]
    problems += _unmatched(earlier, later, owners)
    return [thread for thread in threads if thread.key not in gone], sorted(problems)


def _links(
    earlier: Iterable[Thread], later: Iterable[Thread], others: dict[str, _Other], former: bool
) -> list[tuple[str, str]]:
    """Pairs of thread keys, each with a name in common: present ones, or a present one and a former one."""
    bearers: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, threads in enumerate((earlier, later)):
        for thread in threads:
            for name in others[thread.key].present:
                bearers[name][side].append(thread.key)
    if not former:
        return [(before[0], key) for before, after in bearers.values() if before and after for key in before + after]
    return [
        (thread.key, key)
        for side, threads in enumerate((earlier, later))
        for thread in threads
        for name in others[thread.key].former
        if name in bearers
        for key in bearers[name][1 - side]
    ]


def _other_person(thread: Thread, owners: Sequence[str]) -> _Other:
    """The one other person of a thread; nobody when it is a group, or when there is no name to go by."""
    lists = [set(note.participants) - set(owners) for note, _ in thread.pieces]
    titles = {_NUMBER.sub("", note.title) if thread.is_encrypted else note.title for note, _ in thread.pieces}
    if max(map(len, lists)) > 1 or any(note.is_group for note, _ in thread.pieces):
        return _Other()
    everyone = thread.others(owners)
    present = set().union(*lists)
    if not present and len(everyone) <= 1:  # then an encrypted file's own name (`Anna Berg_12`) has to do
        present = everyone or (titles if thread.is_encrypted else set())
    former = everyone - present
    if former and not present & titles:  # a group that all others but one have left looks the same but for its title
        return _Other()
    if any(map(names_nobody, present)):
        return _Other()
    return _Other(frozenset(present), frozenset(former - {NAMELESS}))


def _unmatched(earlier: Sequence[Thread], later: Sequence[Thread], owners: Sequence[str]) -> list[str]:
    """Both halves have threads left over: some of them may belong together."""
    lonely = sorted(" / ".join(sorted(thread.others(owners))) or "nobody" for thread in earlier if thread.num_rows)
    if not lonely or not later:
        return []
    named = "; ".join(lonely[:NUM_NAMED]) + ("; ..." if len(lonely) > NUM_NAMED else "")
    threads = "1 thread" if len(lonely) == 1 else f"{len(lonely):,} threads"
    return [
        f"{threads} of {CUTOVER} ({named}) found no continuation by name among the {len(later):,} encrypted ones left "
        "over; not joined (groups never are)"
    ]
