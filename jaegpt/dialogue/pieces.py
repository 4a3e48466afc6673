"""Texts as pieces of token ids, whole columns at a time: each distinct word is tokenized once, and rows are laid end to
end by the numbers of their pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Ints, Ints32
from jaegpt.dialogue.encoding import Encoder, Ids

# Texts that are not split into words. A run of white space may be one token, which splitting would break; and a text
# that holds the mark would be split at the wrong place.
_MARK = "\0"
_WHOLE = r"[\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}] | [\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}]|\x{0}"


@dataclass
class Pieces:
    """Token ids of distinct pieces, end to end; the number of a piece is its place among `lengths`.

    with_space: gives the ids of the same texts with a space before each, for templates that ask for one.
    """

    flat: Ints32
    lengths: Ints
    spaced_from: int = 0
    with_space: "Callable[[], Pieces] | None" = None
    numbers: dict[Ids, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: list[list[int]]) -> "Pieces":
        """From the ids of each."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)

    def number(self, ids: Ids) -> int:
        """The number of a piece of the template, added when it is new."""
        if ids not in self.numbers:
            self.numbers[ids] = len(self.lengths)
            self.flat = np.concatenate([self.flat, np.array(ids, np.int32)])
            self.lengths = np.append(self.lengths, len(ids))
        return self.numbers[ids]

    def spaced(self, texts: Ints) -> Ints:
        """The numbers of these texts with a space before each; they are encoded when they are first asked for."""
        if self.with_space is not None:
            more, self.with_space = self.with_space(), None
            self.spaced_from = len(self.lengths)
            self.flat = np.concatenate([self.flat, more.flat])
            self.lengths = np.concatenate([self.lengths, more.lengths])
        return texts + self.spaced_from

    def gather(self, numbers: Ints) -> tuple[Ints32, Ints]:
        """The ids of these pieces end to end, and [numbers] their lengths: pieces a=[5], b=[6, 7]; b a -> [6, 7, 5]."""
        starts = np.cumsum(self.lengths) - self.lengths
        taken = self.lengths[numbers]
        within = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
        return self.flat[np.repeat(starts[numbers], taken) + within], taken


def tokenized(texts: pa.Array, encoder: Encoder) -> Pieces:
    """[texts] their ids: what `encoder.tokenize` gives, each distinct word asked once where that is the same."""
    if not encoder.splits_at_spaces:
        return Pieces.of(encoder.tokenize(texts.to_pylist()))
    whole = pc.match_substring_regex(texts, _WHOLE)
    words = pc.split_pattern(pc.replace_substring(texts.filter(pc.invert(whole)), " ", _MARK + " "), _MARK)
    units = pa.concat_arrays([words.flatten(), texts.filter(whole)]).dictionary_encode()
    # "so what": words "so", " what"; a whole text is a single unit.
    num_units = np.ones(len(texts), np.int64)
    whole = whole.to_numpy(zero_copy_only=False)
    num_units[~whole] = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    # The units were numbered words first; put the numbers back into the order of the texts.
    numbers = np.empty(int(num_units.sum()), np.int64)
    of_whole = np.repeat(whole, num_units)
    codes = units.indices.to_numpy(zero_copy_only=False)
    num_words = len(codes) - int(whole.sum())
    numbers[~of_whole], numbers[of_whole] = codes[:num_words], codes[num_words:]
    ids, taken = Pieces.of(encoder.tokenize(units.dictionary.to_pylist())).gather(numbers)
    ends = np.concatenate([[0], np.cumsum(taken)])[np.cumsum(num_units)]  # each text has at least one unit
    return Pieces(ids, np.diff(ends, prepend=0))


def numbered(texts: pa.Array, encoder: Encoder) -> tuple[Pieces, Ints]:
    """The distinct texts as pieces, and [texts] the number of each."""
    spoken = texts.dictionary_encode()
    pieces = tokenized(spoken.dictionary, encoder)
    pieces.with_space = lambda: tokenized(pc.binary_join_element_wise("", spoken.dictionary, " "), encoder)
    return pieces, spoken.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def lists(lengths: Ints, values: pa.Array) -> pa.Array:
    """A list column: lengths [2, 1], values a b c -> [[a, b], [c]]."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)
