"""Whose export this is: the name in `export.owner`, in the profile, or in most threads; never a guess between two."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from jaegpt.errors import JaegptError
from jaegpt.exports.people import NAMELESS, clean_name
from jaegpt.exports.sources import BadFileError, Entry, printable, read_bytes
from jaegpt.exports.text import load_json

NUM_CANDIDATES = 5


@dataclass(frozen=True)
class Owner:
    """The owner's names, the first of which stands for all; how they were found; who came next, with thread counts.

    `others` are names that the profile has too, and that are other people's.
    """

    names: tuple[str, ...]
    how: str
    threads: int
    runner_up: tuple[str, int] | None
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return printable(f"{' / '.join(self.names)} (named by {self.how})")

    def counted(self, presence: Counter[str]) -> "Owner":
        """The same with other counts: those of threads that have been joined since."""
        runner_up = (self.runner_up[0], presence[self.runner_up[0]]) if self.runner_up else None
        return replace(self, threads=max(presence[name] for name in self.names), runner_up=runner_up)


def find_owner(
    presence: Counter[str],
    configured: Sequence[str],
    profile: Sequence[str],
    typed: Sequence[str] = (),
    circles: Iterable[Collection[str]] = (),
) -> Owner:
    """Decide on the owner.

    Args:
        presence: name -> number of threads it takes part in.
        configured: `export.owner` as a list.
        profile: the names that the download's own profile gives, the current one first.
        typed: those that forms were filled in with, some of which may be other people's.
        circles: the participants of each thread, without those who are known to have written there only.

    Raises:
        JaegptError: a configured name does not occur, or two names occur equally often.
    """
    ranked = sorted(
        ((name, count) for name, count in presence.items() if name != NAMELESS), key=lambda row: (-row[1], row[0])
    )
    if not ranked:
        raise JaegptError("export.owner: nobody is named in any thread. Check that export.path is a whole download.")
    if list(configured) != ["auto"]:
        for name in configured:
            if name not in presence:
                near = difflib.get_close_matches(name, presence, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise JaegptError(f"export.owner: nobody is called {name!r} here.{hint} {_candidates(ranked)}")
        return _owner(configured, "export.owner", presence, ranked)
    by_presence = sorted(typed, key=lambda name: -presence[name])
    known = [name for name in dict.fromkeys([*profile, *by_presence]) if name in presence]
    if known:
        others = _others_than_the_first(known, circles)
        owner = _owner([name for name in known if name not in others], "profile", presence, ranked)
        return replace(owner, others=tuple(sorted(others)))
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        raise JaegptError(
            f"export.owner: {ranked[0][0]!r} and {ranked[1][0]!r} are in equally many threads, so the owner cannot be "
            f"told. Set export.owner to your name. {_candidates(ranked)}"
        )
    return _owner([ranked[0][0]], "most threads", presence, ranked)


def profile_names(entries: Iterable[Entry]) -> tuple[list[str], list[str]]:
    """The owner's names in the download's profile files, the current one first, and the names typed into forms.

    Unreadable profiles tell nothing.
    """
    current: list[str] = []
    former: list[str] = []
    typed: list[str] = []
    for entry in entries:
        try:
            content = load_json(read_bytes(entry))
        except (BadFileError, orjson.JSONDecodeError):
            continue
        profile = _get(content, "profile_v2") or _get(content, "profile")
        current += _texts([_get(_get(profile, "name"), "full_name")])
        for key in ("previous_names", "other_names"):
            listed = _get(profile, key)
            former += _texts([_get(item, "name") for item in listed] if isinstance(listed, list) else [])
        filled = _get(_get(content, "autofill_information_v2") or _get(content, "autofill_information"), "FULL_NAME")
        typed += _texts(filled if isinstance(filled, list) else [])
        users = _get(content, "profile_user")
        for user in users if isinstance(users, list) else []:  # Instagram
            current += _texts([_get(_get(_get(user, "string_map_data"), "Name"), "value")])
    return list(dict.fromkeys([*current, *former])), typed


def _others_than_the_first(names: Sequence[str], circles: Iterable[Collection[str]]) -> set[str]:
    """Those of `names` who take part in a thread beside the first of them: nobody is in one under two names."""
    return {name for circle in circles if names[0] in circle for name in names[1:] if name in circle}


def _owner(names: Sequence[str], how: str, presence: Counter[str], ranked: list[tuple[str, int]]) -> Owner:
    names = tuple(dict.fromkeys(names))
    runner_up = next((row for row in ranked if row[0] not in names), None)
    return Owner(names, how, max(presence[name] for name in names), runner_up)


def _candidates(ranked: list[tuple[str, int]]) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in ranked[:NUM_CANDIDATES])
    return printable(f"Threads by name: {listed}.")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _texts(values: list[Any]) -> list[str]:
    return [clean_name(value) for value in values if isinstance(value, str) and value.strip()]
