"""Threads as readers collect them: message by message or in columns, faults counted, handed over in pieces."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, cast

from jaegpt.exports.reader import SourceThread

PIECE_MESSAGES = 65_536  # of a thread, at which a piece of it is handed over, so that memory stays bounded
BLOCK_MESSAGES = 65_536  # of all threads of a file, read between one handing over of their pieces and the next


def add_columns(
    thread: SourceThread,
    senders: Iterable[str | None],
    sent_at: Iterable[int | None],
    texts: Sequence[str],
    reasons: Mapping[int, str | None],
) -> None:
    """Add messages by columns, but for those left out: `reasons` has these by their places, None for no message at all.

    Only what is left out may lack its sender or time.
    """
    thread.dropped.update(reason for reason in reasons.values() if reason)
    is_kept = bytearray(b"\1") * len(texts)
    for place in reasons:
        is_kept[place] = 0
    thread.senders.extend(cast("Iterator[str]", compress(senders, is_kept)))
    thread.sent_at.extend(cast("Iterator[int]", compress(sent_at, is_kept)))
    thread.texts.extend(compress(texts, is_kept))


def malformed(thread: SourceThread, where: str, what: object) -> None:
    """Count a message that cannot be understood, and remember the first."""
    thread.dropped["malformed"] += 1
    thread.fault = thread.fault or f"{where}: {what}"


def settle(thread: SourceThread, where: str, number: int, judge: Callable[..., str | None], *arguments: Any) -> None:
    """Have `judge` add a message or say why not; count it under that reason, or as malformed where it raises.

    Args:
        where: the list in which the message stands, at `number`.
    """
    try:
        reason = judge(*arguments)
    except (ValueError, OverflowError) as fault:
        malformed(thread, f"{where}[{number}]", fault)
    else:
        if reason:
            thread.dropped[reason] += 1


class Pieces(dict[str, SourceThread]):
    """Key -> the thread's piece that is being collected; `begin` makes the first and each further one.

    For files in which the messages of a thread lie scattered among those of others.
    """

    def __init__(self, begin: Callable[[str], SourceThread]) -> None:
        super().__init__()
        self._begin = begin

    def __missing__(self, key: str) -> SourceThread:
        thread = self[key] = self._begin(key)
        return thread

    def take(self) -> Iterator[SourceThread]:
        """Hand over all pieces, each in the order of its times, and begin again."""
        for thread in self.values():
            _sort(thread)
            if thread.sent_at and all(time % 1000 == 0 for time in thread.sent_at):
                thread.resolution_ms = 1000
            yield thread
        self.clear()


def _sort(thread: SourceThread) -> None:
    times = thread.sent_at
    rows = range(len(times))
    # Newest first, as some programs write: turned round, messages of one moment are in the order of their writing.
    step = -1 if times and times[0] > times[-1] else 1
    order = sorted(rows[::step], key=times.__getitem__)  # stable
    if order != list(rows):
        thread.senders = [thread.senders[row] for row in order]
        thread.texts = [thread.texts[row] for row in order]
        thread.sent_at = [times[row] for row in order]
