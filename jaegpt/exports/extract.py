"""A download -> the table `messages`, and an account of everything that was read."""

import calendar
import difflib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jaegpt.errors import JaegptError
from jaegpt.exports.account import ExportReport, list_bad_files, make_report, refuse_nothing
from jaegpt.exports.archives import BadFileError, printable
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.discovery import Discovery, discover, nothing_found
from jaegpt.exports.downloads import groups, join_downloads
from jaegpt.exports.first_pass import Batch, BatchNote, batches, fault_of, read_batch
from jaegpt.exports.message_files import box_kind, thread_id
from jaegpt.exports.owner import Owner, owner_elsewhere
from jaegpt.exports.owner_sources import find_owners
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.profile import read_profiles
from jaegpt.exports.renames import find_renames
from jaegpt.exports.second_pass import PartJob, Piece, ThreadJob, group_into_parts, make_part
from jaegpt.exports.source_pass import SourceJob, read_source
from jaegpt.exports.stitching import stitch
from jaegpt.exports.system_lines import check_patterns
from jaegpt.exports.threads import Sender, Thread, collect, presence
from jaegpt.exports.zones import zone_name
from jaegpt.parallel import map_parts, one_pool
from jaegpt.tables import part_name


def read_export(config: ExportConfig, folder: str | Path) -> ExportReport:
    """Read all of `config.path` and write the parts of `messages` into the existing `folder`.

    Raises:
        JaegptError: nothing to read, bad files (with `on_error: stop`), no owner, or no message left.
    """
    folder = Path(folder)
    scratch = folder / ".scratch"
    scratch.mkdir()
    try:
        with one_pool():
            report = _read(config, folder, scratch, num_samples=0)
        if not report.owner:
            raise JaegptError(report.problems[-1])
        refuse_nothing(report, report.owner)
    except BaseException:
        for part in folder.glob("*.parquet"):
            part.unlink()
        raise
    finally:
        shutil.rmtree(scratch)
    return report


def survey_export(config: ExportConfig, num_samples: int) -> ExportReport:
    """The same report without leaving anything behind; an owner that is not clear is a problem there, not an error.

    Raises:
        JaegptError: nothing to read, or bad files (with `on_error: stop`).
    """
    # Files of other messengers may be larger than memory: their messages wait on disk, where only this user sees them.
    with one_pool(), tempfile.TemporaryDirectory(prefix="jaegpt-") as scratch:
        return _read(config, None, Path(scratch), num_samples)


def _jobs(found: Discovery, config: ExportConfig, folder: Path | None, scratch: Path) -> list[Batch | SourceJob]:
    """What the first pass has to do; without a `folder` for the table, small batches stay in memory."""
    # In the order of the table: a part then finds its threads side by side, in a batch or two.
    files = sorted(found.files, key=lambda file: thread_id(file.thread_key))
    patterns, redact = tuple(config.system_patterns), config.redact
    timezone = zone_name(config.timezone)
    return [
        *batches(files, scratch if folder else None, patterns, redact),
        *(
            SourceJob(file, str(scratch / f"source-{number}.arrow"), timezone, config.date_order, patterns, redact)
            for number, file in enumerate(found.sources)
        ),
    ]


def _first_pass(job: Batch | SourceJob) -> BatchNote:
    return read_batch(job) if isinstance(job, Batch) else read_source(job)


def _read(config: ExportConfig, folder: Path | None, scratch: Path, num_samples: int) -> ExportReport:
    check_patterns(config.system_patterns)
    found = discover(config.paths)
    strict = config.on_error == "stop"
    notes = map_parts(_first_pass, _jobs(found, config, folder, scratch), "reading")
    bad, faults = _bad_files(found, notes, config.paths), [fault for note in notes for fault in note.faults]
    if strict:  # otherwise their other messages are read
        bad = sorted([*bad, *faults], key=lambda problem: problem.path)
    if bad and strict:
        raise JaegptError(f"{list_bad_files(bad)}\nMend or remove them, or set export.on_error to skip.")
    threads = collect(notes)
    if not threads:
        nothing = "Nothing else is there." if bad and not found.html else nothing_found(config.paths, found)
        raise JaegptError(f"{list_bad_files(bad)}\n{nothing}" if bad else nothing)
    threads, notices = join_downloads(threads)
    notices += find_renames(threads)
    owner = _owner_or_notice(threads, config, found, notices)
    threads, not_joined = stitch(threads, owner.names if owner else ())
    if owner:
        owner = owner.counted(presence(threads))
        notices += owner_elsewhere([thread for thread in threads if thread.is_metas], owner)
    people = People(owner, _with_other_names(config.exclude, threads))
    left_out = _left_out(threads, config, people)
    parts = group_into_parts(_thread_jobs(threads, notes, people, left_out))
    samples, since_ms = -(-num_samples // max(1, len(parts))), _since(notes, config.newest_months)
    part_jobs = [
        PartJob(part, str(folder / part_name(index)) if folder else None, samples, since_ms)
        for index, part in enumerate(parts)
    ]
    written = map_parts(make_part, part_jobs, "sorting")
    lines = [*map(str, bad), *sorted(map(str, faults)), *found.notices, *not_joined, *_more_notices(found, notes)]
    problems = [printable(line) for line in (*lines, *notices)]
    return make_report(found, notes, threads, left_out, written, owner, bad, problems)


def _bad_files(found: Discovery, notes: Sequence[BatchNote], paths: Sequence[str]) -> list[BadFileError]:
    """All files that cannot be read.

    A doubtful one (it only has the name of an encrypted thread) is of messages where a neighbour shows to be, or at
    the top of a path that was given and holds nothing else.
    """
    bad = sorted((problem for note in notes for problem in note.problems), key=lambda problem: problem.path)
    others = {file.entry.path for file in found.sources}
    known = [note.file.entry.path for batch in notes for note in batch.files if not note.file.reader]
    known += [problem.path for problem in bad if problem.path not in others]
    places = {path.rpartition("/")[0] for path in known}
    given = {os.path.normpath(path) for path in paths}
    held = places | {path.rpartition("/")[0] for path in others}
    places |= {path for path in given if not any(f"{place}/".startswith(f"{path}/") for place in held)}
    doubtful = [file for batch in notes for file in batch.doubtful if file.number]
    judged = [fault_of(file) for file in doubtful if file.entry.folder in places]
    return [*found.problems, *bad, *(problem for problem in judged if problem)]


def _owner_or_notice(
    threads: Sequence[Thread], config: ExportConfig, found: Discovery, notices: list[str]
) -> Owner | None:
    try:
        owner, lines = find_owners(threads, config.owners, read_profiles(found.profiles))
    except JaegptError as error:
        notices.append(str(error))
        return None
    notices += lines
    if owner.others:
        notices.append(
            f"the profile also names {', '.join(owner.others)}, who takes part in a thread beside {owner.names[0]} and "
            "so is taken for somebody else; if both are you, set export.owner to the list of your names"
        )
    circles = [note.participants for thread in threads for note, _ in thread.pieces]
    return owner.with_former_names([thread.aliases for thread in threads], circles)


def _with_other_names(exclude: Sequence[str], threads: Sequence[Thread]) -> set[str]:
    """The entries of `export.exclude`, and the other names that their bearers have in any thread."""
    links = [link for thread in threads for link in thread.aliases.items() if NAMELESS not in link]
    found = set(exclude)
    for group in groups(links):
        if not group.isdisjoint(exclude):
            found |= group
    return found


@dataclass(frozen=True)
class People:
    """Who is who: the owner, where that is clear, and all names of those who are left out."""

    owner: Owner | None
    excluded: Collection[str]

    def owners_in(self, source: str) -> tuple[str, ...]:
        return self.owner.names_in(source) if self.owner else ()

    def senders(self, batch: BatchNote, source: str, aliases: Mapping[str, str]) -> tuple[Sender, ...]:
        """Who the sender numbers of a batch mean in threads of one messenger."""
        owners = self.owners_in(source)

        def sender(name: str) -> Sender:
            current = aliases.get(name, name)
            if self.owner and (name in owners or current in owners):
                return Sender(self.owner.names[0], is_owner=True)
            return Sender(current, is_excluded=name in self.excluded or current in self.excluded)

        return tuple(map(sender, batch.senders))


def _thread_jobs(
    threads: Sequence[Thread], notes: Sequence[BatchNote], people: People, left_out: Mapping[str, str]
) -> list[ThreadJob]:
    """The threads that are not left out, in the order of the table."""
    shared: dict[tuple[int, str], tuple[Sender, ...]] = {}  # most threads have no aliases: one tuple a batch does

    def senders(thread: Thread, batch: BatchNote) -> tuple[Sender, ...]:
        if thread.aliases:
            return people.senders(batch, thread.source, thread.aliases)
        key = (id(batch), thread.source)
        if key not in shared:
            shared[key] = people.senders(batch, thread.source, {})
        return shared[key]

    jobs = []
    for thread in threads:
        if thread.key in left_out:
            continue
        witnesses: dict[tuple[str, str], int] = {}
        pieces = tuple(
            Piece(
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
        is_group = thread.is_group(people.owners_in(thread.source))
        jobs.append(ThreadJob(thread.source, thread.thread_id, thread.box, is_group, pieces))
    return sorted(jobs, key=lambda job: job.thread_id)


def _left_out(threads: Sequence[Thread], config: ExportConfig, people: People) -> dict[str, str]:
    """Key -> reason of the threads that are left out whole."""
    found = {thread.key: "box" for thread in threads if box_kind(thread.box) not in config.boxes}
    return found | dict.fromkeys(_excluded_threads(threads, config.exclude, people), "excluded")


def _since(notes: Sequence[BatchNote], months: int | None) -> int | None:
    """The moment so many months before the newest message, ms since 1970: 31 May, 3 months -> 28 February."""
    if months is None:
        return None
    newest = datetime.fromtimestamp(max(note.newest_ms for note in notes) / 1000, UTC)
    year, month = divmod(newest.year * 12 + newest.month - 1 - months, 12)
    if year < 1:
        return None
    day = min(newest.day, calendar.monthrange(year, month + 1)[1])
    return round(newest.replace(year=year, month=month + 1, day=day).timestamp() * 1000)


def _excluded_threads(threads: Sequence[Thread], exclude: Sequence[str], people: People) -> set[str]:
    """Keys of the threads that are left out whole: named by title or folder, or with an excluded contact alone.

    Raises:
        JaegptError: an entry means nobody here (a slip of the pen would let through what must stay out), or the owner.
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
        or (not thread.is_group(people.owners_in(thread.source)) and (thread.people | thread.aliases.keys()) & names)
    }


def _more_notices(found: Discovery, notes: Sequence[BatchNote]) -> list[str]:
    """What the readers have to say, and what none of them reads."""
    lines = [line for note in notes for line in note.said]
    strangers = sorted(path for note in notes for path in note.strangers)
    if strangers:
        lines.append(
            f"files of a kind that holds messages, without those of any messenger that is read ({len(strangers):,}, "
            f"the first is {strangers[0]})"
        )
    if found.html:
        lines.append(
            f"HTML copies of messages are not read ({len(found.html):,}); ask for JSON if threads are missing."
        )
    return lines
