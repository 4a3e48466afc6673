"""Lines that look automatic in an account language without rules: one wording, to the letter, everywhere.

People repeat themselves too, but never exactly: "how are you" comes with capitals and without, with one question mark
or three. A line counts as suspect when many people in many threads have it in a single spelling, or when it opens with
its own sender's name ("Ben a envoyé une photo.") and others have it with theirs. Nothing is dropped for it: the user
decides, with `export.system_patterns`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NAME = "NAME"  # what stands for the sender in a suspect that opens with it
MIN_CHARACTERS, MAX_CHARACTERS = 15, 160
MIN_THREADS, MIN_SENDERS = 6, 4  # for a line without a name
MIN_THREADS_WITH_NAME, MIN_SENDERS_WITH_NAME = 2, 2
MIN_SAME_SPELLING = 0.98
MAX_A_PART = 200


@dataclass
class Suspect:
    """One wording: how often, in how many threads, by whom, and how often in any spelling."""

    count: int = 0
    threads: int = 0
    any_spelling: int = 0
    senders: set[str] = field(default_factory=set)


def find_suspects(table: pa.Table) -> dict[str, Suspect]:
    """Wordings of one part of `messages` that might turn out to be suspects once all parts are known."""
    lengths = pc.utf8_length(table.column("text"))
    table = table.filter(pc.and_(pc.greater_equal(lengths, MIN_CHARACTERS), pc.less_equal(lengths, MAX_CHARACTERS)))
    if not len(table):
        return {}
    with_name = _opening_with_own_name(table)
    found = _repeated(table.column("text"), table, MIN_THREADS // 2)
    if with_name is not None:
        rows, templates = with_name
        found |= _repeated(pa.array(templates, pa.string()), table.take(pa.array(rows)), 1)
    ranked = sorted(found.items(), key=lambda item: (-item[1].threads, item[0]))
    return dict(ranked[:MAX_A_PART])


def merge_suspects(parts: Sequence[dict[str, Suspect]]) -> dict[str, Suspect]:
    """The suspects of a whole export, the most frequent first."""
    merged: dict[str, Suspect] = {}
    for part in parts:
        for line, suspect in part.items():
            whole = merged.setdefault(line, Suspect())
            whole.count += suspect.count
            whole.threads += suspect.threads
            whole.any_spelling += suspect.any_spelling
            whole.senders |= suspect.senders
    kept = {line: suspect for line, suspect in merged.items() if _is_suspect(line, suspect)}
    return dict(sorted(kept.items(), key=lambda item: (-item[1].count, item[0])))


def _is_suspect(line: str, suspect: Suspect) -> bool:
    if line.startswith(NAME + " "):
        return suspect.threads >= MIN_THREADS_WITH_NAME and len(suspect.senders) >= MIN_SENDERS_WITH_NAME
    enough = suspect.threads >= MIN_THREADS and len(suspect.senders) >= MIN_SENDERS
    return enough and suspect.count >= MIN_SAME_SPELLING * suspect.any_spelling


def _opening_with_own_name(table: pa.Table) -> tuple[list[int], list[str]] | None:
    """Rows whose text opens with a name of their own sender, and the text with NAME in its place."""
    senders = table.column("sender").combine_chunks().dictionary_encode()
    codes = senders.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    texts = table.column("text").take(pa.array(order))
    ends = np.cumsum(np.bincount(codes, minlength=len(senders.dictionary)))
    rows: list[int] = []
    templates: list[str] = []
    for name, start, end in zip(senders.dictionary.to_pylist(), [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        first = name.split(" ")[0]
        own = texts.slice(start, end - start)
        for index in pc.indices_nonzero(pc.starts_with(own, first + " ")).to_pylist():
            text = own[index].as_py()
            rest = text.removeprefix(name) if text.startswith(name + " ") else text.removeprefix(first)
            rows.append(int(order[start + index]))
            templates.append(NAME + rest)
    return (rows, templates) if rows else None


def _repeated(lines: pa.ChunkedArray | pa.Array, table: pa.Table, more_than: int) -> dict[str, Suspect]:
    """Lines that stand in more than so many threads of the part."""
    encoded = (lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines).dictionary_encode()
    codes: npt.NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    threads = table.column("thread_id").combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    pairs = np.unique(codes * (int(threads.max()) + 1) + threads)
    num_threads = np.bincount(pairs // (int(threads.max()) + 1), minlength=len(encoded.dictionary))
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    frequent = np.flatnonzero(num_threads > more_than)
    if not len(frequent):
        return {}
    spellings = _spelling(encoded.dictionary)
    any_spelling: Counter[str] = Counter()
    wanted = set(spellings.take(pa.array(frequent)).to_pylist())
    rows = pc.indices_nonzero(pc.is_in(spellings, pa.array(sorted(wanted)))).to_pylist()
    for row, spelling in zip(rows, spellings.take(pa.array(rows)).to_pylist(), strict=True):
        any_spelling[spelling] += int(counts[row])
    found: dict[str, Suspect] = {}
    wrote: dict[int, set[str]] = {code: set() for code in frequent.tolist()}
    used = np.flatnonzero(np.isin(codes, frequent))
    for code, sender in zip(codes[used].tolist(), table.column("sender").take(pa.array(used)).to_pylist(), strict=True):
        wrote[code].add(sender)
    for code in frequent.tolist():
        spelling = spellings[code].as_py()
        line = encoded.dictionary[code].as_py()
        found[line] = Suspect(int(counts[code]), int(num_threads[code]), any_spelling[spelling], wrote[code])
    return found


def _spelling(lines: pa.Array) -> pa.Array:
    """What is left of a line when case and the marks around it do not count."""
    return pc.utf8_trim(pc.utf8_lower(lines), " .,!?…:;)(\"'")
