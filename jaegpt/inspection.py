"""`jaegpt inspect`: what is in a download, for someone who has to decide what to do with it."""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from jaegpt.dialogue.cuts import CutCounts, advice, cost_in_words, usual_and_advised
from jaegpt.exports.account import ExportReport, SourceReport
from jaegpt.exports.archives import printable
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import survey_export
from jaegpt.exports.suspects import pattern_of

NUM_SAMPLES = 20_000  # messages whose language is asked; they are spread evenly
NUM_SHOWN = 10
MIN_SHARE_SHOWN = 0.005

WIDTH = 100
_INDENT = " " * 13

# What the reasons of `dropped` mean to a person.
REASONS = {
    "app": "of apps inside the messenger",
    "app_share": "posted by a game or an app",
    "auto_reply": "automatic replies",
    "bot": "written by bots",
    "box": "in boxes that export.boxes leaves out",
    "call": "calls",
    "channel": "posts of channels",
    "command": "commands to bots",
    "contact": "contact cards",
    "deleted": "deleted",
    "double": "the same message twice",
    "draft": "drafts that were not sent",
    "edited_away": "older versions of edited messages",
    "empty": "no text (photos, stickers, files)",
    "excluded": "of people or threads in export.exclude",
    "forwarded": "forwarded from somebody else",
    "game": "written by a game",
    "group": "about the group (joins, names, photos)",
    "listing": "about a Marketplace listing",
    "location": "locations",
    "malformed": "damaged: no sender, time or text of the right type",
    "media": "photos, voice and files without words",
    "notes": "notes to yourself",
    "payment": "payments",
    "placeholder": "stand-ins for attachments",
    "plan": "plans and reminders",
    "poll": "polls",
    "privacy": "keys, encryption, messages that disappear, screenshots",
    "quoted": "quotes alone",
    "reaction": "reactions",
    "repeated": "replies in a thread that were also sent to the channel",
    "service": "lines of the service",
    "short_code": "from companies and codes",
    "spam": "spam",
    "sticker": "stickers",
    "story": "mentions and replies to stories",
    "subscription": "joins and leaves of a group",
    "system": "lines of the messenger itself",
    "system_pattern": "lines like export.system_patterns",
    "taken_down": "taken down by Meta",
    "thread": "about the chat (nicknames, themes, pins)",
    "too_old": "older than export.newest_months",
    "undecryptable": "could not be decrypted there",
    "unsent": "unsent or removed",
    "view_once": "to be seen once",
    "waiting": "not arrived when the export was made",
}


def inspect_export(paths: list[str], as_json: bool) -> str:
    """The report on a download as text for a terminal, or as one JSON object.

    Raises:
        JaegptError: there is nothing to report on.
    """
    config = ExportConfig(
        path=paths,
        owner="auto",
        exclude=[],
        on_error="skip",
        system_patterns=[],
        redact=False,
        timezone=None,
        date_order="auto",
        newest_months=None,
        boxes=["inbox", "archived", "requests"],
    )
    report = survey_export(config, NUM_SAMPLES, measure=usual_and_advised)
    languages = languages_of(report.samples)
    cuts = [CutCounts.total(parts) for parts in zip(*report.measured, strict=True)] if report.owner else []
    if as_json:
        return json.dumps(
            {**_as_object(report, languages), "advice": advice(*cuts) if cuts else None}, ensure_ascii=False
        )
    return "\n".join(_as_lines(paths, report, languages, cost_in_words(*cuts) if cuts else ""))


def _as_object(report: ExportReport, languages: dict[str, float]) -> dict[str, Any]:
    owner = report.owner
    return {
        "format": "+".join(report.formats),
        "eras": report.eras,
        "files": report.files,
        "bytes": report.num_bytes,
        "threads": report.threads,
        "groups": report.groups,
        "boxes": report.boxes,
        "messages_read": report.messages_read,
        "messages_kept": report.messages_kept,
        "owner": owner.names[0] if owner else None,
        "owner_names": list(owner.names) if owner else [],
        "owner_found_by": owner.how if owner else None,
        "owner_threads": owner.threads if owner else 0,
        "owner_messages": report.owner_messages,
        "runner_up": {"name": owner.runner_up[0], "threads": owner.runner_up[1]} if owner and owner.runner_up else None,
        "years": {str(year): count for year, count in report.years.items()},
        "languages": languages,
        "dropped": report.dropped,
        "suspects": [
            {"line": line, "messages": suspect.count, "threads": suspect.threads, "pattern": pattern_of(line)}
            for line, suspect in report.suspects.items()
        ],
        "sources": {name: asdict(source) for name, source in report.sources.items()},
        "files_skipped": report.skipped,
        "files_ignored": report.ignored,
        "problems": report.problems,
    }


def _as_lines(paths: list[str], report: ExportReport, languages: dict[str, float], cost: str) -> Iterable[str]:
    yield printable(", ".join(paths))
    for era, count in report.eras.items():
        yield f"  format     {era}: {counted(count, 'file')}"
    yield f"  size       {report.num_bytes / 1e3:,.0f} kB in {counted(report.files, 'file')}"
    yield f"  threads    {report.threads:,}, of which {counted(report.groups, 'group')}"
    yield from _table({box: f"{count:,}" for box, count in report.boxes.items()})
    yield f"  messages   {report.messages_kept:,} kept of {report.messages_read:,} read"
    yield from _table({str(year): f"{count:,}" for year, count in report.years.items()})
    owner = report.owner
    if owner:
        yield from _wrapped(f"  owner      {owner}, in {counted(owner.threads, 'thread')}")
        yield f"             {counted(report.owner_messages, 'message')} of theirs kept"
        if owner.runner_up:
            name, threads = owner.runner_up
            yield f"             next in line: {printable(name)}, in {counted(threads, 'thread')}"
    else:
        yield "  owner      not clear, see below"
    if languages:
        shown = {code: share for code, share in languages.items() if share >= MIN_SHARE_SHOWN}
        yield "  languages  " + ", ".join(f"{code} {share:.1%}" for code, share in shown.items())
    if cost:
        yield from _wrapped(f"  sessions   {cost}")
    if report.dropped:
        yield f"  left out   {counted(sum(report.dropped.values()), 'message')}"
        rows = sorted(report.dropped.items(), key=lambda row: (-row[1], row[0]))
        yield from _table({REASONS.get(reason, reason): f"{count:,}" for reason, count in rows})
    for name, source in report.sources.items():
        yield from _source_lines(name, source)
    if report.suspects:
        yield "  suspects   lines that look automatic; put the items below those that are into export.system_patterns"
        for line, suspect in list(report.suspects.items())[:NUM_SHOWN]:
            yield f"             {line!r}: {suspect.count:,} times in {counted(suspect.threads, 'thread')}"
            yield "    - '" + pattern_of(line).replace("'", "''") + "'"
    if report.ignored:
        counts = ", ".join(f"{counted(count, 'file')} .{suffix}" for suffix, count in report.ignored.items())
        yield from _wrapped(f"  ignored    {counts}, in which no messages were found")
    yield f"  problems   {len(report.problems) or 'none'}"
    for problem in report.problems:
        yield f"             {problem}"


def _source_lines(name: str, source: SourceReport) -> Iterable[str]:
    """What there is of one messenger, and how to make such an export (again)."""
    title = f"  {name:<10} "
    kept = f"{source.messages_kept:,} of {counted(source.messages_read, 'message')} kept"
    yield f"{title}{counted(source.threads, 'thread')}, {kept}{years_in_words(source)}"
    formats = ", ".join(f"{format_name} ({counted(count, 'file')})" for format_name, count in source.formats.items())
    owner = " / ".join(map(printable, source.owner_names)) or "not clear here"
    lines = [f"read as: {formats}, {source.certainty:.0%} sure"]
    lines.append(f"owner: {owner}, {counted(source.owner_messages, 'message')} of theirs kept")
    if source.dropped:
        lines.append(left_out_in_words(source.dropped))
    if source.problems:
        lines.append(f"problems: {len(source.problems):,} of those below")
    lines.append(f"to export again: {source.how}")
    for line in lines:
        yield from _wrapped(f"{_INDENT}{line}")


def years_in_words(source: SourceReport) -> str:
    """The years of a messenger's messages, to go behind something: ", 2019 to 2024"."""
    years = list(source.years)
    return "" if not years else f", {years[0]}" if len(years) == 1 else f", {years[0]} to {years[-1]}"


def left_out_in_words(dropped: Mapping[str, int]) -> str:
    """What is not used of a messenger, by reason, the most frequent first."""
    rows = sorted(dropped.items(), key=lambda row: (-row[1], row[0]))
    return "left out: " + ", ".join(f"{REASONS.get(reason, reason)} ({count:,})" for reason, count in rows)


def _wrapped(line: str) -> list[str]:
    return wrapped(line, indent=f"{_INDENT}  ")


def wrapped(text: str, indent: str) -> list[str]:
    """The text in lines of WIDTH columns at most, later ones indented; a command between backticks stays in one."""
    whole = re.sub("`[^`]+`", lambda command: command[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def _table(rows: dict[str, str]) -> Iterable[str]:
    """Names and numbers in two columns, under the text of the line above."""
    width = max(map(len, rows), default=0)
    digits = max(map(len, rows.values()), default=0)
    return [f"{_INDENT}{name:<{width}}  {number:>{digits}}" for name, number in rows.items()]


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 -> "1 file", 2000 -> "2,000 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def languages_of(samples: list[str]) -> dict[str, float]:
    """Language -> its share of the messages long enough to be identified, the most frequent first."""
    from jaegpt.dialogue.identifier import UNKNOWN, identify, letters_only

    codes, _ = identify(letters_only(pa.array(samples, pa.string())))
    counted = Counter(code for code in codes.tolist() if code != UNKNOWN)
    return {code: round(count / counted.total(), 4) for code, count in counted.most_common()}
