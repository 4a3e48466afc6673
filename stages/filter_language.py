"""Messages -> those in the languages to keep. Run: python -m stages.filter_language

plots/language.csv numbers the threads by their messages, 1 for the most, and not in the order of the tables.
"""

from functools import partial

from jaegpt.dialogue.language import REASONS, LanguageConfig, LanguageCounts, filter_language
from jaegpt.errors import JaegptError, run
from jaegpt.files import write_csv, write_json
from jaegpt.params import Params
from jaegpt.transform import transform_table


def refuse_empty(counts: list[LanguageCounts]) -> None:
    """An error when nothing is left, before anything is written."""
    total = LanguageCounts.total(counts)
    if not total.messages_kept:
        found = ", ".join(f"{code} {count:,}" for code, count in total.languages.most_common(5)) or "nothing"
        raise JaegptError(
            f"language.keep: no thread is in a language to keep. Found messages: {found}. Add one of these."
        )


def main() -> None:
    config = Params().section("language", LanguageConfig)
    work = partial(filter_language, config=config)
    counts = transform_table(
        work, ("data/messages", "messages"), ("data/filtered", "filtered"), "filter_language", finish=refuse_empty
    )
    total = LanguageCounts.total(counts)
    dropped = {reason: total.dropped[reason] for reason in REASONS}
    threads_kept = sum(kept for *_, kept in total.threads)
    write_json(
        "metrics/language.json",
        {
            "threads_kept": threads_kept,
            "threads_dropped": len(total.threads) - threads_kept,
            "messages_read": total.messages_kept + sum(dropped.values()),
            "messages_kept": total.messages_kept,
            "dropped": dropped,
        },
    )
    # Without the ids: they are hashes of names, so whoever has a list of names could find out which are here.
    ranked = sorted((figures for _, *figures in total.threads), reverse=True)
    columns = ("thread", "messages", "identified", "share_kept", "dropped", "kept")
    write_csv("plots/language.csv", columns, [(rank, *figures) for rank, figures in enumerate(ranked, 1)])
    print(
        f"filter_language: kept {total.messages_kept:,} messages in {threads_kept:,} of {len(total.threads):,} threads"
    )
    print("  dropped: " + ", ".join(f"{reason} {count:,}" for reason, count in dropped.items()))


if __name__ == "__main__":
    run(main)
