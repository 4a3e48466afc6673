"""Conversations that were cut in two brought together: by the switch to end-to-end encryption, or by several downloads.

Nothing but names connects the halves, and people share names and change them. Threads are joined where exactly one can
be meant; the rest is reported, never guessed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from jaegpt.exports.discovery import BOXES
from jaegpt.exports.reading import load_messages
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.threads import Thread

CUTOVER = BOXES[-1]
NUM_NAMED = 5  # people whom one line of the report names
_NUMBER = re.compile(r"_\d+$")
_FOLDER_NUMBER = re.compile(r"(?:^|_)(\d+)$")


@dataclass(frozen=True)
class _Other:
    """The one other person of a thread: the names it is known under, and those it wrote under before."""

    present: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()


def stitch(threads: Sequence[Thread], owners: Sequence[str]) -> tuple[list[Thread], list[str]]:
    """Threads joined to the ones they continue, and a line each for the user on what could not be.

    - Threads of several downloads with a message in common: encrypted ones of one name, whatever their numbers; others
      of one number whose folder has taken another name.
    - An encrypted thread and the `e2ee_cutover` thread before it: by the other person's name, when exactly one thread
      of each side bears it; a former name counts where no present one fits.

    The threads that are joined are changed in place; the earlier one keeps its key.
    """
    later = [thread for thread in threads if thread.is_encrypted and thread.num_rows]
    later, gone, problems = _join_downloads(later, owners)
    folders, renamed, more = _join_downloads([thread for thread in threads if not thread.is_encrypted], owners)
    gone |= renamed
    problems += more
    if not owners:
        return [thread for thread in threads if thread.key not in gone], sorted(problems)
    earlier = [thread for thread in folders if any(note.file.box == CUTOVER for note, _ in thread.pieces)]
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
    """(threads that remain, keys of those that went into another, problems), for encrypted threads or for all others.

    A download numbers encrypted files anew, and two people of one name have a file each; other folders keep their
    number and change their name. Only a message in common, to the millisecond, shows that two are of one thread.
    """
    places = {thread.key: {note.file.download for note, _ in thread.pieces} for thread in threads}
    bearers: dict[str, list[Thread]] = defaultdict(list)
    if len(set().union(*places.values())) > 1:
        for thread in threads:
            bearers[_lasting_part(thread)].append(thread)
    gone: set[str] = set()
    left: dict[str, list[Thread]] = {}
    for name, rivals in sorted(bearers.items()):
        if len(rivals) == 1 or len(set().union(*(places[thread.key] for thread in rivals))) == 1:
            continue
        for group in _groups(_shared_messages(rivals, owners)):
            first, *rest = [thread for thread in rivals if thread.key in group]
            found_in = [place for key in group for place in places[key]]
            if len(found_in) > len(set(found_in)):
                continue  # two of one download: they cannot all be the same
            if not first.is_encrypted and not _have_the_same_people([first, *rest], owners):
                continue  # somebody's messages would stand there twice, under two names
            for thread in rest:
                first.pieces += thread.pieces
                gone.add(thread.key)
            places[first.key] = set(found_in)
        remaining = [thread for thread in rivals if thread.key not in gone]
        if any(places[one.key].isdisjoint(places[other.key]) for one, other in combinations(remaining, 2)):
            left[name] = remaining
    return [thread for thread in threads if thread.key not in gone], gone, _not_joined(left)


def _lasting_part(thread: Thread) -> str:
    """What the names of a thread's files or folders have in common in all downloads."""
    name = thread.pieces[0][0].file.thread
    number = _FOLDER_NUMBER.search(name)
    return _NUMBER.sub("", name) if thread.is_encrypted else number[1] if number else name


def _have_the_same_people(threads: Sequence[Thread], owners: Sequence[str]) -> bool:
    """Whether one of the threads knows everybody by the name that the others know."""
    circles = [thread.others(owners) for thread in threads]
    return set().union(*circles) in circles


def _not_joined(left: Mapping[str, Sequence[Thread]]) -> list[str]:
    """Lines for the user on threads of several downloads that may be one: of a name each, and all renamed ones."""
    problems = [
        f"{name}: {len(threads):,} threads of several encrypted downloads bear this name, and no message in common "
        "shows which are one; not joined"
        for name, threads in left.items()
        if threads[0].is_encrypted
    ]
    renamed = [
        " and ".join(sorted({thread.pieces[0][0].file.thread for thread in threads}))
        for threads in left.values()
        if not threads[0].is_encrypted
    ]
    if renamed:
        named = "; ".join(renamed[:NUM_NAMED]) + ("; ..." if len(renamed) > NUM_NAMED else "")
        problems.append(
            f"thread folders of one number have other names in other downloads ({named}), and not the same people and "
            "messages; not joined, so that messages may be there twice"
        )
    return problems


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
