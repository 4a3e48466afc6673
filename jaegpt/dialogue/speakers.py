"""Who spoke, in threads of more than two people: there each turn of the others begins with a short invented name.

All but the owner are one role to a chat template, so that without names three people read as one:

    turns     Bo: hey   Cy: who's in?   Ann: me   Bo: and me       Ann is the owner
    shown     "A: hey"  "B: who's in?"  "me"      "A: and me"
"""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Ints
from jaegpt.tables import column, thread_starts

Speakers = Literal["none", "groups"]  # `dataset.speakers`
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def speaker_name(place: int) -> str:
    """The name of the thread's speaker number `place`, from 0, by order of first speech: A, B, ..., Z, AA, AB, ..."""
    higher, letter = divmod(place, len(_LETTERS))
    return (speaker_name(higher - 1) if higher else "") + _LETTERS[letter]


def with_speakers(sessions: pa.Table, speakers: Speakers) -> pa.Table:
    """A part of `sessions` as the model is shown it; with `none`, and where no thread is a group, the same table.

    A group is a thread in which at least two people beside the owner speak. The name stands once before each turn of
    theirs, however many messages the turn holds, and means the same person all through the thread. It tells nothing of
    who that is. The owner's turns, which are learned, never get one.
    """
    if speakers == "none" or not len(sessions):
        return sessions
    others, place = _places(sessions)
    named = np.flatnonzero(place >= 0)
    if not len(named):
        return sessions
    names = pa.array([speaker_name(number) for number in range(int(place.max()) + 1)], pa.string())
    before = np.full(len(sessions), -1, np.int64)
    before[others[named]] = place[named]
    # A null, where no name stands before a turn, leaves its text as it is.
    shown = names.take(pa.array(before, mask=before < 0))
    texts = column(sessions, "text")
    texts = pc.coalesce(pc.binary_join_element_wise(shown, texts, ": "), texts)
    return sessions.set_column(sessions.schema.get_field_index("text"), sessions.schema.field("text"), texts)


def _places(sessions: pa.Table) -> tuple[Ints, Ints]:
    """Rows of the others' turns, and each one's speaker by order of first speech in the thread; -1 outside groups."""
    starts = thread_starts(column(sessions, "thread_id"))
    thread = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(sessions)))
    others = np.flatnonzero(~column(sessions, "is_owner").to_numpy(zero_copy_only=False))
    senders = column(sessions, "sender").take(pa.array(others)).dictionary_encode()
    codes = senders.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    # One number per (thread, sender), where each first stands, and its rank among its thread's by that.
    _, first, of_turn = np.unique(
        thread[others] * (len(senders.dictionary) + 1) + codes, return_index=True, return_inverse=True
    )
    by_time = np.argsort(first)
    of_thread = thread[others[first[by_time]]]
    sizes = np.bincount(of_thread, minlength=len(starts))
    rank = np.empty_like(by_time)
    rank[by_time] = np.arange(len(by_time)) - (np.cumsum(sizes) - sizes)[of_thread]
    return others, np.where(sizes[thread[others]] > 1, rank[of_turn], -1)
