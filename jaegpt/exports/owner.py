"""Whose export this is: the name in `export.owner`, in the profile, or in most threads; never a guess between two."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from jaegpt.errors import JaegptError
from jaegpt.exports.rows import NAMELESS, clean_name
from jaegpt.exports.sources import BadFileError, Entry, read_bytes
from jaegpt.exports.text import load_json

NUM_CANDIDATES = 5


@dataclass(frozen=True)
class Owner:
    """The owner's names, the first of which stands for all; how they were found; who came next, with thread counts."""

    names: tuple[str, ...]
    how: str
    threads: int
    runner_up: tuple[str, int] | None

    def __str__(self) -> str:
        return f"{' / '.join(self.names)} (named by {self.how})"


def find_owner(presence: Counter[str], configured: Sequence[str], profile: Sequence[str]) -> Owner:
    """Decide on the owner.

    Args:
        presence: name -> number of threads it takes part in.
        configured: `export.owner` as a list.
        profile: the names that the download's own profile gives, the current one first.

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
    known = [name for name in dict.fromkeys(profile) if name in presence]
    if known:
        return _owner(known, "profile", presence, ranked)
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        raise JaegptError(
            f"export.owner: {ranked[0][0]!r} and {ranked[1][0]!r} are in equally many threads, so the owner cannot be "
            f"told. Set export.owner to your name. {_candidates(ranked)}"
        )
    return _owner([ranked[0][0]], "most threads", presence, ranked)


def profile_names(entries: Iterable[Entry]) -> list[str]:
    """The owner's names in the download's profile files, the current one first; unreadable profiles tell nothing."""
    current: list[str] = []
    former: list[str] = []
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
        current += _texts(filled if isinstance(filled, list) else [])
        users = _get(content, "profile_user")
        for user in users if isinstance(users, list) else []:  # Instagram
            current += _texts([_get(_get(_get(user, "string_map_data"), "Name"), "value")])
    return list(dict.fromkeys([*current, *former]))


def _owner(names: Sequence[str], how: str, presence: Counter[str], ranked: list[tuple[str, int]]) -> Owner:
    names = tuple(dict.fromkeys(names))
    runner_up = next((row for row in ranked if row[0] not in names), None)
    return Owner(names, how, max(presence[name] for name in names), runner_up)


def _candidates(ranked: list[tuple[str, int]]) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in ranked[:NUM_CANDIDATES])
    return f"Threads by name: {listed}."


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _texts(values: list[Any]) -> list[str]:
    return [clean_name(value) for value in values if isinstance(value, str) and value.strip()]
