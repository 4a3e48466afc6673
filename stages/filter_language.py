"""Messages -> those in the languages to keep. Run: python -m stages.filter_language

plots/language.csv numbers the threads by their messages, 1 for the most, and not in the order of the tables.
"""

from functools import partial

from jaegpt.dialogue.language import LanguageConfig, LanguageCounts, filter_language
from jaegpt.errors import run
from jaegpt.files import write_csv, write_json
from jaegpt.params import Params
from jaegpt.transform import transform_table


def refuse_empty(counts: list[LanguageCounts]) -> None:
    """Before anything is written."""
    LanguageCounts.total(counts).refuse_empty()


def main() -> None:
    config = Params().section("language", LanguageConfig)
    work = partial(filter_language, config=config)
    counts = transform_table(
        work, ("data/messages", "messages"), ("data/filtered", "filtered"), "filter_language", finish=refuse_empty
    )
    total = LanguageCounts.total(counts)
    metrics = total.metrics()
    write_json("metrics/language.json", metrics)
    # Without the ids: they are hashes of names, so whoever has a list of names could find out which are here.
    ranked = sorted((figures for _, *figures in total.threads), reverse=True)
    columns = ("thread", "messages", "identified", "share_kept", "dropped", "kept")
    write_csv("plots/language.csv", columns, [(rank, *figures) for rank, figures in enumerate(ranked, 1)])
    threads = f"{metrics['threads_kept']:,} of {len(total.threads):,} threads"
    print(f"filter_language: kept {total.messages_kept:,} messages in {threads}")
    print("  dropped: " + ", ".join(f"{reason} {count:,}" for reason, count in metrics["dropped"].items()))


if __name__ == "__main__":
    run(main)
