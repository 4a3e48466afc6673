"""`jaegpt inspect`: what is in a download, for someone who has to decide what to do with it."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from jaegpt.exports.account import ExportReport
from jaegpt.exports.archives import printable
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import survey_export
from jaegpt.exports.suspects import pattern_of

NUM_SAMPLES = 20_000  # messages whose language is asked; they are spread evenly
NUM_SHOWN = 10
MIN_SHARE_SHOWN = 0.005

# What the reasons of `dropped` mean to a person.
_REASONS = {
    "app_share": "posted by a game or an app",
    "call": "calls",
    "double": "the same message twice",
    "empty": "no text (photos, stickers, files)",
    "game": "written by a game",
    "group": "about the group (joins, names, photos)",
    "listing": "about a Marketplace listing",
    "malformed": "damaged: no sender, time or text of the right type",
    "payment": "payments",
    "placeholder": "stand-ins for attachments",
    "plan": "plans and reminders",
    "poll": "polls",
    "privacy": "keys, encryption, messages that disappear, screenshots",
    "reaction": "reactions",
    "story": "mentions and replies to stories",
    "subscription": "joins and leaves of a group",
    "taken_down": "taken down by Meta",
    "thread": "about the chat (nicknames, themes, pins)",
    "unsent": "unsent or removed",
}


def inspect_export(paths: list[str], as_json: bool) -> str:
    """The report on a download as text for a terminal, or as one JSON object.

    Raises:
        JaegptError: there is nothing to report on.
    """
    config = ExportConfig(path=paths, owner="auto", exclude=[], on_error="skip", system_patterns=[], redact=False)
    report = survey_export(config, NUM_SAMPLES)
    languages = _languages(report.samples)
    if as_json:
        return json.dumps(_as_object(report, languages), ensure_ascii=False)
    return "\n".join(_as_lines(paths, report, languages))


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
        "files_skipped": report.skipped,
        "problems": report.problems,
    }


def _as_lines(paths: list[str], report: ExportReport, languages: dict[str, float]) -> Iterable[str]:
    yield printable(", ".join(paths))
    for era, count in report.eras.items():
        yield f"  format     {era}: {_count(count, 'file')}"
    yield f"  size       {report.num_bytes / 1e3:,.0f} kB of JSON"
    yield f"  threads    {report.threads:,}, of which {_count(report.groups, 'group')}"
    yield from _table({box: f"{count:,}" for box, count in report.boxes.items()})
    yield f"  messages   {report.messages_kept:,} kept of {report.messages_read:,} read"
    yield from _table({str(year): f"{count:,}" for year, count in report.years.items()})
    owner = report.owner
    if owner:
        yield f"  owner      {owner}, in {_count(owner.threads, 'thread')}"
        yield f"             {_count(report.owner_messages, 'message')} of theirs kept"
        if owner.runner_up:
            name, threads = owner.runner_up
            yield f"             next in line: {printable(name)}, in {_count(threads, 'thread')}"
    else:
        yield "  owner      not clear, see below"
    if languages:
        shown = {code: share for code, share in languages.items() if share >= MIN_SHARE_SHOWN}
        yield "  languages  " + ", ".join(f"{code} {share:.1%}" for code, share in shown.items())
    if report.dropped:
        yield f"  left out   {_count(sum(report.dropped.values()), 'message')}"
        rows = sorted(report.dropped.items(), key=lambda row: (-row[1], row[0]))
        yield from _table({_REASONS.get(reason, reason): f"{count:,}" for reason, count in rows})
    if report.suspects:
        yield "  suspects   lines that look automatic; put the items below those that are into export.system_patterns"
        for line, suspect in list(report.suspects.items())[:NUM_SHOWN]:
            yield f"             {line!r}: {suspect.count:,} times in {_count(suspect.threads, 'thread')}"
            yield "    - '" + pattern_of(line).replace("'", "''") + "'"
    yield f"  problems   {len(report.problems) or 'none'}"
    for problem in report.problems:
        yield f"             {problem}"


def _table(rows: dict[str, str]) -> Iterable[str]:
    """Names and numbers in two columns, under the text of the line above."""
    width = max(map(len, rows), default=0)
    digits = max(map(len, rows.values()), default=0)
    return [f"             {name:<{width}}  {number:>{digits}}" for name, number in rows.items()]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _languages(samples: list[str]) -> dict[str, float]:
    """Language -> its share of the messages long enough to be identified, the most frequent first."""
    from jaegpt.dialogue.identifier import UNKNOWN, identify, letters_only

    codes, _ = identify(letters_only(pa.array(samples, pa.string())))
    counted = Counter(code for code in codes.tolist() if code != UNKNOWN)
    return {code: round(count / counted.total(), 4) for code, count in counted.most_common()}
