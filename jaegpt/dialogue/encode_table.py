"""Histories and replies into token ids, whole columns at a time: a table's, and the chat's one row, by the same code.

A history is a row of pieces: what closes a turn, what opens the next, its text, and so on. Each distinct word is
tokenized once; the rest is looking up and laying end to end.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints, Ints32
from jaegpt.dialogue.encoding import Encoder, Ids, Turn
from jaegpt.tables import SCHEMAS, column

# One per thread: an encoder keeps the layouts that it has worked out.
_of_thread = threading.local()

# Runs of white space are tokens of their own, so that a text with one is not taken apart; nor is one with the mark.
_MARK = "\0"
_WHOLE = r"[\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}] | [\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}]|\x{0}"


@dataclass
class _Pieces:
    """Token ids of distinct pieces, end to end; the number of a piece is its place among `lengths`.

    with_space: gives the ids of the same texts with a space before each, for templates that ask for one.
    """

    flat: Ints32
    lengths: Ints
    spaced_from: int = 0
    with_space: "Callable[[], _Pieces] | None" = None
    numbers: dict[Ids, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: list[list[int]]) -> "_Pieces":
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


def _tokenized(texts: pa.Array, encoder: Encoder) -> _Pieces:
    """[texts] their ids: what `encoder.tokenize` gives, each distinct word asked once where that is the same."""
    if not encoder.splits_at_spaces:
        return _Pieces.of(encoder.tokenize(texts.to_pylist()))
    whole = pc.match_substring_regex(texts, _WHOLE)
    words = pc.split_pattern(pc.replace_substring(texts.filter(pc.invert(whole)), " ", _MARK + " "), _MARK)
    units = pa.concat_arrays([words.flatten(), texts.filter(whole)]).dictionary_encode()
    # "so what": words "so", " what"; a whole text is a single unit.
    num_units = np.ones(len(texts), np.int64)
    whole = whole.to_numpy(zero_copy_only=False)
    num_units[~whole] = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    numbers = np.empty(int(num_units.sum()), np.int64)
    of_whole = np.repeat(whole, num_units)
    codes = units.indices.to_numpy(zero_copy_only=False)
    num_words = len(codes) - int(whole.sum())
    numbers[~of_whole], numbers[of_whole] = codes[:num_words], codes[num_words:]
    ids, taken = _Pieces.of(encoder.tokenize(units.dictionary.to_pylist())).gather(numbers)
    ends = np.concatenate([[0], np.cumsum(taken)])[np.cumsum(num_units)]  # each text has at least one unit
    return _Pieces(ids, np.diff(ends, prepend=0))


def encode_part(examples: pa.Table, base: Path, digest: str) -> tuple[pa.Table, tuple[int, int]]:
    """The tokens of a part, and its numbers of examples and of tokens.

    Here and not in the stage, because what a cluster is sent from a program's own file cannot keep an encoder.

    Args:
        base: the base model's folder, an absolute path.
        digest: of its tokenizer, as `tokenizer_digest` gives it; a worker that knows another reads the folder anew.
    """
    tokens = encode_examples(examples, _encoder(base, digest))
    num_tokens = sum(
        pc.sum(pc.list_value_length(ids)).as_py() or 0
        for ids in (tokens["history_ids"], pc.list_flatten(tokens["candidate_ids"]))
    )
    return tokens, (len(tokens), num_tokens)


def tokenizer_digest(base: Path) -> str:
    """A hash of the files that an Encoder reads."""
    files = [base / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")]
    contents = [file.read_bytes() if file.is_file() else b"" for file in files]
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def _encoder(base: Path, digest: str) -> Encoder:
    """Read once a thread, and again when its files have changed: a cluster's workers outlive many runs."""
    if getattr(_of_thread, "key", None) != (base, digest):
        _of_thread.encoder, _of_thread.key = Encoder(base), (base, digest)
    encoder: Encoder = _of_thread.encoder
    return encoder


def encode_examples(examples: pa.Table, encoder: Encoder) -> pa.Table:
    """A part of `examples` -> the same part of `tokens`: row for row, nothing dropped."""
    is_owner, texts, of_row = _joined_turns(column(examples, "history"))
    distractors, replies = column(examples, "distractors"), column(examples, "reply")
    num_others = pc.list_value_length(distractors).to_numpy(zero_copy_only=False).astype(np.int64)
    pieces, numbers = _numbered(pa.concat_arrays([texts, distractors.flatten(), replies]), encoder)
    of_turns, of_others, of_replies = np.split(numbers, np.cumsum([len(texts), int(num_others.sum())]))

    ids, roles, lengths = _histories(encoder, pieces, is_owner, of_turns, np.bincount(of_row, minlength=len(examples)))
    # The reply comes after the distractors of its row, and every candidate is followed by what ends a turn.
    candidate_ids, taken = _candidates(encoder, pieces, np.insert(of_others, np.cumsum(num_others), of_replies))
    inner = _lists(taken, pa.array(candidate_ids, pa.int32()))
    columns = {
        "example_id": column(examples, "example_id"),
        "split": column(examples, "split"),
        "history_ids": _lists(lengths, pa.array(ids, pa.int32())),
        "history_roles": _lists(lengths, pa.array(roles, pa.int8())),
        "candidate_ids": _lists(num_others + 1, inner),
    }
    return pa.table(columns, schema=SCHEMAS["tokens"])


def encode_history(encoder: Encoder, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Context turns -> ids up to where the owner's reply begins, and as many roles (1 = owner, 0 = other).

    Raises:
        JaegptError: the model's template refuses such turns.
    """
    row = [{"is_owner": is_owner, "text": text} for is_owner, text in turns]
    is_owner, texts, of_row = _joined_turns(pa.array([row], SCHEMAS["examples"].field("history").type))
    pieces, numbers = _numbered(texts, encoder)
    ids, roles, _ = _histories(encoder, pieces, is_owner, numbers, np.bincount(of_row, minlength=1))
    return ids.tolist(), roles.tolist()


def encode_candidate(encoder: Encoder, text: str) -> list[int]:
    """A reply -> ids, closed by the end-of-turn token, so that the model learns to stop."""
    pieces, numbers = _numbered(pa.array([text], pa.string()), encoder)
    return list(_candidates(encoder, pieces, numbers)[0].tolist())


def _numbered(texts: pa.Array, encoder: Encoder) -> tuple[_Pieces, Ints]:
    """The distinct texts as pieces, and [texts] the number of each."""
    spoken = texts.dictionary_encode()
    pieces = _tokenized(spoken.dictionary, encoder)
    pieces.with_space = lambda: _tokenized(pc.binary_join_element_wise("", spoken.dictionary, " "), encoder)
    return pieces, spoken.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _candidates(encoder: Encoder, pieces: _Pieces, numbers: Ints) -> tuple[Ints32, Ints]:
    """The ids of candidates end to end, and [candidates] their lengths; `numbers`: [candidates] of their texts."""
    texts = pieces.spaced(numbers) if encoder.reply_spaced else numbers
    opening, closing = (np.full_like(texts, pieces.number(ids)) for ids in (encoder.reply_opening, encoder.end_of_turn))
    ids, taken = pieces.gather(np.column_stack([opening, texts, closing]).ravel())
    return ids, taken.reshape(-1, 3).sum(axis=1)


def _joined_turns(history: pa.Array) -> tuple[Bools, pa.Array, Ints]:
    """All rows' turns, neighbours of one role joined: [turns] is_owner, texts, and the row each belongs to."""
    sizes = pc.list_value_length(history).to_numpy(zero_copy_only=False).astype(np.int64)
    of_row = np.repeat(np.arange(len(history)), sizes)
    turns = history.flatten()
    is_owner = turns.field("is_owner").to_numpy(zero_copy_only=False)
    begins = np.diff(of_row, prepend=-1) != 0
    begins[1:] |= is_owner[1:] != is_owner[:-1]
    heads = np.flatnonzero(begins)
    bounds = pa.array(np.append(heads, len(turns)), pa.int32())
    texts = pc.binary_join(pa.ListArray.from_arrays(bounds, turns.field("text")), " ")
    return is_owner[heads], texts, of_row[heads]


def _histories(
    encoder: Encoder, pieces: _Pieces, is_owner: Bools, texts: Ints, sizes: Ints
) -> tuple[Ints32, npt.NDArray[np.int8], Ints]:
    """Ids and roles of all rows' histories end to end, and [rows] their lengths.

    is_owner, texts: [turns], whose turn it is and the number of its text; sizes: [rows], turns a row.
    """
    # Roles alternate, so a row's layout follows from its number of turns and who speaks first.
    first_turn = np.cumsum(sizes) - sizes
    kind = sizes * 2 + is_owner[np.minimum(first_turn, max(len(is_owner) - 1, 0))] if len(is_owner) else sizes * 2
    widths = 3 * sizes + 2  # closing, opening, text for each turn; closing, opening before the reply
    starts = np.cumsum(widths) - widths
    numbers = np.full(int(widths.sum()), pieces.number(()), np.int64)
    piece_roles = np.zeros(len(numbers), np.int8)
    for value in np.unique(kind).tolist():
        rows = np.flatnonzero(kind == value)
        num_turns, owner_first = divmod(value, 2)
        owners = tuple((turn + owner_first) % 2 == 1 for turn in range(num_turns))
        layout = encoder.layout(owners)
        around = [*layout.before, layout.after]
        speakers = [0, *map(int, owners), 1]
        for turn, (closing, opening) in enumerate(around, start=layout.skipped):
            place = starts[rows] + 3 * turn
            numbers[place], piece_roles[place] = pieces.number(closing), speakers[turn]
            numbers[place + 1], piece_roles[place + 1] = pieces.number(opening), speakers[turn + 1]
            if turn < num_turns:
                content = texts[first_turn[rows] + turn]
                spaced = layout.spaced[turn - layout.skipped]
                numbers[place + 2] = pieces.spaced(content) if spaced else content
                piece_roles[place + 2] = speakers[turn + 1]
    ids, taken = pieces.gather(numbers)
    lengths = np.add.reduceat(taken, starts) if len(starts) else widths
    return ids, np.repeat(piece_roles, taken), lengths


def _lists(lengths: Ints, values: pa.Array) -> pa.Array:
    """A list column: lengths [2, 1], values a b c -> [[a, b], [c]]."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)
