"""Lines that look automatic in an account language without rules: one wording, to the letter, everywhere.

People repeat themselves too, but never exactly: "how are you" comes with capitals and without, with one question mark
or three. A line counts as suspect when many people in many threads have it in a single spelling, or when it opens with
its own sender's name ("Ben a envoyé une photo.") and others have it with theirs. Nothing is dropped for it: the user
decides, with `export.system_patterns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

NAME = "NAME"  # what stands for the sender in a suspect that opens with it
MIN_BYTES, MAX_BYTES = 15, 200
MIN_THREADS, MIN_SENDERS = 6, 4  # for a line without a name
MIN_THREADS_WITH_NAME, MIN_SENDERS_WITH_NAME = 2, 2
MIN_SAME_SPELLING = 0.98
MAX_A_PART = 200


@dataclass(slots=True)
class Suspect:
    """One wording: how often, in how many threads, by whom, and how often in any spelling."""

    count: int = 0
    threads: int = 0
    any_spelling: int = 0
    senders: set[str] = field(default_factory=set)


def find_suspects(texts: pa.ChunkedArray, threads: Ints, senders: Ints, names: Sequence[str]) -> dict[str, Suspect]:
    """Wordings of one part of `messages` that might turn out to be suspects once all parts are known.

    Args:
        texts, threads, senders: one value a message; threads and senders as numbers from 0.
        names: what the sender numbers mean.
    """
    lengths = pc.binary_length(texts)
    rows = pc.indices_nonzero(
        pc.and_(pc.greater_equal(lengths, MIN_BYTES), pc.less_equal(lengths, MAX_BYTES))
    ).to_numpy()
    if not len(rows):
        return {}
    lines, threads, senders = texts.take(pa.array(rows)).combine_chunks(), threads[rows], senders[rows]
    found = _repeated(lines, threads, senders, names, MIN_THREADS // 2)
    with_name = _opening_with_own_name(lines, senders, names)
    if with_name:
        own = np.array(list(with_name), np.int64)
        templates = pa.array(list(with_name.values()), pa.string())
        found |= _repeated(templates, threads[own], senders[own], names, 1)
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


def _opening_with_own_name(lines: pa.Array, senders: Ints, names: Sequence[str]) -> dict[int, str]:
    """Rows whose text opens with a name of their own sender, and the text with NAME in its place."""
    order = np.argsort(senders, kind="stable")
    by_sender = lines.take(pa.array(order))
    ends = np.cumsum(np.bincount(senders, minlength=len(names))).tolist()
    found: dict[int, str] = {}
    for name, start, end in zip(names, [0, *ends], ends, strict=False):
        first = name.split(" ")[0]
        own = by_sender.slice(start, end - start)
        for index in pc.indices_nonzero(pc.starts_with(own, first + " ")).to_pylist() if len(own) else ():
            text = own[index].as_py()
            rest = text.removeprefix(name) if text.startswith(name + " ") else text.removeprefix(first)
            found[int(order[start + index])] = NAME + rest
    return found


def _repeated(
    lines: pa.Array, threads: Ints, senders: Ints, names: Sequence[str], more_than: int
) -> dict[str, Suspect]:
    """Lines that stand in more than so many threads of the part."""
    encoded = lines.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    distinct = encoded.dictionary
    counts = np.bincount(codes, minlength=len(distinct))
    often = np.flatnonzero(counts[codes] > more_than)  # rows of lines that can qualify at all
    pairs = np.unique(codes[often] * (int(threads.max()) + 1) + threads[often])
    num_threads = np.bincount(pairs // (int(threads.max()) + 1), minlength=len(distinct))
    frequent = np.flatnonzero(num_threads > more_than)
    if not len(frequent):
        return {}
    spellings = _spelling(distinct)
    wanted = spellings.take(pa.array(frequent))
    same = pc.index_in(spellings, wanted.unique())
    rows = pc.indices_nonzero(pc.is_valid(same)).to_numpy()
    any_spelling = np.bincount(same.drop_null().to_numpy(), weights=counts[rows])
    of_frequent = pc.index_in(wanted, wanted.unique()).to_numpy()
    wrote: dict[int, set[str]] = {code: set() for code in frequent.tolist()}
    for row in often[np.isin(codes[often], frequent)].tolist():
        wrote[int(codes[row])].add(names[senders[row]])
    return {
        distinct[code].as_py(): Suspect(int(counts[code]), int(num_threads[code]), int(total), wrote[code])
        for code, total in zip(frequent.tolist(), any_spelling[of_frequent].tolist(), strict=True)
    }


def _spelling(lines: pa.Array) -> pa.Array:
    """What is left of a line when case and the marks around it do not count."""
    return pc.utf8_trim(pc.utf8_lower(lines), " .,!?…:;)(\"'")
