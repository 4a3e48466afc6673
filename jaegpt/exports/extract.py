"""A download -> the table `messages`, and an account of everything that was read."""

import difflib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from jaegpt.errors import JaegptError
from jaegpt.exports.account import ExportReport, list_bad_files, make_report, refuse_nothing
from jaegpt.exports.archives import BadFileError, printable
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.discovery import Discovery, discover, nothing_found, thread_id
from jaegpt.exports.downloads import groups, join_downloads
from jaegpt.exports.first_pass import BatchNote, batches, fault_of, read_batch
from jaegpt.exports.owner import Owner, find_owner, owner_elsewhere
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.profile import read_profiles
from jaegpt.exports.renames import find_renames
from jaegpt.exports.second_pass import PartJob, Piece, ThreadJob, group_into_parts, make_part
from jaegpt.exports.stitching import stitch
from jaegpt.exports.system_lines import check_patterns
from jaegpt.exports.threads import Sender, Thread, collect, presence
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
    """The same report without writing anything; an owner that cannot be told is a problem there, not an error.

    Raises:
        JaegptError: nothing to read, or bad files (with `on_error: stop`).
    """
    with one_pool():
        return _read(config, None, None, num_samples)


def _read(config: ExportConfig, folder: Path | None, scratch: Path | None, num_samples: int) -> ExportReport:
    check_patterns(config.system_patterns)
    found = discover(config.paths)
    strict = config.on_error == "stop"
    # In the order of the table: a part then finds its threads side by side, in a batch or two.
    files = sorted(found.files, key=lambda file: thread_id(file.thread_key))
    jobs = batches(files, scratch, config.system_patterns, config.redact)
    notes = map_parts(read_batch, jobs, "reading")
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
    names = owner.names if owner else ()
    threads, not_joined = stitch(threads, names)
    if owner:
        owner = owner.counted(presence(threads))
        notices += owner_elsewhere(threads, owner)
    exclude = _with_other_names(config.exclude, threads)
    excluded = _excluded_threads(threads, config.exclude, exclude, names)
    senders = {id(batch): _senders(batch, names, exclude, {}) for batch in notes}
    threads_kept = [_thread_job(thread, names, exclude, senders) for thread in threads if thread.key not in excluded]
    threads_kept.sort(key=lambda thread: thread.thread_id)
    parts = group_into_parts(threads_kept)
    part_jobs = [
        PartJob(part, str(folder / part_name(index)) if folder else None, -(-num_samples // len(parts)))
        for index, part in enumerate(parts)
    ]
    written = map_parts(make_part, part_jobs, "sorting")
    lines = [*map(str, bad), *sorted(map(str, faults)), *found.notices, *not_joined, *_html_notice(found), *notices]
    problems = [printable(line) for line in lines]
    return make_report(notes, threads, excluded, written, owner, bad, problems)


def _bad_files(found: Discovery, notes: Sequence[BatchNote], paths: Sequence[str]) -> list[BadFileError]:
    """All files that cannot be read.

    A doubtful one (it only has the name of an encrypted thread) is of messages where a neighbour shows to be, or at
    the top of a path that was given and holds nothing else.
    """
    bad = sorted((problem for note in notes for problem in note.problems), key=lambda problem: problem.path)
    known = [*(note.file.entry.path for batch in notes for note in batch.files), *(problem.path for problem in bad)]
    places = {path.rpartition("/")[0] for path in known}
    given = {os.path.normpath(path) for path in paths}
    places |= {path for path in given if not any(f"{place}/".startswith(f"{path}/") for place in places)}
    doubtful = [file for batch in notes for file in batch.doubtful if file.number]
    judged = [fault_of(file) for file in doubtful if file.entry.folder in places]
    return [*found.problems, *bad, *(problem for problem in judged if problem)]


def _owner_or_notice(
    threads: Sequence[Thread], config: ExportConfig, found: Discovery, notices: list[str]
) -> Owner | None:
    circles = [note.participants for thread in threads for note, _ in thread.pieces]
    try:
        owner = find_owner(presence(threads), config.owners, read_profiles(found.profiles), circles)
    except JaegptError as error:
        notices.append(str(error))
        return None
    if owner.others:
        notices.append(
            f"the profile also names {', '.join(owner.others)}, who takes part in a thread beside {owner.names[0]} and "
            "so is taken for somebody else; if both are you, set export.owner to the list of your names"
        )
    return owner.with_former_names([thread.aliases for thread in threads], circles)


def _with_other_names(exclude: Sequence[str], threads: Sequence[Thread]) -> set[str]:
    """The entries of `export.exclude`, and the other names that their bearers have in any thread."""
    links = [link for thread in threads for link in thread.aliases.items() if NAMELESS not in link]
    found = set(exclude)
    for group in groups(links):
        if not group.isdisjoint(exclude):
            found |= group
    return found


def _senders(
    batch: BatchNote, owners: Sequence[str], exclude: Collection[str], aliases: Mapping[str, str]
) -> tuple[Sender, ...]:
    """Who the sender numbers of a batch mean, now that the owner is known; an excluded contact is so by all names."""

    def sender(name: str) -> Sender:
        current = aliases.get(name, name)
        if name in owners or current in owners:
            return Sender(owners[0], is_owner=True)
        return Sender(current, is_excluded=name in exclude or current in exclude)

    return tuple(map(sender, batch.senders))


def _thread_job(
    thread: Thread, owners: Sequence[str], exclude: Collection[str], senders: Mapping[int, tuple[Sender, ...]]
) -> ThreadJob:
    witnesses: dict[tuple[str, str], int] = {}
    pieces = tuple(
        Piece(
            batch.messages,
            note.start,
            note.rows,
            note.in_seconds,
            _senders(batch, owners, exclude, thread.aliases) if thread.aliases else senders[id(batch)],
            witnesses.setdefault(note.file.witness, len(witnesses)),
        )
        for note, batch in thread.pieces
    )
    return ThreadJob(thread.thread_id, thread.box, thread.is_group(owners), pieces)


def _excluded_threads(
    threads: Sequence[Thread], exclude: Sequence[str], left_out: Collection[str], owners: Sequence[str]
) -> set[str]:
    """Keys of the threads that are left out whole: named by title or folder, or with an excluded contact alone.

    Raises:
        JaegptError: an entry means nobody here (a slip of the pen would let through what must stay out), or the owner.
    """
    titles = {
        thread.key: {text for note, _ in thread.pieces for text in (note.title, note.file.thread)} for thread in threads
    }
    known = set(presence(threads)).union(*titles.values(), *(thread.aliases for thread in threads))
    for entry in exclude:
        if entry in owners:
            raise JaegptError(
                f"export.exclude: {entry!r} is the owner, without whom nothing is left. Remove the entry."
            )
        if entry not in known:
            near = difflib.get_close_matches(entry, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Write the name as Messenger shows it."
            raise JaegptError(f"export.exclude: no contact and no thread is called {entry!r}. {hint}")
    left_out = set(left_out)
    return {
        thread.key
        for thread in threads
        if titles[thread.key] & left_out
        or (not thread.is_group(owners) and (thread.people | thread.aliases.keys()) & left_out)
    }


def _html_notice(found: Discovery) -> list[str]:
    if not found.html:
        return []
    return [f"HTML copies of messages are not read ({len(found.html):,}); ask for JSON if threads are missing."]
