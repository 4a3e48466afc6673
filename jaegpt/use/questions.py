"""What `jaegpt use` has to ask: who the owner is, under which names, and in what order dates are written."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.exports.account import ExportReport
from jaegpt.exports.archives import printable
from jaegpt.exports.config import ExportConfig

DATE_ORDER = "set export.date_order"  # in each reader's line on dates that may be read in two ways


@dataclass
class Asker:
    """Asks a person at the terminal, or takes what is proposed.

    Attributes:
        takes_all: `--yes`, or nobody is there: every proposal is taken.
        said: lines on what was taken without asking.
    """

    takes_all: bool
    said: list[str] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)

    @classmethod
    def at_terminal(cls, takes_all: bool) -> "Asker":
        return cls(takes_all or not sys.stdin.isatty())

    def yes(self, question: str) -> bool:
        """Whether the answer is yes, which is proposed."""
        return self.takes_all or _answer(f"{question} [Y/n] ").lower() in ("", "y", "yes")

    def next_changes(self, report: ExportReport, config: ExportConfig) -> dict[str, Any]:
        """What the next open question changes in the section `export`; empty when none is left.

        Raises:
            JaegptError: nothing shows who the owner is, and nobody is there to be asked.
        """
        if report.owner is None:
            return self._owner(report, config)
        for proposal in report.owner.proposals:
            names = " / ".join(map(printable, proposal.names))
            where = f"{proposal.threads:,} of the {proposal.of_threads:,} {proposal.source} threads"
            line = f"You seem to be {names} in {proposal.source} (in {where}, by {proposal.how})"
            if line in self._asked:
                continue
            self._asked.add(line)
            if self.yes(f"{line}. Is that you?"):
                if self.takes_all:
                    self.said.append(f"{line}: added to export.owner.")
                return {"owner": list(dict.fromkeys((*report.owner.names, *proposal.names)))}
        doubts = [line for line in report.problems if DATE_ORDER in line] if config.date_order == "auto" else []
        if doubts and not self.takes_all and "dates" not in self._asked:
            self._asked.add("dates")
            print(doubts[0])
            answer = _chosen("Which comes first, the day or the month? [day/month] ", {"day", "month", "d", "m"})
            return {"date_order": "day_first" if answer.startswith("d") else "month_first"}
        return {}

    def _owner(self, report: ExportReport, config: ExportConfig) -> dict[str, Any]:
        if config.owners != ["auto"]:
            self.said.append(f"export.owner was {' / '.join(map(printable, config.owners))}, who is not here.")
            return {"owner": "auto"}
        if self.takes_all or not report.people:
            raise JaegptError(report.problems[-1])
        print("Nothing shows whose chats these are. Who are you?")
        people = list(report.people)
        for number, (name, threads) in enumerate(report.people.items(), 1):
            print(f"  {number:>3}  {printable(name)} (threads: {threads:,})")
        numbers = _numbers("Your number, or several with commas if you go by several names: ", len(people))
        return {"owner": [people[number - 1] for number in numbers]}


def written(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A list of one name is that name."""
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 and key in ("owner", "path") else value
        for key, value in changes.items()
    }


def _numbers(question: str, most: int) -> list[int]:
    while True:
        words = _answer(question).replace(",", " ").split()
        if words and all(word.isdecimal() and 1 <= int(word) <= most for word in words):
            return list(dict.fromkeys(map(int, words)))
        print(f"Give numbers from 1 to {most}.")


def _chosen(question: str, choices: set[str]) -> str:
    while (answer := _answer(question).lower()) not in choices:
        print(f"Give one of {', '.join(sorted(choices, key=len, reverse=True))}.")
    return answer


def _answer(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:
        raise JaegptError("use: no answer was given. Nothing was written; --yes takes what is proposed.") from None
