"""A download -> the table `messages`, and an account of everything that was read."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaegpt.errors import JaegptError
from jaegpt.exports.account import ExportReport, list_bad_files, make_report, refuse_nothing
from jaegpt.exports.archives import BadFileError, printable
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.discovery import Discovery, discover, nothing_found
from jaegpt.exports.downloads import join_downloads
from jaegpt.exports.first_pass import BATCH_BYTES, BatchNote, MetaJob, fault_of, meta_jobs, read_batch
from jaegpt.exports.message_files import thread_id
from jaegpt.exports.owner import Owner, owner_elsewhere
from jaegpt.exports.owner_sources import find_owners
from jaegpt.exports.profile import read_profiles
from jaegpt.exports.renames import find_renames
from jaegpt.exports.second_pass import PartJob, group_into_parts, make_part
from jaegpt.exports.selection import People, begin_of, left_out_threads, thread_jobs, with_other_names
from jaegpt.exports.source_pass import SourceJob, read_sources
from jaegpt.exports.stitching import stitch
from jaegpt.exports.system_lines import check_patterns
from jaegpt.exports.threads import Thread, collect, presence
from jaegpt.exports.zones import zone_name
from jaegpt.parallel import in_batches, map_parts, one_pool
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


def survey_export(
    config: ExportConfig, num_samples: int, measure: Callable[[pa.Table], Any] | None = None
) -> ExportReport:
    """The same report without leaving anything behind; an owner that is not clear is a problem there, not an error.

    Args:
        num_samples: texts that the report holds, about.
        measure: what else to find out about each part of `messages`; the report holds what it returned.

    Raises:
        JaegptError: nothing to read, or bad files (with `on_error: stop`).
    """
    # Files of other messengers may be larger than memory: their messages wait on disk, where only this user sees them.
    with one_pool(), tempfile.TemporaryDirectory(prefix="jaegpt-") as scratch:
        return _read(config, None, Path(scratch), num_samples, measure)


def _jobs(found: Discovery, config: ExportConfig, folder: Path | None, scratch: Path) -> list[MetaJob | SourceJob]:
    """What the first pass has to do; without a `folder` for the table, small batches stay in memory."""
    # In the order of the table: a part then finds its threads side by side, in a batch or two.
    metas = sorted(found.files, key=lambda file: thread_id(file.thread_key))
    patterns, texts = tuple(config.system_patterns), (config.redact, config.reactions)
    timezone = zone_name(config.timezone)
    # Together, because Slack has a file per channel and day.
    batches = in_batches(found.sources, lambda file: file.entry.size, BATCH_BYTES)
    return [
        *meta_jobs(metas, scratch if folder else None, patterns, *texts),
        *(
            SourceJob(files, str(scratch / f"source-{number}.arrow"), timezone, config.date_order, patterns, *texts)
            for number, files in enumerate(batches)
        ),
    ]


def _first_pass(job: MetaJob | SourceJob) -> BatchNote:
    return read_batch(job) if isinstance(job, MetaJob) else read_sources(job)


def _read(
    config: ExportConfig,
    folder: Path | None,
    scratch: Path,
    num_samples: int,
    measure: Callable[[pa.Table], Any] | None = None,
) -> ExportReport:
    check_patterns(config.system_patterns)
    found = discover(config.paths)
    strict = config.on_error == "stop"
    notes = map_parts(_first_pass, _jobs(found, config, folder, scratch), "reading")
    found.notices += _said(notes)
    read = {note.file.entry.path for batch in notes for note in batch.files}
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
    people = People(owner, with_other_names(config.exclude, threads))
    left_out = left_out_threads(threads, config, people)
    parts = group_into_parts(thread_jobs(threads, people, left_out))
    samples, since_ms = -(-num_samples // max(1, len(parts))), begin_of(notes, config.newest_months)
    part_jobs = [
        PartJob(part, str(folder / part_name(index)) if folder else None, samples, since_ms, measure)
        for index, part in enumerate(parts)
    ]
    written = map_parts(make_part, part_jobs, "sorting")
    refused = {problem.path for problem in (*bad, *faults)}
    lines = [
        *map(str, bad),
        *sorted(map(str, faults)),
        *found.notices,
        *not_joined,
        *_html_notice(found),
        *found.suspects_but(read | refused),
    ]
    problems = [printable(line) for line in (*lines, *notices)]
    return make_report(found, notes, threads, left_out, written, owner, bad, problems)


def _bad_files(found: Discovery, notes: Sequence[BatchNote], paths: Sequence[str]) -> list[BadFileError]:
    """All files that cannot be read.

    A file that only looks like an encrypted thread by its name counts as bad if another file in its folder really is
    one, or if it lies directly in a given path in which nothing else can be read.
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


def _said(notes: Sequence[BatchNote]) -> list[str]:
    """The readers' remarks, in one line where many files have the same; and the databases that no reader knows."""
    files: dict[str, list[str]] = {}
    for note in notes:
        for path, line in note.said:
            files.setdefault(line, []).append(path)
        for path in note.strangers:
            files.setdefault("a database, but of no messenger that is read here", []).append(path)
    return [
        f"{paths[0]}: {line}" if len(paths) == 1 else f"{line} ({len(paths):,} files, the first is {min(paths)})"
        for line, paths in files.items()
    ]


def _html_notice(found: Discovery) -> list[str]:
    if not found.html:
        return []
    return [f"HTML copies of messages are not read ({len(found.html):,}); ask for JSON if threads are missing."]
