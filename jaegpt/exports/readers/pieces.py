"""Threads whose messages lie scattered over a file: collected for a while, then handed over in pieces."""

from collections.abc import Callable, Iterator

from jaegpt.exports.reader import SourceThread

BLOCK_MESSAGES = 65_536  # read between one handing over and the next


class Pieces(dict[str, SourceThread]):
    """Key -> the thread's piece that is being collected; `begin` makes the first and each further one."""

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
