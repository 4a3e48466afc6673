"""A download -> the table `messages`, and an account of everything that was read."""

import difflib
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaegpt.errors import JaegptError
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.discovery import Discovery, discover, nothing_found, thread_id
from jaegpt.exports.owner import Owner, find_owner, profile_names
from jaegpt.exports.parts import PartJob, PartNote, Piece, Sender, ThreadJob, group_into_parts, make_part
from jaegpt.exports.reading import BatchNote, batches, read_batch
from jaegpt.exports.sources import BadFileError
from jaegpt.exports.suspects import Suspect, merge_suspects
from jaegpt.exports.system_lines import check_patterns
from jaegpt.exports.threads import Thread, collect, presence, stitch
from jaegpt.parallel import map_parts, one_pool
from jaegpt.tables import part_name


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was read, and what became of it: messages_read = messages_kept + sum(dropped).

    Attributes:
        formats: files by format (messenger, instagram, encrypted).
        eras: files by the years of their layout.
        boxes: threads by box.
        owner: None when it cannot be told (read_export raises then).
        years: kept messages by year.
        skipped: bad files by reason, with `on_error: skip`.
        problems: what the user should know, a line each.
        suspects: lines that look automatic though no rule knows them.
        samples: some kept messages, evenly spaced, when asked for.
    """

    formats: dict[str, int]
    eras: dict[str, int]
    files: int
    num_bytes: int
    threads: int
    groups: int
    boxes: dict[str, int]
    messages_read: int
    messages_kept: int
    owner: Owner | None
    owner_messages: int
    dropped: dict[str, int]
    redacted: int
    years: dict[int, int]
    skipped: dict[str, int]
    problems: list[str]
    suspects: dict[str, Suspect] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


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
        _refuse_nothing(report, report.owner)
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
    jobs = batches(files, scratch, strict, config.system_patterns, config.redact)
    notes = map_parts(read_batch, jobs, "reading")
    bad = [*found.problems, *sorted((bad for note in notes for bad in note.problems), key=lambda bad: bad.path)]
    if bad and strict:
        raise JaegptError(f"{_list_bad_files(bad)}\nMend or remove them, or set export.on_error to skip.")
    threads = collect(notes)
    if not threads:
        raise JaegptError(
            f"{_list_bad_files(bad)}\nNothing else is there." if bad else nothing_found(config.paths, found)
        )
    notices: list[str] = []
    owner = _owner_or_notice(threads, config, found, notices)
    names = owner.names if owner else ()
    threads, ambiguous = stitch(threads, names)
    excluded = _excluded_threads(threads, config.exclude, names)
    senders = {id(batch): _senders(batch, names, config.exclude) for batch in notes}
    threads_kept = [_thread_job(thread, names, senders) for thread in threads if thread.key not in excluded]
    threads_kept.sort(key=lambda thread: thread.thread_id)
    parts = group_into_parts(threads_kept)
    part_jobs = [
        PartJob(part, str(folder / part_name(index)) if folder else None, -(-num_samples // len(parts)))
        for index, part in enumerate(parts)
    ]
    written = map_parts(make_part, part_jobs, "sorting")
    dropped = _dropped(notes, threads, excluded, written)
    problems = [*map(str, bad), *ambiguous, *_html_notice(found), *notices]
    return _report(notes, threads, written, owner, dropped, bad, problems)


def _owner_or_notice(
    threads: Sequence[Thread], config: ExportConfig, found: Discovery, notices: list[str]
) -> Owner | None:
    try:
        return find_owner(presence(threads), config.owners, profile_names(found.profiles))
    except JaegptError as error:
        notices.append(str(error))
        return None


def _senders(batch: BatchNote, owners: Sequence[str], exclude: Sequence[str]) -> tuple[Sender, ...]:
    """Who the sender numbers of a batch mean, now that the owner is known."""
    owner = [Sender(owners[0], is_owner=True)] if owners else []
    return tuple(owner[0] if name in owners else Sender(name, is_excluded=name in exclude) for name in batch.senders)


def _thread_job(thread: Thread, owners: Sequence[str], senders: Mapping[int, tuple[Sender, ...]]) -> ThreadJob:
    pieces = tuple(Piece(batch.messages, note.start, note.rows, senders[id(batch)]) for note, batch in thread.pieces)
    return ThreadJob(thread.thread_id, thread.box, thread.is_group(owners), pieces)


def _excluded_threads(threads: Sequence[Thread], exclude: Sequence[str], owners: Sequence[str]) -> set[str]:
    """Keys of the threads that are left out whole: named by title or folder, or with an excluded contact alone.

    Raises:
        JaegptError: an entry means nobody here (a slip of the pen would let through what must stay out), or the owner.
    """
    titles = {
        thread.key: {text for note, _ in thread.pieces for text in (note.title, note.file.thread)} for thread in threads
    }
    known = set(presence(threads)).union(*titles.values())
    for entry in exclude:
        if entry in owners:
            raise JaegptError(
                f"export.exclude: {entry!r} is the owner, without whom nothing is left. Remove the entry."
            )
        if entry not in known:
            near = difflib.get_close_matches(entry, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Write the name as Messenger shows it."
            raise JaegptError(f"export.exclude: no contact and no thread is called {entry!r}. {hint}")
    return {
        thread.key
        for thread in threads
        if titles[thread.key] & set(exclude) or (not thread.is_group(owners) and thread.people & set(exclude))
    }


def _dropped(
    notes: Iterable[BatchNote], threads: Iterable[Thread], excluded: set[str], written: Iterable[PartNote]
) -> Counter[str]:
    dropped: Counter[str] = Counter()
    for note in notes:
        dropped += note.dropped
    dropped["excluded"] = sum(thread.num_rows for thread in threads if thread.key in excluded)
    for part in written:
        dropped += part.dropped
    return +dropped


def _report(
    notes: Sequence[BatchNote],
    threads: Sequence[Thread],
    written: Sequence[PartNote],
    owner: Owner | None,
    dropped: Counter[str],
    bad: Sequence[BadFileError],
    problems: list[str],
) -> ExportReport:
    files = [note for batch in notes for note in batch.files]
    report = ExportReport(
        formats=dict(sorted(Counter(note.file.format for note in files).items())),
        eras=dict(sorted(Counter(note.file.era for note in files).items())),
        files=len(files),
        num_bytes=sum(note.file.entry.size for note in files),
        threads=len(threads),
        groups=sum(thread.is_group(owner.names if owner else ()) for thread in threads),
        boxes=dict(Counter(thread.box for thread in threads).most_common()),
        messages_read=sum(note.read for note in files),
        messages_kept=sum(part.kept for part in written),
        owner=owner,
        owner_messages=sum(part.owner for part in written),
        dropped=dict(sorted(dropped.items())),
        redacted=sum(note.redacted for note in notes),
        years=dict(sorted(sum((part.years for part in written), Counter[int]()).items())),
        skipped=dict(sorted(Counter(problem.reason for problem in bad).items())),
        problems=problems,
        suspects=merge_suspects([part.suspects for part in written]),
        samples=[text for part in written for text in part.samples],
    )
    assert report.messages_read == report.messages_kept + sum(dropped.values()), report
    return report


def _refuse_nothing(report: ExportReport, owner: Owner) -> None:
    counts = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items()) or "there were none"
    if report.messages_kept == 0:
        raise JaegptError(
            f"export.path: of {report.messages_read:,} messages none is left ({counts}). "
            "Check export.exclude, export.system_patterns, and that the download covers all time."
        )
    if report.owner_messages == 0:
        others = f" Next in line: {owner.runner_up[0]}." if owner.runner_up else ""
        raise JaegptError(
            f"export.owner: {' / '.join(owner.names)} wrote none of the {report.messages_kept:,} messages kept, "
            f"so there is nothing to learn. Set export.owner to the name that wrote.{others}"
        )


def _list_bad_files(bad: Sequence[BadFileError]) -> str:
    lines = "".join(f"\n  {problem}" for problem in bad)
    plural = "1 file" if len(bad) == 1 else f"{len(bad):,} files"
    return f"export.path: {plural} cannot be read:{lines}"


def _html_notice(found: Discovery) -> list[str]:
    if not found.html:
        return []
    return [f"HTML copies of messages are not read ({len(found.html):,}); ask for JSON if threads are missing."]
