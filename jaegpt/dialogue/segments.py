"""Whole sessions -> token ids and labels: what `dataset.learn: sessions` teaches the language modelling loss.

A segment is a session as the chat template writes it, or a window of one that is longer than a block. Each of the
owner's turns of the training side is labelled in exactly one segment, its text and the tokens that end it; everyone
else's turns, and those labelled in an earlier window, are context. Up to the end of a labelled turn a segment is byte
for byte what the chat asks the model with, followed by the reply.

    session   Bo: hey   Ann: hi   Bo: when?   Ann: soon   Bo: ok         Ann is the owner
    segment   <user> hey <end> <assistant> hi <end> <user> when? <end> <assistant> soon <end>
    labelled                               1  1                                    1    1
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaegpt.arrays import Bools, Ints, Ints32
from jaegpt.dialogue.encode_table import candidates, encoder_of, histories, joined_turns
from jaegpt.dialogue.encoding import Encoder, Ids, Layout
from jaegpt.dialogue.examples import DatasetConfig, turn_names
from jaegpt.dialogue.pieces import Pieces, lists, numbered
from jaegpt.dialogue.repeats import learned_turns
from jaegpt.dialogue.sessions import session_begins
from jaegpt.dialogue.speakers import with_speakers
from jaegpt.tables import SCHEMAS, column


@dataclass(frozen=True)
class SegmentCounts:
    """Of a part, or of all: segments, their tokens, the owner's turns labelled in them, and those that fit no block."""

    segments: int
    tokens: int
    labelled_turns: int
    longer_than_block: int

    @classmethod
    def total(cls, parts: Iterable["SegmentCounts"]) -> "SegmentCounts":
        """The counts of all parts as one."""
        rows = list(parts)
        return cls(*(sum(getattr(row, field.name) for row in rows) for field in fields(cls)))


@dataclass(frozen=True)
class _Windows:
    """Segments as ranges of turns: [segments] the first and last turn of each, and the first that may be labelled."""

    first: Ints
    last: Ints
    learned_from: Ints

    @classmethod
    def of(cls, rows: list[tuple[int, int, int]]) -> "_Windows":
        first, last, learned_from = np.array(rows, np.int64).reshape(-1, 3).T
        return cls(first, last, learned_from)


class _Form:
    """How the template writes a conversation of `longest` turns, by who begins it (0: someone else, 1: the owner).

    Attributes:
        usable: [2] whether each reply in it is written as chat would ask for it. Some templates show a finished reply
            in another way than one to come, or refuse a conversation that the assistant begins.
        first_words: whether the owner's first words are, too.
        before: [2][longest] (closing, opening) of each turn's text; an opening of the owner's is without what begins a
            reply, which is learned.
        spaced: [2, longest] whether a text has a space before it.
        around: [2, longest] tokens of the closing and the opening together.
    """

    def __init__(self, encoder: Encoder, longest: int, num_history: int) -> None:
        layouts = [encoder.layout(_speakers(first, longest)) for first in (False, True)]
        refused = [layout.skipped > 0 for layout in layouts]
        self.usable = [
            not refused[first] and _continues(encoder, layouts[first], bool(first), longest, num_history)
            for first in (0, 1)
        ]
        self.first_words = self.usable[1] and _written_alike(encoder, layouts[1], encoder.layout(()), 0)
        reply = len(encoder.reply_opening)
        self.before: list[list[tuple[Ids, Ids]]] = [[], []]
        for first, layout in enumerate(layouts):
            for place, (closing, opening) in enumerate(layout.before):
                is_owner = (place + first) % 2 == 1
                self.before[first].append((closing, opening[: len(opening) - reply * is_owner]))
        shown = [layout if not skipped else layouts[0] for layout, skipped in zip(layouts, refused, strict=True)]
        self.spaced = np.array([layout.spaced[:longest] for layout in shown], bool)
        lengths = [[len(closing) + len(opening) for closing, opening in layout.before] for layout in shown]
        self.around = np.array(lengths, np.int64)


def _speakers(owner_first: bool, count: int) -> tuple[bool, ...]:
    return tuple((place + owner_first) % 2 == 1 for place in range(count))


def _continues(encoder: Encoder, whole: Layout, owner_first: bool, longest: int, num_history: int) -> bool:
    """Whether the replies of `whole` are written as chat writes a history and the reply to it.

    Chat shows at most `num_history` turns, so longer histories cannot differ.
    """
    lengths = [place for place in range(1, min(longest, num_history + 1)) if (place + owner_first) % 2 == 1]
    return all(
        _written_alike(encoder, whole, encoder.layout(_speakers(owner_first, place)), place) for place in lengths
    )


def _written_alike(encoder: Encoder, whole: Layout, history: Layout, place: int) -> bool:
    """Whether turn `place` of `whole` is written as the reply after `history`, up to the token that ends it."""
    asked = sum((*history.after, encoder.reply_opening), ())
    ends = place + 1 == len(whole.before) or whole.before[place + 1][0] == encoder.end_of_turn
    return (
        not history.skipped
        and whole.before[:place] == history.before
        and whole.spaced[:place] == history.spaced
        and sum(whole.before[place], ()) == asked
        and whole.spaced[place] == encoder.reply_spaced
        and ends
    )


@dataclass
class _Turns:
    """The turns to make segments of, neighbours of one role joined, and the texts as pieces. Arrays are [turns].

    Attributes:
        is_owner: whose turn.
        learned: whether the turn is to be labelled.
        texts: the number of its text among `pieces`.
        session: its session's number.
        place: in its session.
        heads: its first row in the table.
    """

    encoder: Encoder
    pieces: Pieces
    is_owner: Bools
    learned: Bools
    texts: Ints
    session: Ints
    place: Ints
    heads: Ints

    @classmethod
    def of(cls, sessions: pa.Table, learned: Bools, encoder: Encoder) -> "_Turns":
        """Of the sessions that hold a learned turn; the others are not read."""
        number = np.cumsum(session_begins(sessions)) - 1
        used = np.bincount(number, weights=learned, minlength=1)[number] > 0 if len(number) else learned
        rows = np.flatnonzero(used)
        turns = sessions.take(rows)
        begins = np.flatnonzero(np.diff(number[rows], prepend=-1))
        values = pa.StructArray.from_arrays(
            [column(turns, "is_owner"), column(turns, "text")], names=["is_owner", "text"]
        )
        offsets = pa.array(np.append(begins, len(rows)), pa.int32())
        is_owner, texts, session, heads = joined_turns(pa.ListArray.from_arrays(offsets, values), encoder.joint)
        pieces, numbers = numbered(texts, encoder)
        first = np.searchsorted(session, session)  # [turns] the first turn of the session
        of_turn = np.minimum.reduceat(learned[rows], heads) if len(heads) else learned[rows]
        place = np.arange(len(heads)) - first
        return cls(encoder, pieces, is_owner, of_turn, numbers, session, place, rows[heads])

    def lengths(self, spaced: Bools) -> tuple[Ints, Ints]:
        """Tokens of each text, as it is and with a space before it, which is encoded only where it is used."""
        with_space = self.pieces.spaced(self.texts) if spaced.any() else self.texts
        return self.pieces.lengths[self.texts], self.pieces.lengths[with_space]


def encode_segments(
    sessions: pa.Table, learned: Bools, encoder: Encoder, num_history: int, block_size: int
) -> tuple[pa.Table, SegmentCounts]:
    """A part of `sessions` -> a part of `segments`, in the order of their first labelled turns.

    Args:
        learned: [turns] the owner's turns to label.
        num_history: most turns of context that a window begins with where it is not the session's beginning.
    """
    turns = _Turns.of(sessions, learned, encoder)
    longest = max(2, min(int(turns.place.max(initial=0)) + 1, block_size))
    form = _Form(encoder, longest, num_history)
    windows, alone, num_long = _cut(turns, form, num_history, block_size)
    ids, labelled, lengths = _window_tokens(turns, form, windows)
    more_ids, more_labelled, more_lengths, kept = _alone_tokens(turns, alone, num_history, block_size)
    num_long += len(alone) - len(kept)
    first_learned = np.concatenate([windows.learned_from, kept])
    order = np.argsort(first_learned, kind="stable")
    both = np.concatenate([lengths, more_lengths])
    columns = {
        "segment_id": turn_names(sessions, turns.heads[first_learned]),
        "split": pa.array(["train"] * len(first_learned), pa.string()),
        "ids": lists(both, pa.array(np.concatenate([ids, more_ids]), pa.int32())),
        "labelled": lists(both, pa.array(np.concatenate([labelled, more_labelled]), pa.int8())),
    }
    table = pa.table(columns, schema=SCHEMAS["segments"]).take(order)
    return table, SegmentCounts(len(table), int(both.sum()), int(turns.learned.sum()) - num_long, num_long)


def _cut(turns: _Turns, form: _Form, num_history: int, block_size: int) -> tuple[_Windows, Ints, int]:
    """Windows; the turns that are written alone, after their history, because the template asks for it; and how many
    turns fit no window.
    """
    lengths = turns.lengths(form.spaced)
    whole, session_first, rest = _whole_sessions(turns, form, lengths, num_history, block_size)
    rows, alone, num_long = [], [], 0
    ends = np.append(session_first[1:], len(turns.session)) if len(session_first) else session_first
    for number in rest.tolist():
        session = range(int(session_first[number]), int(ends[number]))
        for window in _windows(turns, form, lengths, session, num_history, block_size):
            if window is None:
                num_long += 1
            elif window[0] < 0:
                alone.append(window[1])
            else:
                rows.append(window)
    more = _Windows.of(rows)
    joined = [np.concatenate([getattr(whole, name), getattr(more, name)]) for name in ("first", "last", "learned_from")]
    return _Windows(*joined), np.array(alone, np.int64), num_long


def _whole_sessions(
    turns: _Turns, form: _Form, lengths: tuple[Ints, Ints], num_history: int, block_size: int
) -> tuple[_Windows, Ints, Ints]:
    """The sessions that fit one window; [sessions] the first turn of each; and the numbers of the other sessions."""
    first = np.flatnonzero(turns.place == 0)
    learned = np.flatnonzero(turns.learned)
    if not len(learned):
        return _Windows.of([]), first, np.zeros(0, np.int64)
    of_session = turns.session[learned]
    begins = np.flatnonzero(np.diff(of_session, prepend=-1))
    first_learned = learned[begins]
    last = learned[np.append(begins[1:], len(learned)) - 1]
    kind = turns.is_owner[first].astype(np.int64)
    # [turns] tokens up to each turn's end, from the beginning of its session
    place = np.minimum(turns.place, form.around.shape[1] - 1)
    of_turn = kind[turns.session]
    plain, spaced = lengths
    tokens = form.around[of_turn, place] + np.where(form.spaced[of_turn, place], spaced, plain)
    until = np.concatenate([[0], np.cumsum(tokens)])
    width = until[last + 1] - until[first] + len(turns.encoder.end_of_turn)
    usable = np.array(form.usable)[kind] & ((first_learned > first) | (kind == 0) | form.first_words)
    fits = usable & (width <= block_size) & (turns.place[last] < form.around.shape[1])
    fits &= first_learned - first <= num_history
    return _Windows(first[fits], last[fits], first_learned[fits]), first, np.flatnonzero(~fits)


def _windows(
    turns: _Turns, form: _Form, lengths: tuple[Ints, Ints], session: range, num_history: int, block_size: int
) -> Iterator[tuple[int, int, int] | None]:
    """The windows of a session's turns, as (first turn, last turn, first that may be labelled).

    (-1, turn, turn): a turn to be written alone; None: a turn that fits no block with the one before it.

    Args:
        lengths: tokens of the texts, as they are and with a space before each.
    """
    first = session.start
    todo = [turn for turn in session if turns.learned[turn]]
    while todo:
        reply = todo[0]
        if not form.usable[0] or (reply == first and not form.first_words):
            yield -1, reply, reply
            todo = todo[1:]
            continue
        for start in range(max(first, reply - num_history), max(reply, first + 1)):
            if turns.is_owner[start] and not form.usable[1]:
                continue
            until = _until(turns, form, lengths, start, session.stop) + len(turns.encoder.end_of_turn)
            fitting = [turn for turn in todo if turn - start < len(until) and until[turn - start] <= block_size]
            if fitting:
                yield start, fitting[-1], reply
                todo = todo[len(fitting) :]
                break
        else:
            yield None
            todo = todo[1:]


def _until(turns: _Turns, form: _Form, lengths: tuple[Ints, Ints], start: int, end: int) -> Ints:
    """Tokens of a window from turn `start` on, up to the end of each of its turns; `lengths`: of the texts."""
    plain, spaced = lengths
    count = min(end - start, form.around.shape[1])
    first = int(turns.is_owner[start])
    here = slice(start, start + count)
    return np.cumsum(form.around[first, :count] + np.where(form.spaced[first, :count], spaced[here], plain[here]))


def _window_tokens(turns: _Turns, form: _Form, windows: _Windows) -> tuple[Ints32, npt.NDArray[np.int8], Ints]:
    """Ids and labels of all windows end to end, and [windows] their lengths."""
    pieces, encoder = turns.pieces, turns.encoder
    sizes = windows.last - windows.first + 1
    window = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(window)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn = windows.first[window] + place
    first = turns.is_owner[windows.first].astype(np.int64)[window]
    learned = turns.learned[turn] & (turn >= windows.learned_from[window])

    longest = form.around.shape[1]
    around = np.full((2, longest, 2), pieces.number(()), np.int64)  # numbers of the closing and the opening
    for kind, before in enumerate(form.before):
        for number, pair in enumerate(before[:longest]):
            around[kind, number] = [pieces.number(ids) for ids in pair]
    texts = turns.texts[turn]
    spaced = form.spaced[first, place]
    if spaced.any():
        texts = np.where(spaced, pieces.spaced(texts), texts)
    opening = np.where(turns.is_owner[turn], pieces.number(encoder.reply_opening), pieces.number(()))
    numbers = np.column_stack([around[first, place], opening, texts])  # [turns, 4]
    labelled = np.zeros(numbers.shape, np.int8)
    labelled[:, 2] = labelled[:, 3] = learned
    labelled[1:, 0] = learned[:-1] & (place[1:] > 0)  # what ends a turn stands before the next one
    after = 4 * np.cumsum(sizes)
    flat = np.insert(numbers.ravel(), after, pieces.number(encoder.end_of_turn))
    ids, taken = pieces.gather(flat)
    marks = np.repeat(np.insert(labelled.ravel(), after, 1), taken)
    begins = np.cumsum(4 * sizes + 1) - (4 * sizes + 1)
    return ids, marks, np.add.reduceat(taken, begins) if len(begins) else sizes


def _alone_tokens(
    turns: _Turns, alone: Ints, num_history: int, block_size: int
) -> tuple[Ints32, npt.NDArray[np.int8], Ints, Ints]:
    """Turns written as examples are: history, then reply. Ids, labels, lengths, and the turns that fit a block.

    Where a history is too long it loses its oldest turns, down to the one before the reply.
    """
    replies, reply_lengths = candidates(turns.encoder, turns.pieces, turns.texts[alone])
    sizes = np.minimum(turns.place[alone], num_history)
    while True:
        ends = np.cumsum(sizes)
        shown = np.repeat(alone - ends, sizes) + np.arange(int(sizes.sum()))
        ids, _, lengths = histories(
            turns.encoder, turns.pieces, turns.is_owner[shown], turns.texts[shown], sizes.astype(np.int64)
        )
        shorter = (lengths + reply_lengths > block_size) & (sizes > 1)
        if not shorter.any():
            break
        sizes = sizes - shorter
    fits = lengths + reply_lengths <= block_size
    number = np.arange(len(alone))
    # Each history goes before its reply: 0 for the first history, 1 for the first reply, 2 for the second history ...
    piece = np.concatenate([np.repeat(2 * number, lengths), np.repeat(2 * number + 1, reply_lengths)])
    both = np.concatenate([ids, replies])[np.argsort(piece, kind="stable")]
    labelled = (np.sort(piece) % 2).astype(np.int8)
    keep = np.repeat(fits, lengths + reply_lengths)
    return both[keep], labelled[keep], (lengths + reply_lengths)[fits], alone[fits]


def encode_sessions_part(
    sessions: pa.Table,
    config: DatasetConfig,
    seed: int,
    limits: dict[int, int],
    base: Path,
    digest: str,
    joint: str,
    block_size: int,
) -> tuple[pa.Table, SegmentCounts]:
    """The segments of a part of `sessions`; arguments as `encode_part`'s and `learned_turns`'s."""
    learned = learned_turns(sessions, config, seed, limits)
    shown = with_speakers(sessions, config.speakers)
    return encode_segments(shown, learned, encoder_of(base, digest, joint), config.num_history, block_size)
