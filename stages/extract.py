"""A chat export -> the table of messages: `python -m stages.extract`."""

from collections import Counter
from typing import Any

from jaegpt.errors import run
from jaegpt.exports.account import ExportReport
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import read_export
from jaegpt.exports.message_files import SOURCES
from jaegpt.exports.owner_sources import METAS
from jaegpt.exports.tracking import refuse_tracked
from jaegpt.exports.zones import zone_name
from jaegpt.files import write_json, writing_folder
from jaegpt.params import Params
from jaegpt.training.progress import followed


def _by_source(report: ExportReport) -> dict[str, dict[str, Any]]:
    """By messenger: messages read and kept, and those dropped by reason.

    What a file calls its source itself may be anybody's name, and counts as other.
    """
    counted: dict[str, Counter[str]] = {}
    dropped: dict[str, Counter[str]] = {}
    for name, source in report.sources.items():
        known = name if name in SOURCES else "other"
        counted.setdefault(known, Counter()).update(read=source.messages_read, kept=source.messages_kept)
        dropped.setdefault(known, Counter()).update(source.dropped)
    return {name: {**counted[name], "dropped": dict(sorted(dropped[name].items()))} for name in sorted(counted)}


def main() -> None:
    config = Params().section("export", ExportConfig)
    refuse_tracked(config.paths)
    with writing_folder("data/messages") as folder:
        report = read_export(config, folder)
    by_source = _by_source(report)
    # Numbers only: this file is in Git, and nothing in Git holds a name or a message.
    metrics = {
        "files": report.files,
        "threads": report.threads,
        "groups": report.groups,
        "messages_read": report.messages_read,
        "messages_kept": report.messages_kept,
        "owner_messages": report.owner_messages,
        "dropped": report.dropped,
        "files_skipped": report.skipped,
        "files_ignored": report.ignored,
        "redacted": report.redacted,
        "suspects": len(report.suspects),
        "sources": by_source,
    }
    write_json("metrics/extract.json", metrics)
    print(f"data/messages: {report.messages_kept:,} of {report.messages_read:,} messages in {report.threads:,} threads")
    owner = "(name left out)" if followed() else report.owner
    print(f"owner: {owner}, {report.owner_messages:,} messages")
    if len(by_source) > 1:
        print("messages by source: " + ", ".join(f"{name} {one['kept']:,}" for name, one in by_source.items()))
    if set(report.sources) - set(METAS):
        print(f"times without a zone were read in {zone_name(config.timezone)} (export.timezone)")
    for reason, count in report.dropped.items():
        print(f"dropped: {count:,} {reason}")
    if report.ignored:
        counts = ", ".join(f"{count:,} .{suffix}" for suffix, count in report.ignored.items())
        print(f"files without messages: {counts}")
    if report.suspects:
        print(f"suspects: {len(report.suspects):,} lines look automatic; `jaegpt inspect` lists them")
    for problem in report.problems:
        print(f"problem: {problem}")


if __name__ == "__main__":
    run(main)
