"""The account of a reading: what there was, what became of it, and what the user should know."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import BadFileError, printable
from jaegpt.exports.discovery import Discovery
from jaegpt.exports.first_pass import BatchNote, FileNote
from jaegpt.exports.message_files import SOURCES, MessageFile
from jaegpt.exports.owner import Owner
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.registry import reader_named
from jaegpt.exports.second_pass import PartNote
from jaegpt.exports.suspects import Suspect, merge_suspects
from jaegpt.exports.threads import Thread, presence

Key = TypeVar("Key", str, int)

MOST_PEOPLE = 20  # that a report lists

_METAS_HOW = (
    "Accounts Centre > Your information and permissions > Export your information: messages, all time, format JSON; "
    "end-to-end-encrypted chats: messenger.com > Privacy and safety > End-to-end encrypted chats > Message storage > "
    "Download secure storage data."
)


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What was read of one messenger: messages_read = messages_kept + sum(dropped).

    Attributes:
        formats: files by the name of their reader, or by the years of Meta's layout.
        certainty: how sure the least certain guess was that a file is of this messenger, 0 to 1.
        owner_names: the owner's names that occur in it.
        years: kept messages by year.
        problems: lines about its files.
        how: how a person makes such an export.
    """

    formats: dict[str, int]
    certainty: float
    threads: int
    messages_read: int
    messages_kept: int
    owner_names: list[str]
    owner_messages: int
    dropped: dict[str, int]
    years: dict[int, int]
    problems: list[str]
    how: str


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was read, and what became of it: messages_read = messages_kept + sum(dropped).

    Attributes:
        formats: files by format (messenger, instagram, encrypted).
        eras: files by the years of their layout.
        boxes: threads by box.
        owner: None when it is not clear (read_export raises then).
        years: kept messages by year.
        skipped: bad files by reason, with `on_error: skip`.
        ignored: files by suffix that were looked at and hold no messages that are read: settings, posts, lists.
        problems: what the user should know, one line each.
        suspects: lines that look automatic though no rule knows them.
        samples: some kept messages, evenly spaced, when asked for.
        sources: the same by messenger.
        measured: what was measured beside, part by part.
        people: those in most threads, with their numbers of threads; to choose the owner from.
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
    ignored: dict[str, int]
    problems: list[str]
    suspects: dict[str, Suspect] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    sources: dict[str, SourceReport] = field(default_factory=dict)
    measured: list[Any] = field(default_factory=list)
    people: dict[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, Any]:
        """metrics/extract.json. It is in Git, so it holds numbers only: no name and no message."""
        return {
            "files": self.files,
            "threads": self.threads,
            "groups": self.groups,
            "messages_read": self.messages_read,
            "messages_kept": self.messages_kept,
            "owner_messages": self.owner_messages,
            "dropped": self.dropped,
            "files_skipped": self.skipped,
            "files_ignored": self.ignored,
            "redacted": self.redacted,
            "suspects": len(self.suspects),
            "sources": self._counts_of_sources(),
        }

    def _counts_of_sources(self) -> dict[str, dict[str, Any]]:
        """By messenger: messages read and kept, and those dropped by reason.

        What a file calls its source itself may be anybody's name, and counts as other.
        """
        counted: dict[str, Counter[str]] = {}
        dropped: dict[str, Counter[str]] = {}
        for name, source in self.sources.items():
            known = name if name in SOURCES else "other"
            counted.setdefault(known, Counter()).update(read=source.messages_read, kept=source.messages_kept)
            dropped.setdefault(known, Counter()).update(source.dropped)
        return {name: {**counted[name], "dropped": dict(sorted(dropped[name].items()))} for name in sorted(counted)}


def make_report(
    found: Discovery,
    notes: Sequence[BatchNote],
    threads: Sequence[Thread],
    left_out: Mapping[str, str],
    written: Sequence[PartNote],
    owner: Owner | None,
    bad: Sequence[BadFileError],
    problems: list[str],
) -> ExportReport:
    """The report on batches, the threads they make, why some are left out whole, and the parts of the rest."""
    threads_of_files = [note for batch in notes for note in batch.files]
    # A file of before 2021 may hold many threads, and is one file.
    files = list({note.file.entry: note.file for note in threads_of_files}.values())
    by_source = sum((note.dropped for note in notes), Counter[tuple[str, str]]())
    by_source += sum((part.dropped for part in written), Counter[tuple[str, str]]())
    for thread in threads:
        if thread.key in left_out:
            for note, _ in thread.pieces:
                by_source[note.file.source, left_out[thread.key]] += note.rows
    dropped = _over_sources(by_source)
    years = sum((part.years for part in written), Counter[tuple[str, int]]())
    report = ExportReport(
        formats=_sorted(Counter(_platform(file) for file in files)),
        eras=_sorted(Counter(file.era for file in files)),
        files=len(files),
        num_bytes=sum(file.entry.size for file in files),
        threads=len(threads),
        groups=sum(thread.is_group(owner.names_in(thread.pool) if owner else ()) for thread in threads),
        boxes=dict(Counter(thread.box for thread in threads).most_common()),
        messages_read=sum(note.read for note in threads_of_files),
        messages_kept=sum(part.kept.total() for part in written),
        owner=owner,
        owner_messages=sum(part.owner.total() for part in written),
        dropped=_sorted(+dropped),
        redacted=sum(note.redacted for note in notes),
        years=_sorted(_over_sources(years)),
        skipped=_sorted(Counter(problem.reason for problem in bad)),
        ignored=_ignored(found, {file.entry.path for file in files} | {problem.path for problem in bad}),
        problems=problems,
        suspects=merge_suspects([part.suspects for part in written]),
        samples=[text for part in written for text in part.samples],
        sources=_source_reports(found, threads_of_files, threads, by_source, written, owner, problems),
        measured=[part.measured for part in written],
        people=_most_present(threads),
    )
    assert report.messages_read == report.messages_kept + sum(dropped.values()), report
    return report


def _most_present(threads: Sequence[Thread]) -> dict[str, int]:
    ranked = sorted(presence(threads).items(), key=lambda row: (-row[1], row[0]))
    return dict([row for row in ranked if row[0] != NAMELESS][:MOST_PEOPLE])


def _source_reports(
    found: Discovery,
    notes: Sequence[FileNote],
    threads: Sequence[Thread],
    dropped: Counter[tuple[str, str]],
    written: Sequence[PartNote],
    owner: Owner | None,
    problems: Sequence[str],
) -> dict[str, SourceReport]:
    """The account by messenger, the one with most threads first."""
    certainty = {file.entry.path: file.certainty for file in found.sources}
    years = sum((part.years for part in written), Counter[tuple[str, int]]())
    reports = {}
    of_threads = [{note.file.source for note, _ in thread.pieces} for thread in threads]
    for source, num_threads in Counter(chain.from_iterable(of_threads)).most_common():
        files = {note.file.entry.path: note.file for note in notes if note.file.source == source}
        people = {
            name for thread, of in zip(threads, of_threads, strict=True) if source in of for name in thread.people
        }
        pools = [(source, is_marked) for is_marked in (True, False)] if owner else []
        names = [name for pool in pools if owner for name in owner.names_in(pool)]
        reports[source] = SourceReport(
            formats=_sorted(Counter(file.era for file in files.values())),
            certainty=min(certainty.get(path, 1.0) for path in files),
            threads=num_threads,
            messages_read=sum(note.read for note in notes if note.file.source == source),
            messages_kept=sum(part.kept[source] for part in written),
            owner_names=[name for name in dict.fromkeys(names) if name in people],
            owner_messages=sum(part.owner[source] for part in written),
            dropped=_sorted(_of(source, dropped)),
            years=_sorted(_of(source, years)),
            problems=_problems_of(source, files, problems),
            how=" ".join(dict.fromkeys(_how(file) for file in files.values())),
        )
    return reports


def _problems_of(source: str, paths: Collection[str], problems: Sequence[str]) -> list[str]:
    """The lines that open with the path of a file of this messenger, or speak of it by name."""
    shown = {printable(path) for path in paths}
    return [line for line in problems if line.startswith(f"in {source} ") or line.split(": ", 1)[0] in shown]


def _ignored(found: Discovery, read: Collection[str]) -> dict[str, int]:
    return _sorted(Counter(path.rpartition(".")[2].lower() for path in found.looked_at.difference(read)))


def _how(file: MessageFile) -> str:
    return reader_named(file.reader).how if file.reader else _METAS_HOW


def refuse_nothing(report: ExportReport, owner: Owner) -> None:
    """A table from which nothing can be learnt is not written.

    Raises:
        JaegptError: no message is left, or none of the owner's.
    """
    counts = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items()) or "there were none"
    if report.messages_kept == 0:
        raise JaegptError(
            f"export.path: of {report.messages_read:,} messages none is left ({counts}). "
            "Check export.exclude, export.boxes, export.newest_months, export.system_patterns, and that the download "
            "covers all time."
        )
    if report.owner_messages == 0:
        names = printable(" / ".join(owner.names))
        others = f" Next in line: {printable(owner.runner_up[0])}." if owner.runner_up else ""
        raise JaegptError(
            f"export.owner: {names} wrote none of the {report.messages_kept:,} messages kept, "
            f"so there is nothing to learn. Set export.owner to the name that wrote.{others}"
        )


def list_bad_files(bad: Sequence[BadFileError]) -> str:
    """A line for each, under a line that says how many."""
    lines = "".join(f"\n  {problem}" for problem in bad)
    plural = "1 file" if len(bad) == 1 else f"{len(bad):,} files"
    return f"export.path: {plural} cannot be read:{lines}"


def _platform(file: MessageFile) -> str:
    return "instagram" if file.format == "conversations" else file.format


def _of(source: str, counts: Counter[tuple[str, Key]]) -> Counter[Key]:
    return Counter({key: count for (of, key), count in counts.items() if of == source})


def _over_sources(counts: Counter[tuple[str, Key]]) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for (_, key), count in counts.items():
        total[key] += count
    return total


def _sorted(counts: Counter[Key]) -> dict[Key, int]:
    return dict(sorted(counts.items()))
