"""Every person under one name in a thread: who was renamed or deleted between two downloads, or within one."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from jaegpt.exports.downloads import NUM_NAMED, groups, times_of
from jaegpt.exports.first_pass import BatchNote, FileNote
from jaegpt.exports.message_files import KNOWN_BY_TITLE, MessageFile
from jaegpt.exports.overlap import Pieces, compare, messages_of, renames
from jaegpt.exports.people import NAMELESS, clean_name
from jaegpt.exports.threads import Thread


def find_renames(threads: Sequence[Thread]) -> list[str]:
    """Give each thread its `aliases`, and say whether it `is_pair`; a line for the user on who remains unclear.

    Names are the same person's where messages of two downloads agree and only the sender differs, and where two
    downloads of a thread between two people have one of the names in common.
    """
    latest: dict[str, int] = {}
    unclear: list[str] = []
    for thread in threads:
        places: dict[str, list[tuple[FileNote, BatchNote]]] = defaultdict(list)
        for piece in thread.pieces:
            places[_place(piece[0].file)].append(piece)
        if len(thread.people) <= 2 and len(places) == 1:
            continue
        # Slack has a file per day: what shows a pair there is all of them together.
        sides = [thread.pieces] if _has_lasting_id(thread) else places.values()
        thread.is_pair = all(_is_pair(pieces) for pieces in sides)
        if len(places) == 1 or len({frozenset(_people(pieces)) for pieces in places.values()}) == 1:
            continue
        links: set[tuple[str, str]] = set()
        for one, other in _to_compare(thread, places):
            found = _links(one, other, thread.is_pair)
            if _has_lasting_id(thread):  # a file has one name per id there: two names in it are two people
                both = _people(one) & _people(other)
                found = {pair for pair in found if both.isdisjoint(pair)}
            links |= found
        if not latest:
            latest = _latest(threads)
        for group in groups(links):
            current = _current(group, places, latest)
            thread.aliases |= {name: current for name in group if name != current}
        if thread.is_pair and len(thread.people) > 2:
            unclear.append(" / ".join(sorted(thread.people)))
    if not unclear:
        return []
    named = "; ".join(unclear[:NUM_NAMED]) + ("; ..." if len(unclear) > NUM_NAMED else "")
    return [
        f"threads between two people have other names in other downloads, and who is who is not clear ({named}); if "
        "some are yours, set export.owner to the list of your names"
    ]


def _place(file: MessageFile) -> str:
    """Within what one person has one name in a thread: a download of Meta's, a file of any other messenger."""
    return file.entry.path if file.reader else file.download


def _has_lasting_id(thread: Thread) -> bool:
    return not thread.is_metas and thread.source not in KNOWN_BY_TITLE


def _to_compare(thread: Thread, places: Mapping[str, Pieces]) -> Iterator[tuple[Pieces, Pieces]]:
    """Pairs of places; where each day may have a file of its own, those alone whose times overlap."""
    if not _has_lasting_id(thread):
        yield from combinations(places.values(), 2)
        return
    spans = []
    for pieces in places.values():
        times = np.concatenate([times_of(note, batch) for note, batch in pieces])
        if len(times):
            spans.append((int(times.min()), int(times.max()), pieces))
    spans.sort(key=lambda span: span[:2])
    for index, (_, end, one) in enumerate(spans):
        for start, _, other in spans[index + 1 :]:
            if start > end:
                break
            yield one, other


def _people(pieces: Pieces) -> set[str]:
    return {name for note, _ in pieces for name in (*note.participants, *note.senders)}


def _is_pair(pieces: Pieces) -> bool:
    """Whether a thread is between two people: its title is the name of one, who alone may have had others before.

    A group that all others but one have left looks the same, but for its title and for senders who wrote in turns.
    """
    if any(note.is_group or len(note.participants) > 2 for note, _ in pieces):
        return False
    people, titles = _people(pieces), {clean_name(note.title) for note, _ in pieces if note.title}
    if titles and not titles & people:
        return False
    if len(people) <= 2:
        return True
    present = {name for note, _ in pieces for name in note.participants}
    if not titles or len(present) > 2:
        return False
    messages = messages_of(pieces)
    writers = np.array(messages.senders, object)
    spans = {name: messages.times[writers == name] for name in people}
    for name in people - present:  # written before one of the present names replaced it
        if len(spans[name]) and not any(
            len(spans[heir]) == 0 or spans[name].max() < spans[heir].min() for heir in present
        ):
            return False
    return len(people - present) <= 2


def _links(one: Pieces, other: Pieces, is_pair: bool) -> set[tuple[str, str]]:
    """Pairs of names in two downloads of a thread that are one person's."""
    people, other_people = _people(one), _people(other)
    if people == other_people:
        return set()
    overlap = compare(messages_of(one), messages_of(other))
    found = renames(overlap.pairs, people, other_people) if overlap.shows_one_thread else set()
    if found is None:
        return set()
    if is_pair and overlap.shows_one_thread:  # of two people, the deleted one is the one whose name is missing
        found |= {pair for pair in overlap.pairs if pair[0] != pair[1] and NAMELESS in pair}
    if is_pair:
        left = people - other_people - {name for name, _ in found}
        right = other_people - people - {name for _, name in found}
        if len(left) == len(right) == 1 and len(people) == len(other_people) == 2:
            found.add((left.pop(), right.pop()))
    return found


def _current(names: set[str], places: Mapping[str, Pieces], latest: Mapping[str, int]) -> str:
    """Of one person's names the one in the newest download that lists it; deleted accounts keep the name they had."""

    def rank(name: str) -> tuple[bool, int, str]:
        listed = [place for place, pieces in places.items() for note, _ in pieces if name in note.participants]
        return name != NAMELESS, max((latest[place] for place in listed), default=-1), name

    return max(names, key=rank)


def _latest(threads: Sequence[Thread]) -> dict[str, int]:
    """The time of the newest message of each download."""
    latest: dict[str, int] = defaultdict(int)
    for thread in threads:
        for note, batch in thread.pieces:
            place = _place(note.file)
            latest[place] = max(latest[place], int(times_of(note, batch).max(initial=0)))
    return latest
