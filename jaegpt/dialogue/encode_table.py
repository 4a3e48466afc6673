"""Histories and replies into token ids, whole columns at a time: a table's, and the chat's one row, by the same code.

A history is a row of pieces: what closes a turn, what opens the next, its text, and so on. Each distinct word is
tokenized once; the rest is looking up and laying end to end.
"""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints, Ints32
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.dialogue.pieces import Pieces, lists, numbered
from jaegpt.tables import SCHEMAS, column

# One encoder per thread, because an encoder changes: it keeps each layout that it has worked out.
_of_thread = threading.local()


def encode_part(examples: pa.Table, base: Path, digest: str, joint: str) -> tuple[pa.Table, tuple[int, int]]:
    """The tokens of a part, and its numbers of examples and of tokens.

    It is here and not in the stage because Dask sends functions of the main program by value, code and all, and a
    function sent so has no module to keep an encoder in.

    Args:
        base: the base model's folder, an absolute path.
        digest: of its tokenizer, as `tokenizer_digest` gives it; a worker that knows another reads the folder again.
        joint: what stands between the messages of a turn.
    """
    tokens = encode_examples(examples, encoder_of(base, digest, joint))
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


def encoder_of(base: Path, digest: str, joint: str) -> Encoder:
    """Read once per thread, and again when its files have changed: a cluster's workers outlive many runs."""
    if getattr(_of_thread, "key", None) != (base, digest, joint):
        _of_thread.encoder, _of_thread.key = Encoder(base, joint), (base, digest, joint)
    encoder: Encoder = _of_thread.encoder
    return encoder


def encode_examples(examples: pa.Table, encoder: Encoder) -> pa.Table:
    """A part of `examples` -> the same part of `tokens`: row for row, nothing dropped."""
    is_owner, texts, of_row, _ = joined_turns(column(examples, "history"), encoder.joint)
    distractors, replies = column(examples, "distractors"), column(examples, "reply")
    num_others = pc.list_value_length(distractors).to_numpy(zero_copy_only=False).astype(np.int64)
    pieces, numbers = numbered(pa.concat_arrays([texts, distractors.flatten(), replies]), encoder)
    of_turns, of_others, of_replies = np.split(numbers, np.cumsum([len(texts), int(num_others.sum())]))

    ids, roles, lengths = histories(encoder, pieces, is_owner, of_turns, np.bincount(of_row, minlength=len(examples)))
    # The reply comes after the distractors of its row, and every candidate is followed by what ends a turn.
    candidate_ids, taken = candidates(encoder, pieces, np.insert(of_others, np.cumsum(num_others), of_replies))
    inner = lists(taken, pa.array(candidate_ids, pa.int32()))
    columns = {
        "example_id": column(examples, "example_id"),
        "split": column(examples, "split"),
        "history_ids": lists(lengths, pa.array(ids, pa.int32())),
        "history_roles": lists(lengths, pa.array(roles, pa.int8())),
        "candidate_ids": lists(num_others + 1, inner),
    }
    return pa.table(columns, schema=SCHEMAS["tokens"])


def encode_history(encoder: Encoder, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Context turns -> ids up to where the owner's reply begins, and as many roles (1 = owner, 0 = other).

    Raises:
        JaegptError: the model's template refuses such turns.
    """
    row = [{"is_owner": is_owner, "text": text} for is_owner, text in turns]
    is_owner, texts, of_row, _ = joined_turns(pa.array([row], SCHEMAS["examples"].field("history").type), encoder.joint)
    pieces, numbers = numbered(texts, encoder)
    ids, roles, _ = histories(encoder, pieces, is_owner, numbers, np.bincount(of_row, minlength=1))
    return ids.tolist(), roles.tolist()


def encode_candidate(encoder: Encoder, text: str) -> list[int]:
    """A reply -> ids, closed by the end-of-turn token, so that the model learns to stop."""
    pieces, numbers = numbered(pa.array([text], pa.string()), encoder)
    return list(candidates(encoder, pieces, numbers)[0].tolist())


def candidates(encoder: Encoder, pieces: Pieces, numbers: Ints) -> tuple[Ints32, Ints]:
    """The ids of candidates end to end, and [candidates] their lengths; `numbers`: [candidates] of their texts."""
    texts = pieces.spaced(numbers) if encoder.reply_spaced else numbers
    opening, closing = (np.full_like(texts, pieces.number(ids)) for ids in (encoder.reply_opening, encoder.end_of_turn))
    ids, taken = pieces.gather(np.column_stack([opening, texts, closing]).ravel())
    return ids, taken.reshape(-1, 3).sum(axis=1)


def joined_turns(history: pa.Array, joint: str) -> tuple[Bools, pa.Array, Ints, Ints]:
    """All rows' turns, neighbours of one role joined, with `joint` between their texts.

    Returns:
        [turns] is_owner, texts, the row each belongs to, and the place of its first turn among all turns.
    """
    sizes = pc.list_value_length(history).to_numpy(zero_copy_only=False).astype(np.int64)
    of_row = np.repeat(np.arange(len(history)), sizes)
    turns = history.flatten()
    is_owner = turns.field("is_owner").to_numpy(zero_copy_only=False)
    # A joined turn begins with a row and wherever the role changes.
    begins = np.diff(of_row, prepend=-1) != 0
    begins[1:] |= is_owner[1:] != is_owner[:-1]
    heads = np.flatnonzero(begins)
    bounds = pa.array(np.append(heads, len(turns)), pa.int32())
    texts = pc.binary_join(pa.ListArray.from_arrays(bounds, turns.field("text")), joint)
    return is_owner[heads], texts, of_row[heads], heads


def histories(
    encoder: Encoder, pieces: Pieces, is_owner: Bools, texts: Ints, sizes: Ints
) -> tuple[Ints32, npt.NDArray[np.int8], Ints]:
    """Ids and roles of all rows' histories end to end, and [rows] their lengths.

    is_owner, texts: [turns], whose turn it is and the number of its text; sizes: [rows], turns per row.

        turns     other "hi", owner "yo"
        pieces    () <user> hi | <end> <owner> yo | <end> <owner>     closing, opening, text; the reply comes next
    """
    # Roles alternate, so a row's layout follows from its number of turns and who speaks first. All rows of such a kind
    # are filled together, one turn at a time.
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
