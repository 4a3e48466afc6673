"""A chat export -> the table of messages: `python -m stages.extract`."""

from jaegpt.errors import run
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import read_export
from jaegpt.exports.owner_sources import METAS
from jaegpt.exports.tracking import refuse_tracked
from jaegpt.exports.zones import zone_name
from jaegpt.files import write_json, writing_folder
from jaegpt.params import Params
from jaegpt.training.progress import followed


def main() -> None:
    config = Params().section("export", ExportConfig)
    refuse_tracked(config.paths)
    with writing_folder("data/messages") as folder:
        report = read_export(config, folder)
    metrics = report.metrics()
    write_json("metrics/extract.json", metrics)
    print(f"data/messages: {report.messages_kept:,} of {report.messages_read:,} messages in {report.threads:,} threads")
    owner = "(name left out)" if followed() else report.owner
    print(f"owner: {owner}, {report.owner_messages:,} messages")
    if len(metrics["sources"]) > 1:
        print("messages by source: " + ", ".join(f"{name} {one['kept']:,}" for name, one in metrics["sources"].items()))
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
