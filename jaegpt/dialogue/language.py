"""Messages in the languages to keep: threads are kept or dropped whole, then single foreign messages are dropped.

A message whose language cannot be identified follows its thread. A single one is dropped from a kept thread only when
the identifier is nearly certain of another language.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jaegpt.arrays import Ints, Strings
from jaegpt.dialogue.identifier import KNOWN, UNKNOWN, identify, letters_only
from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS, column, thread_starts

REASONS = ("thread_in_other_language", "thread_without_language", "message_in_other_language")
MIN_IDENTIFIED = 3  # lines that must be identified one by one for a thread to be judged by them alone
MAX_JOINED = 200  # of the other lines, so many are identified together where fewer could be one by one


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Which languages to keep.

    Attributes:
        keep: ISO 639-1 codes.
        min_share: a thread is kept when at least this share of its messages whose language can be identified (one by
            one, or together where that works for few) is in `keep`; 0 to 1.
    """

    keep: list[str]
    min_share: float

    def __post_init__(self) -> None:
        if not self.keep:
            raise ValueError("keep must name at least one language, such as en; found none.")
        for code in self.keep:
            if code not in KNOWN:
                known = ", ".join(sorted(KNOWN))
                raise ValueError(f"keep takes ISO 639-1 codes that can be identified ({known}); found {code!r}.")
        if not 0 <= self.min_share <= 1:
            raise ValueError(f"min_share must be between 0 and 1, found {self.min_share:g}.")


@dataclass
class LanguageCounts:
    """What became of a part.

    Attributes:
        threads: one row per thread: (thread_id, messages, messages identified, share of those in `keep`, dropped,
            kept 0 or 1).
        messages_kept: messages written.
        dropped: messages by reason.
        languages: messages by language, to explain an empty result.
    """

    threads: list[tuple[str, int, int, float, int, int]] = field(default_factory=list)
    messages_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    @classmethod
    def total(cls, parts: Iterable["LanguageCounts"]) -> "LanguageCounts":
        """The counts of all parts as one."""
        whole = cls()
        for part in parts:
            whole.threads += part.threads
            whole.messages_kept += part.messages_kept
            whole.dropped += part.dropped
            whole.languages += part.languages
        return whole

    def refuse_empty(self) -> None:
        """A JaegptError when no message is left."""
        if not self.messages_kept:
            found = ", ".join(f"{code} {count:,}" for code, count in self.languages.most_common(5)) or "nothing"
            raise JaegptError(
                f"language.keep: no thread is in a language to keep. Found messages: {found}. Add one of these."
            )

    def metrics(self) -> dict[str, Any]:
        """metrics/language.json."""
        threads_kept = sum(kept for *_, kept in self.threads)
        dropped = {reason: self.dropped[reason] for reason in REASONS}
        return {
            "threads_kept": threads_kept,
            "threads_dropped": len(self.threads) - threads_kept,
            "messages_read": self.messages_kept + sum(dropped.values()),
            "messages_kept": self.messages_kept,
            "dropped": dropped,
        }


def filter_language(messages: pa.Table, config: LanguageConfig) -> tuple[pa.Table, LanguageCounts]:
    """A part of `messages` -> a part of `filtered`, and what was dropped.

    In a thread with fewer than MIN_IDENTIFIED lines that can be identified one by one, all others are identified as one
    text, and each counts as a line of that language: one line does not speak for thirty short ones. Where that fails
    too, the lines identified one by one decide; where there are none, the thread is dropped.
    """
    starts = thread_starts(column(messages, "thread_id"))
    sizes = np.diff(starts, append=len(messages))
    thread = np.repeat(np.arange(len(starts)), sizes)
    # Each distinct text is cleaned and asked once; people repeat themselves.
    texts = column(messages, "text").dictionary_encode()
    codes = texts.indices.to_numpy(zero_copy_only=False)
    letters = letters_only(texts.dictionary)
    languages, certain = (values[codes] for values in identify(letters))
    kept_language = np.isin(languages, config.keep)
    foreign = certain & (languages != UNKNOWN) & ~kept_language

    identified = np.bincount(thread[languages != UNKNOWN], minlength=len(starts))
    identified_kept = np.bincount(thread[kept_language], minlength=len(starts))
    share = identified_kept / np.maximum(identified, 1)
    judged = identified > 0
    few = np.flatnonzero((identified < MIN_IDENTIFIED) & (identified < sizes))
    for row, language in zip(few, _together(letters, codes, languages, starts[few], sizes[few]), strict=True):
        if language != UNKNOWN:
            others = (sizes[row] - identified[row]) * (language in config.keep)
            judged[row], share[row] = True, (identified_kept[row] + others) / sizes[row]
    keep_thread = judged & (share >= config.min_share)
    foreign &= keep_thread[thread]
    keep = keep_thread[thread] & ~foreign

    counts = (sizes[judged & ~keep_thread].sum(), sizes[~judged].sum(), foreign.sum())
    dropped = np.where(keep_thread, np.bincount(thread[foreign], minlength=len(starts)), sizes)
    columns = (sizes, identified, share.round(4), dropped, keep_thread.astype(int))
    ids = column(messages, "thread_id").take(starts).to_pylist()
    counted = LanguageCounts(
        threads=list(zip(ids, *(values.tolist() for values in columns), strict=True)),
        messages_kept=int(keep.sum()),
        dropped=Counter({reason: int(count) for reason, count in zip(REASONS, counts, strict=True)}),
        languages=Counter(languages.tolist()),
    )
    filtered = messages.append_column("language", pa.array(languages, pa.string())).filter(pa.array(keep))
    return filtered.cast(SCHEMAS["filtered"]), counted


def _together(letters: pa.Array, codes: Ints, languages: Strings, starts: Ints, sizes: Ints) -> Strings:
    """[threads] the language of each thread's lines that cannot be identified one by one, joined."""
    joined = []
    for start, size in zip(starts, sizes, strict=True):
        rows = slice(start, start + size)
        unidentified = codes[rows][languages[rows] == UNKNOWN][:MAX_JOINED]
        joined.append(" ".join(letters.take(unidentified).to_pylist()))
    return identify(pa.array(joined, pa.string()))[0]
