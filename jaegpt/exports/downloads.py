"""Several downloads of one account brought together: every thread once, and every person under one name in it.

Until about 2021 the folders of threads ended in ten letters, since then in a number; people take other names and
delete their accounts; a folder's name follows a contact's. What stays is the messages: threads of two downloads are
one when their messages agree, time and text, wherever both could have them. The rest is reported, never guessed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Ints
from jaegpt.exports.first_pass import BatchNote, FileNote, load_messages
from jaegpt.exports.message_files import KNOWN_BY_TITLE, ROOTS
from jaegpt.exports.overlap import compare, messages_of, renames
from jaegpt.exports.threads import Thread

PLATFORMS = (("encrypted",), ("messenger",), ("instagram", "conversations"))
# Until 2021 Instagram's downloads were laid out as Messenger's, so that only messages show what is one.
LAYOUTS = (PLATFORMS[:1], PLATFORMS[1:])
MINUTE_MS = 60_000
MIN_COMMON, LONG_BYTES = 3, 8  # messages that two threads have to share before they are compared, and their length
MAX_BEARERS = 50  # a message that stands in more threads than this was sent to many, and shows nothing
_ODD = 0x9E3779B97F4A7C15  # spreads the minutes over all bits
NUM_NAMED = 5  # threads or people whom one line of the report names
_NUMBER = re.compile(r"_\d+$")
_FOLDER_NUMBER = re.compile(r"(?:^|_)(\d+)$")


def join_downloads(threads: Sequence[Thread]) -> tuple[list[Thread], list[str]]:
    """Every thread once, and lines for the user on what may still be there twice.

    The threads that are joined are changed in place. Encrypted ones continue others by rules of their own.
    """
    places = {thread.key: {note.file.download for note, _ in thread.pieces} for thread in threads}
    problems: list[str] = []
    metas = [thread for thread in threads if thread.is_metas]
    remaining = [thread for thread in threads if not thread.is_metas and thread.source not in KNOWN_BY_TITLE]
    for source in KNOWN_BY_TITLE:  # a contact who was renamed between two exports is in two threads
        side = [thread for thread in threads if not thread.is_metas and thread.source == source]
        if len(side) > 1:
            side, more = _join(side, places, _with_common_messages(side, places))
            problems += more
        remaining += side
    for platforms in LAYOUTS:
        side = [thread for thread in metas if _format(thread) in chain(*platforms)]
        if len(set().union(*(places[thread.key] for thread in side))) > 1:
            by_key = {thread.key: _platform(thread) for thread in side}
            pairs = [
                pair for pair in _with_common_times(side, places) if len({by_key[key] for key in pair} - {None}) < 2
            ]
            side, more = _join(side, places, pairs)
            problems += more
            for formats in platforms:
                problems += _not_joined([thread for thread in side if _format(thread) in formats], places)
        remaining += side
    return sorted(remaining, key=lambda thread: thread.key), problems


def _join(
    threads: list[Thread], places: dict[str, set[str]], pairs: Iterable[tuple[str, str]]
) -> tuple[list[Thread], list[str]]:
    """The threads, with those of `pairs` joined whose messages agree; lines on those that can be joined in two ways."""
    by_key = {thread.key: thread for thread in threads}
    links: list[tuple[str, str]] = []
    unclear: list[str] = []
    for one, other in pairs:
        agree = _are_one(by_key[one], by_key[other])
        if agree:
            links.append((one, other))
        elif agree is None:
            unclear.append(_named([by_key[one], by_key[other]]))
    gone: set[str] = set()
    for group in groups(links):
        members = sorted((by_key[key] for key in group), key=_rank)
        found_in = [place for key in group for place in places[key]]
        if len(found_in) > len(set(found_in)):
            # Two of one download: they cannot all be the same.
            unclear.append(_named(members))
            continue
        first, *rest = members
        for thread in rest:
            first.pieces += thread.pieces
            gone.add(thread.key)
        places[first.key] = set(found_in)
    problems = []
    if unclear:
        problems.append(
            f"threads of several downloads have messages in common, and not the same people, or one is like two of "
            f"another download ({_some(unclear)}); not joined, so that messages may be there twice"
        )
    return [thread for thread in threads if thread.key not in gone], problems


def _rank(thread: Thread) -> tuple[bool, str]:
    """Whose key a joined thread keeps: one with a number, as in new downloads, before one with letters."""
    return _FOLDER_NUMBER.search(_folder(thread)) is None, thread.key


def _with_common_times(threads: Sequence[Thread], places: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs of threads, no download having both, in which a message was sent at the same moment."""
    with_rows = [thread for thread in threads if thread.num_rows]
    unit = max((note.resolution_ms for thread in with_rows for note, _ in thread.pieces), default=1)
    moments = []
    for thread in with_rows:
        times = np.concatenate([times_of(note, batch) for note, batch in thread.pieces])
        moments.append(np.unique(times // unit))
    if not moments:
        return []
    owner = np.repeat(np.arange(len(moments)), [len(times) for times in moments])
    moment = np.concatenate(moments)
    order = np.argsort(moment, kind="stable")
    moment, owner = moment[order], owner[order]
    found: set[int] = set()
    for step in range(1, len(moment)):
        same = moment[step:] == moment[:-step]
        if not same.any():
            break
        found.update(np.unique(owner[:-step][same] * len(moments) + owner[step:][same]).tolist())
    keys = [thread.key for thread in with_rows]
    pairs = [(keys[number // len(keys)], keys[number % len(keys)]) for number in sorted(found)]
    return [pair for pair in pairs if places[pair[0]].isdisjoint(places[pair[1]])]


def _with_common_messages(threads: Sequence[Thread], places: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs of threads, no file having both, with MIN_COMMON long messages of the same minute in common.

    Where times are minutes, nearly all threads have some in common: the texts have to agree too.
    """
    from pandas.util import hash_array  # takes half a second to load: only for what needs it

    keys, hashes = [thread.key for thread in threads], []
    for thread in threads:
        messages = messages_of(thread.pieces)
        long = np.flatnonzero(pc.greater_equal(pc.binary_length(messages.texts), LONG_BYTES).to_numpy())
        texts = hash_array(np.array(messages.texts.take(pa.array(long)).to_pylist(), object), categorize=False)
        hashes.append(np.unique(texts ^ (messages.times[long] // MINUTE_MS).astype(np.uint64) * np.uint64(_ODD)))
    owner = np.repeat(np.arange(len(threads)), [len(values) for values in hashes])
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    joined, owner = joined[order], owner[order]
    common: Counter[int] = Counter()
    for step in range(1, min(len(joined), MAX_BEARERS)):
        same = np.flatnonzero(joined[step:] == joined[:-step])
        if not len(same):
            break
        numbers, counts = np.unique(owner[same] * len(keys) + owner[same + step], return_counts=True)
        common.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    found = (number for number, count in sorted(common.items()) if count >= MIN_COMMON)
    pairs = [(keys[number // len(keys)], keys[number % len(keys)]) for number in found]
    return [pair for pair in pairs if places[pair[0]].isdisjoint(places[pair[1]])]


def times_of(note: FileNote, batch: BatchNote) -> Ints:
    """When the messages of a file were sent, ms since 1970."""
    return load_messages(batch.messages).column("sent_at").slice(note.start, note.rows).to_numpy()


def _are_one(one: Thread, other: Thread) -> bool | None:
    """Whether two threads agree in the messages that both could have, and in who wrote them; None: not in that."""
    overlap = compare(messages_of(one.pieces), messages_of(other.pieces))
    if not overlap.shows_one_thread:
        return False
    new_names = renames(overlap.pairs, one.people, other.people)
    if new_names is None:
        return None
    if len({name for name, _ in overlap.pairs}) > 1:  # one writer alone may say the same to two people at once
        return True
    left, right = one.people - {name for name, _ in new_names}, other.people - {name for _, name in new_names}
    # Early in 2018 participants came without the owner. Whoever wrote was a member: one more writer is another thread.
    wrote = {name for thread in (one, other) for note, _ in thread.pieces for name in note.senders}
    return True if (left <= right or right <= left) and wrote.isdisjoint(left ^ right) else None


def _not_joined(threads: Sequence[Thread], places: Mapping[str, set[str]]) -> list[str]:
    """Lines on threads of several downloads that may be one: their names suggest it, and no message proves it."""
    bearers: dict[str, list[Thread]] = defaultdict(list)
    for thread in threads:
        if thread.num_rows or not thread.is_encrypted:
            bearers[_lasting_part(thread)].append(thread)
    left = {name: rivals for name, rivals in sorted(bearers.items()) if _may_be_one(rivals, places)}
    problems = [
        f"{name}: {len(rivals):,} threads of several encrypted downloads bear this name, and no message in common "
        "shows which are one; not joined"
        for name, rivals in left.items()
        if rivals[0].is_encrypted
    ]
    if renamed := [_named(rivals) for rivals in left.values() if not rivals[0].is_encrypted]:
        problems.append(
            f"thread folders of one number have other names in other downloads ({_some(renamed)}), and not the same "
            "people and messages; not joined, so that messages may be there twice"
        )
    with_letters = [
        thread for thread in threads if not thread.is_encrypted and not _FOLDER_NUMBER.search(_folder(thread))
    ]
    numbered: dict[str, list[Thread]] = defaultdict(list)
    for thread in threads:
        if not thread.is_encrypted and _FOLDER_NUMBER.search(_folder(thread)):
            numbered[_slug(thread)].append(thread)
    if doubtful := [
        _named([thread, *rivals])
        for thread in with_letters
        if (rivals := [rival for rival in numbered[_slug(thread)] if places[rival.key].isdisjoint(places[thread.key])])
    ]:
        problems.append(
            f"thread folders of old and new downloads of one name have no messages in common ({_some(doubtful)}); "
            "each pair may be one thread or two, and is read as two"
        )
    return problems


def _may_be_one(rivals: Sequence[Thread], places: Mapping[str, set[str]]) -> bool:
    return any(places[one.key].isdisjoint(places[other.key]) for one, other in combinations(rivals, 2))


def _format(thread: Thread) -> str:
    return thread.pieces[0][0].file.format


def _platform(thread: Thread) -> str | None:
    """Messenger or Instagram; None for the layout that both had until 2021."""
    file = thread.pieces[0][0].file
    is_old = file.format == "messenger" and not any(f"{root}/" in file.entry.path for root in ROOTS[:-1])
    return None if is_old else file.source


def _folder(thread: Thread) -> str:
    return thread.pieces[0][0].file.thread


def _slug(thread: Thread) -> str:
    """The title in a folder's name, which old downloads write with capitals."""
    name = _folder(thread)
    letters = re.search(r"_[A-Za-z0-9_-]{10}$", name)
    return (name[: letters.start()] if letters and not _NUMBER.search(name) else name.rpartition("_")[0]).lower()


def _lasting_part(thread: Thread) -> str:
    """What the names of a thread's files or folders have in common in all downloads."""
    number = _FOLDER_NUMBER.search(_folder(thread))
    return _NUMBER.sub("", _folder(thread)) if thread.is_encrypted else number[1] if number else _folder(thread)


def _named(threads: Iterable[Thread]) -> str:
    return " and ".join(sorted({_folder(thread) for thread in threads}))


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:NUM_NAMED]) + ("; ..." if len(names) > NUM_NAMED else "")


def groups(links: Iterable[tuple[str, str]]) -> list[set[str]]:
    """What is linked directly or through others: (a, b), (b, c), (d, e) -> {a, b, c}, {d, e}."""
    group_of: dict[str, set[str]] = {}
    for one, other in links:
        joined = group_of.get(one, {one}) | group_of.get(other, {other})
        group_of |= dict.fromkeys(joined, joined)
    return sorted({id(group): group for group in group_of.values()}.values(), key=min)
