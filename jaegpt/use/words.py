"""What `jaegpt use` says, as lines of at most 100 columns."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaegpt.exports.account import ExportReport, SourceReport
from jaegpt.exports.archives import printable
from jaegpt.exports.owner_sources import METAS
from jaegpt.inspection import counted, left_out_in_words, wrapped, years_in_words
from jaegpt.use.outlook import Outlook

if TYPE_CHECKING:
    from jaegpt.use.cost import Disk

NUM_PROBLEMS = 5
_INDENT = " " * 12


def reading_lines(paths: Sequence[str], report: ExportReport, zone: str) -> Iterator[str]:
    """What was read, messenger by messenger, and what stands in the way.

    Args:
        zone: in which times without one were read.
    """
    owner = report.owner
    assert owner is not None
    left_out = report.messages_read - report.messages_kept
    found = f"{counted(report.messages_read, 'message')}, {report.messages_kept:,} kept, {left_out:,} left out"
    yield from _line("Chats", f"{', '.join(map(printable, paths))}: {found}")
    yield from _line("You", f"{owner}; {counted(report.owner_messages, 'message')} of yours kept")
    for name, source in report.sources.items():
        yield from _source_lines(name, source, owner.names)
    if set(report.sources) - set(METAS):
        yield from _line("Times", f"without a zone are read in {zone} (export.timezone)")
    for number, problem in enumerate(report.problems[:NUM_PROBLEMS]):
        yield from _line("Mind" if not number else "", problem)
    if len(report.problems) > NUM_PROBLEMS:
        yield from _line("", f"... and {len(report.problems) - NUM_PROBLEMS:,} more: `jaegpt inspect` lists all")


def _source_lines(name: str, source: SourceReport, owner_names: Sequence[str]) -> Iterator[str]:
    # Where one name is yours everywhere, the line above has said it.
    known_as = f" as {' / '.join(map(printable, source.owner_names))}" if len(owner_names) > 1 else ""
    yours = f"{source.owner_messages:,} of them yours{known_as}" if source.owner_names else "you are not in it"
    found = f"{counted(source.threads, 'thread')}, {counted(source.messages_read, 'message')}{years_in_words(source)}"
    yield from _line(name, f"{found}; {source.messages_kept:,} kept, {yours}")
    if source.dropped:
        yield from _line("", left_out_in_words(source.dropped))


def learning_lines(outlook: Outlook, learn: str) -> Iterator[str]:
    """How much there is to learn from."""
    from jaegpt.evaluation.judges import MIN_CONTEXTS  # loads torch, for seconds: after what is asked

    counts = outlook.counts
    num_examples = counts.train + counts.valid
    why = {
        "begin a session": counts.dropped["no_turn_before_in_session"],
        "in threads with too few of yours": counts.dropped["too_few_different_turns_in_thread"],
        "left out by dataset.train_fraction": counts.dropped["left_out_of_train"],
    }
    others = ", ".join(f"{count:,} {reason}" for reason, count in why.items() if count)
    text = f"{num_examples:,} replies of yours, of {counts.owner_turns:,} turns" + (f" ({others})" if others else "")
    yield from _line("To learn", f"{text}; {counts.valid:,} of them for measuring")
    if learn == "sessions":
        yield from _line("", f"whole sessions teach {outlook.learned_turns:,} turns, first words included")
    if counts.valid < MIN_CONTEXTS:
        yield from _line("", f"fewer than {MIN_CONTEXTS} for measuring: it is not judged whether it sounds like you")
    if languages := +outlook.languages:
        listed = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in sorted(languages.items()))
        yield from _line("", f"not used for their language: {listed}")


def setting_lines(now: Mapping[str, Any], values: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[str]:
    """Each setting: what it becomes, or stays, and below that why."""
    shown = {key: reason for key, reason in reasons.items() if key in values or reason}
    width = max(map(len, shown), default=0)
    for number, (key, reason) in enumerate(shown.items()):
        section, _, name = key.rpartition(".")
        old = (now[section] if section else now)[name]
        value = f"{_shown(old)} -> {_shown(values[key])}" if key in values else f"{_shown(old)} stays"
        yield from _line("Settings" if not number else "", f"{key:<{width}}  {value}")
        if reason:
            yield from _line("", f"{'':<{width}}  {reason}", further=width)


def cost_lines(
    steps: int, seconds: float | None, machine: str, memory: Sequence[str], disk: "Disk | None"
) -> list[str]:
    """How long, how much memory (in words already), and how much disk."""
    if seconds is None:
        lines = [*_line("Training", f"{counted(steps, 'step')}; how long is not known: {machine}")]
    else:
        text = f"about {_duration(seconds)} here, {counted(steps, 'step')}; measuring what it learned comes on top"
        lines = [*_line("Training", text), *_line("", machine)]
    for number, text in enumerate(memory):
        lines += _line("" if number else "Memory", text)
    if disk:
        free = shutil.disk_usage(".").free
        text = f"{_size(disk.most)} while it trains, {_size(disk.after)} after; {_size(free)} are free here"
        lines += _line("Disk", text if free > disk.most else f"{text}, which is not enough")
    return lines


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds)):,} s"
    return f"{round(seconds / 60):,} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def _shown(value: Any) -> str:
    return "[" + ", ".join(map(_shown, value)) + "]" if isinstance(value, list) else printable(str(value))


def _line(title: str, text: str, further: int = 0) -> list[str]:
    """A title and a text, whose later lines begin `further` columns further right."""
    line = f"{title:<{len(_INDENT)}}{text}" if len(title) < len(_INDENT) else f"{title} {text}"
    return wrapped(line, indent=f"{_INDENT}  {' ' * further}")
