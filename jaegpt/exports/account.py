"""The account of a reading: what there was, what became of it, and what the user should know."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import BadFileError, printable
from jaegpt.exports.discovery import MessageFile
from jaegpt.exports.first_pass import BatchNote
from jaegpt.exports.owner import Owner
from jaegpt.exports.second_pass import PartNote
from jaegpt.exports.suspects import Suspect, merge_suspects
from jaegpt.exports.threads import Thread

Key = TypeVar("Key", str, int)


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


def make_report(
    notes: Sequence[BatchNote],
    threads: Sequence[Thread],
    excluded: set[str],
    written: Sequence[PartNote],
    owner: Owner | None,
    bad: Sequence[BadFileError],
    problems: list[str],
) -> ExportReport:
    """The report on batches, the threads they make, the keys of those left out whole, and the parts of the rest."""
    threads_of_files = [note for batch in notes for note in batch.files]
    # A file of before 2021 may hold many threads, and is one file.
    files = list({note.file.entry: note.file for note in threads_of_files}.values())
    dropped = sum((note.dropped for note in notes), Counter[str]())
    dropped += sum((part.dropped for part in written), Counter[str]())
    dropped["excluded"] += sum(thread.num_rows for thread in threads if thread.key in excluded)
    report = ExportReport(
        formats=_sorted(Counter(_platform(file) for file in files)),
        eras=_sorted(Counter(file.era for file in files)),
        files=len(files),
        num_bytes=sum(file.entry.size for file in files),
        threads=len(threads),
        groups=sum(thread.is_group(owner.names if owner else ()) for thread in threads),
        boxes=dict(Counter(thread.box for thread in threads).most_common()),
        messages_read=sum(note.read for note in threads_of_files),
        messages_kept=sum(part.kept for part in written),
        owner=owner,
        owner_messages=sum(part.owner for part in written),
        dropped=_sorted(+dropped),
        redacted=sum(note.redacted for note in notes),
        years=_sorted(sum((part.years for part in written), Counter[int]())),
        skipped=_sorted(Counter(problem.reason for problem in bad)),
        problems=problems,
        suspects=merge_suspects([part.suspects for part in written]),
        samples=[text for part in written for text in part.samples],
    )
    assert report.messages_read == report.messages_kept + sum(dropped.values()), report
    return report


def refuse_nothing(report: ExportReport, owner: Owner) -> None:
    """A table from which nothing can be learnt is not written.

    Raises:
        JaegptError: no message is left, or none of the owner's.
    """
    counts = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items()) or "there were none"
    if report.messages_kept == 0:
        raise JaegptError(
            f"export.path: of {report.messages_read:,} messages none is left ({counts}). "
            "Check export.exclude, export.system_patterns, and that the download covers all time."
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


def _sorted(counts: Counter[Key]) -> dict[Key, int]:
    return dict(sorted(counts.items()))
