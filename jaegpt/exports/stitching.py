"""Conversations that were cut in two brought together: by the switch to end-to-end encryption, or by several downloads.

Nothing but names connects the halves, and people share names and change them. Threads are joined where exactly one can
be meant; the rest is reported, never guessed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from jaegpt.exports.discovery import BOXES
from jaegpt.exports.reading import load_messages
from jaegpt.exports.rows import NAMELESS
from jaegpt.exports.threads import Thread

CUTOVER = BOXES[-1]
NUM_NAMED = 5  # people whom one line of the report names
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class _Other:
    """The one other person of a thread: the names it is known under, and those it wrote under before."""

    present: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()


def stitch(threads: Sequence[Thread], owners: Sequence[str]) -> tuple[list[Thread], list[str]]:
    """Threads joined to the ones they continue, and a line each for the user on what could not be.

    - Encrypted threads of several downloads: of one name and with a message in common, whatever their numbers.
    - An encrypted thread and the `e2ee_cutover` thread before it: by the other person's name, when exactly one thread
      of each side bears it; a former name counts where no present one fits.

    The threads that are joined are changed in place; the earlier one keeps its key.
    """
    if not owners:
        return list(threads), []
    later = [thread for thread in threads if thread.is_encrypted and thread.num_rows]
    later, gone, problems = _join_downloads(later, owners)
    earlier = [
        thread
        for thread in threads
        if not thread.is_encrypted and any(note.file.box == CUTOVER for note, _ in thread.pieces)
    ]
    others = {thread.key: _other_person(thread, owners) for thread in (*later, *earlier)}
    for former in (False, True):
        rivals: set[str] = set()
        for group in _groups(_links(earlier, later, others, former)):
            before = [thread for thread in earlier if thread.key in group]
            after = [thread for thread in later if thread.key in group]
            if len(before) == len(after) == 1:
                before[0].pieces += after[0].pieces
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


def _join_downloads(threads: list[Thread], owners: Sequence[str]) -> tuple[list[Thread], set[str], list[str]]:
    """(threads that remain, keys of those that went into another, problems), for encrypted threads.

    A download numbers its files anew, and two people of one name have a file each: only a message in common, to the
    millisecond, shows that files of two downloads are of one thread.
    """
    places = {thread.key: {note.file.entry.folder for note, _ in thread.pieces} for thread in threads}
    bearers: dict[str, list[Thread]] = defaultdict(list)
    if len(set().union(*places.values())) > 1:
        for thread in threads:
            bearers[_NUMBER.sub("", thread.pieces[0][0].file.thread)].append(thread)
    gone: set[str] = set()
    problems: list[str] = []
    for name, rivals in sorted(bearers.items()):
        if len(set().union(*(places[thread.key] for thread in rivals))) == 1:
            continue
        for group in _groups(_shared_messages(rivals, owners)):
            first, *rest = [thread for thread in rivals if thread.key in group]
            found_in = [place for key in group for place in places[key]]
            if len(found_in) > len(set(found_in)):
                continue  # two of one download: they cannot all be the same
            for thread in rest:
                first.pieces += thread.pieces
                gone.add(thread.key)
            places[first.key] = set(found_in)
        left = [places[thread.key] for thread in rivals if thread.key not in gone]
        if any(one.isdisjoint(other) for one, other in combinations(left, 2)):
            problems.append(
                f"{name}: {len(left):,} threads of several encrypted downloads bear this name and have no message in "
                "common; not joined"
            )
    return [thread for thread in threads if thread.key not in gone], gone, problems


def _shared_messages(threads: Iterable[Thread], owners: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of thread keys that have a message in common."""
    seen: dict[tuple[int, str, str], str] = {}
    for thread in threads:
        for message in _messages(thread, owners):
            first = seen.setdefault(message, thread.key)
            if first != thread.key:
                yield first, thread.key


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


def _groups(links: Iterable[tuple[str, str]]) -> list[set[str]]:
    """What is linked directly or through others: (a, b), (b, c), (d, e) -> {a, b, c}, {d, e}."""
    group_of: dict[str, set[str]] = {}
    for one, other in links:
        joined = group_of.get(one, {one}) | group_of.get(other, {other})
        group_of |= dict.fromkeys(joined, joined)
    return sorted({id(group): group for group in group_of.values()}.values(), key=min)


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
    if NAMELESS in present:
        return _Other()
    return _Other(frozenset(present), frozenset(former - {NAMELESS}))


def _messages(thread: Thread, owners: Sequence[str]) -> set[tuple[int, str, str]]:
    """(time, sender, text) of all messages; the owner is one sender under all names."""
    found: set[tuple[int, str, str]] = set()
    for note, batch in thread.pieces:
        rows = load_messages(batch.messages).slice(note.start, note.rows)
        names = [owners[0] if name in owners else name for name in batch.senders]
        senders = [names[number] for number in rows.column("sender").to_pylist()]
        found.update(zip(rows.column("sent_at").to_pylist(), senders, rows.column("text").to_pylist(), strict=True))
    return found


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
