"""Lines that look automatic in an account language without rules: one wording, to the letter, everywhere.

People repeat themselves too, but never exactly: "how are you" comes with capitals and without, with one question mark
or three. A line counts as suspect when it stands in many threads in a single spelling, written by many people or by the
owner ("Vous avez envoyé une photo."), or when it opens with its own sender's name ("Ben a envoyé une photo.") and
others have it with theirs. Nothing is dropped for it: the user decides, with `export.system_patterns`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Ints
from jaegpt.exports.threads import Sender

NAME = "NAME"  # what stands for the sender in a suspect that opens with it
MIN_BYTES, MAX_BYTES = 15, 200
MIN_THREADS, MIN_SENDERS = 6, 4  # for a line without a name; the owner's need no other senders
MIN_THREADS_WITH_NAME, MIN_SENDERS_WITH_NAME = 2, 2
MIN_SAME_SPELLING = 0.98
MAX_PER_PART = 200


@dataclass(slots=True)
class Suspect:
    """One wording: how often, in how many threads, by whom, and how often in any spelling."""

    count: int = 0
    threads: int = 0
    any_spelling: int = 0
    senders: set[str] = field(default_factory=set)


# By wording, and whether the owner's messages alone were counted.
Suspects = dict[tuple[str, bool], Suspect]


def find_suspects(texts: pa.ChunkedArray, threads: Ints, senders: Ints, people: Sequence[Sender]) -> Suspects:
    """Wordings of one part of `messages` that might turn out to be suspects once all parts are known.

    Args:
        texts, threads, senders: one value per message; threads and senders as numbers from 0.
        people: what the sender numbers mean.
    """
    lengths = pc.binary_length(texts)
    has_length = pc.and_(pc.greater_equal(lengths, MIN_BYTES), pc.less_equal(lengths, MAX_BYTES))
    lines = texts.filter(has_length).combine_chunks()
    if not len(lines):
        return {}
    threads, senders = threads[has_length.to_numpy()], senders[has_length.to_numpy()]
    # A part may hold few threads: a share of them, so that the wordings of a whole export add up.
    more_than = min(MIN_THREADS // 2, len(np.unique(threads)) // 3)
    spelling = _spelling(lines).dictionary_encode().indices.to_numpy()
    often = np.flatnonzero(np.bincount(spelling)[spelling] > max(more_than, 1))
    owners = often[np.array([person.is_owner for person in people])[senders[often]]]
    with_name = _opening_with_own_name(lines, senders, people)
    own = np.array(list(with_name), np.int64)
    found: Suspects = {}
    for which, wordings, least, by_owner in (
        (often, lines.take(pa.array(often)).to_pylist(), more_than, False),
        (owners, lines.take(pa.array(owners)).to_pylist(), more_than, True),
        (own, list(with_name.values()), 1, False),
    ):
        names = [people[sender].name for sender in senders[which].tolist()]
        columns = zip(wordings, threads[which].tolist(), names, spelling[which].tolist(), strict=True)
        found |= {(line, by_owner): suspect for line, suspect in _repeated(columns, least).items()}
    ranked = sorted(found.items(), key=lambda item: (-item[1].threads, -item[1].count, item[0]))
    return dict(ranked[:MAX_PER_PART])


def merge_suspects(parts: Sequence[Suspects]) -> dict[str, Suspect]:
    """The suspects of a whole export, the most frequent first."""
    merged: Suspects = {}
    for part in parts:
        for key, suspect in part.items():
            whole = merged.setdefault(key, Suspect())
            whole.count += suspect.count
            whole.threads += suspect.threads
            whole.any_spelling += suspect.any_spelling
            whole.senders |= suspect.senders
    lines = {
        line: merged.get((line, False), suspect)
        for (line, by_owner), suspect in merged.items()
        if _is_suspect(line, by_owner, suspect)
    }
    return dict(sorted(lines.items(), key=lambda item: (-item[1].count, item[0])))


def pattern_of(line: str) -> str:
    """The regular expression (RE2) for a suspect: `"NAME a envoyé une photo."` -> `"\\S.{0,60} a envoyé une photo\\."`.

    It is on one line and printable, so that between single quotes, each inside doubled, it is an item of a YAML list.
    """
    words = line.strip()
    opening = r"\S.{0,60}" if words.startswith(NAME + " ") else ""
    words = words.removeprefix(NAME) if opening else words
    return opening + "".join(map(_literal, words))


def _literal(sign: str) -> str:
    if sign in r"\.+*?()|[]{}^$":
        return f"\\{sign}"
    if sign.isprintable():
        return sign
    return r"\s" if sign in "\t\n\f\r" else "."


def _is_suspect(line: str, by_owner: bool, suspect: Suspect) -> bool:
    if line.startswith(NAME + " "):
        return suspect.threads >= MIN_THREADS_WITH_NAME and len(suspect.senders) >= MIN_SENDERS_WITH_NAME
    enough = suspect.threads >= MIN_THREADS and (by_owner or len(suspect.senders) >= MIN_SENDERS)
    return enough and suspect.count >= MIN_SAME_SPELLING * suspect.any_spelling


def _opening_with_own_name(lines: pa.Array, senders: Ints, people: Sequence[Sender]) -> dict[int, str]:
    """Rows whose text opens with a name of their own sender, and the text with NAME in its place."""
    firsts = [person.name.split(" ")[0] + " " for person in people]
    # Comparing two bytes rules out nearly all lines; every line and every name with its space has at least two.
    starts = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines)]
    head = np.frombuffer(lines.buffers()[2], np.uint8)[starts[:, None] + np.arange(2)]  # [rows, 2]
    wanted = np.array([list(first.encode()[:2]) for first in firsts], np.uint8)  # [people, 2]
    found: dict[int, str] = {}
    for row in np.flatnonzero((head == wanted[senders]).all(axis=1)).tolist():
        text, name = lines[row].as_py(), people[senders[row]].name
        for own in (name, firsts[senders[row]].rstrip()):
            if text.startswith(own + " "):
                found[row] = NAME + text.removeprefix(own)
                break
    return found


def _repeated(rows: Iterable[tuple[str, int, str, int]], more_than: int) -> dict[str, Suspect]:
    """Of (line, thread, sender, number of its spelling), the lines found in more than `more_than` threads."""
    found: dict[str, Suspect] = defaultdict(Suspect)
    stands_in: dict[str, set[int]] = defaultdict(set)
    spelling_of: dict[str, int] = {}
    spelled: Counter[int] = Counter()
    for line, thread, sender, spelling in rows:
        found[line].count += 1
        found[line].senders.add(sender)
        stands_in[line].add(thread)
        spelling_of[line] = spelling
        spelled[spelling] += 1
    frequent = {line: suspect for line, suspect in found.items() if len(stands_in[line]) > more_than}
    for line, suspect in frequent.items():
        suspect.threads = len(stands_in[line])
        suspect.any_spelling = spelled[spelling_of[line]]
    return frequent


def _spelling(lines: pa.Array) -> pa.Array:
    """What is left of a line when case and the marks around it do not count."""
    return pc.utf8_trim(pc.utf8_lower(lines), " .,!?…:;)(\"'")
