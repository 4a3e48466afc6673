"""Who is who, and what is left out by wish: people and threads of `export.exclude`, boxes, and what is too old."""

import calendar
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jaegpt.errors import JaegptError
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.downloads import groups
from jaegpt.exports.first_pass import BatchNote
from jaegpt.exports.message_files import box_kind
from jaegpt.exports.owner import Owner
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.second_pass import Piece, ThreadJob
from jaegpt.exports.threads import Pool, Sender, Thread, presence


@dataclass(frozen=True)
class People:
    """Who is who: the owner, where that is clear, and all names of those who are left out."""

    owner: Owner | None
    excluded: Collection[str]

    def owners_in(self, pool: Pool) -> tuple[str, ...]:
        return self.owner.names_in(pool) if self.owner else ()

    def senders(self, batch: BatchNote, pool: Pool, aliases: Mapping[str, str]) -> tuple[Sender, ...]:
        """Who the sender numbers of a batch mean in threads of one pool."""
        owners = self.owners_in(pool)

        def sender(name: str) -> Sender:
            current = aliases.get(name, name)
            if self.owner and (name in owners or current in owners):
                return Sender(self.owner.names[0], is_owner=True)
            return Sender(current, is_excluded=name in self.excluded or current in self.excluded)

        return tuple(map(sender, batch.senders))


def thread_jobs(threads: Sequence[Thread], people: People, left_out: Mapping[str, str]) -> list[ThreadJob]:
    """The threads that are not left out, in the order of the table."""
    shared: dict[
        tuple[int, Pool], tuple[Sender, ...]
    ] = {}  # most threads have no aliases: one tuple per batch serves them

    def senders(thread: Thread, batch: BatchNote) -> tuple[Sender, ...]:
        if thread.aliases:
            return people.senders(batch, thread.pool, thread.aliases)
        key = (id(batch), thread.pool)
        if key not in shared:
            shared[key] = people.senders(batch, thread.pool, {})
        return shared[key]

    jobs = []
    for thread in threads:
        if thread.key in left_out:
            continue
        witnesses: dict[str, int] = {}
        pieces = tuple(
            Piece(
                note.file.source,
                batch.messages,
                note.start,
                note.rows,
                note.resolution_ms,
                senders(thread, batch),
                witnesses.setdefault(note.file.witness, len(witnesses)),
                bool(note.file.reader) or note.resolution_ms > 1,
            )
            for note, batch in thread.pieces
        )
        is_group = thread.is_group(people.owners_in(thread.pool))
        jobs.append(ThreadJob(thread.thread_id, thread.box, is_group, pieces))
    return sorted(jobs, key=lambda job: job.thread_id)


def with_other_names(exclude: Sequence[str], threads: Sequence[Thread]) -> set[str]:
    """The entries of `export.exclude`, and the other names that their bearers have in any thread."""
    links = [link for thread in threads for link in thread.aliases.items() if NAMELESS not in link]
    found = set(exclude)
    for group in groups(links):
        if not group.isdisjoint(exclude):
            found |= group
    return found


def left_out_threads(threads: Sequence[Thread], config: ExportConfig, people: People) -> dict[str, str]:
    """Key -> reason of the threads that are left out whole."""
    found = {thread.key: "box" for thread in threads if box_kind(thread.box) not in config.boxes}
    return found | dict.fromkeys(_excluded(threads, config.exclude, people), "excluded")


def begin_of(notes: Sequence[BatchNote], months: int | None) -> int | None:
    """The moment so many months before the newest message, ms since 1970: 31 May, 3 months -> 28 February."""
    if months is None:
        return None
    newest = datetime.fromtimestamp(max(note.newest_ms for note in notes) / 1000, UTC)
    year, month = divmod(newest.year * 12 + newest.month - 1 - months, 12)
    if year < 1:
        return None
    day = min(newest.day, calendar.monthrange(year, month + 1)[1])
    return round(newest.replace(year=year, month=month + 1, day=day).timestamp() * 1000)


def _excluded(threads: Sequence[Thread], exclude: Sequence[str], people: People) -> set[str]:
    """Keys of the threads that are left out whole: named by title or folder, or with an excluded contact alone.

    Raises:
        JaegptError: an entry means nobody here (a typing error would let through what must stay out), or the owner.
    """
    titles = {
        thread.key: {text for note, _ in thread.pieces for text in (note.title, note.file.thread)} for thread in threads
    }
    known = set(presence(threads)).union(*titles.values(), *(thread.aliases for thread in threads))
    for entry in exclude:
        if people.owner and entry in people.owner.names:
            raise JaegptError(
                f"export.exclude: {entry!r} is the owner, without whom nothing is left. Remove the entry."
            )
        if entry not in known:
            near = difflib.get_close_matches(entry, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Write the name as the messenger shows it."
            raise JaegptError(f"export.exclude: no contact and no thread is called {entry!r}. {hint}")
    names = set(people.excluded)
    return {
        thread.key
        for thread in threads
        if titles[thread.key] & names
        or (not thread.is_group(people.owners_in(thread.pool)) and (thread.people | thread.aliases.keys()) & names)
    }
