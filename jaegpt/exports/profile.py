"""What a download says of its owner: Messenger's and Instagram's profile files, and the names typed into forms."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from jaegpt.exports.archives import BadFileError, Entry, read_bytes
from jaegpt.exports.people import clean_name
from jaegpt.exports.text import load_json

_NAME_KEYS = ("Username", "Name")  # Instagram writes keys in the account's language; these are English


@dataclass(frozen=True)
class Profile:
    """Names that may be the owner's.

    Attributes:
        names: given as such, the current ones first.
        typed: those that forms were filled in with, some of which may be other people's.
        values: whatever stands in Instagram's profile, one of which is the name though its key does not say so.
    """

    names: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def read_profiles(entries: Iterable[Entry]) -> Profile:
    """All that the profile files of a download say; unreadable ones say nothing."""
    current: list[str] = []
    former: list[str] = []
    typed: list[str] = []
    values: list[str] = []
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
        current += _texts([_get(content, "username"), _get(content, "name")])  # Instagram until 2020
        for key, value in _instagram(_get(content, "profile_user")):
            (current if key in _NAME_KEYS else values).extend(_texts([value]))
    return Profile(*(tuple(dict.fromkeys(names)) for names in ([*current, *former], typed, values)))


def _instagram(users: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of what an Instagram profile holds, in either of the shapes it has had."""
    for user in users if isinstance(users, list) else []:
        fields = _get(user, "string_map_data")
        for key, field in fields.items() if isinstance(fields, dict) else ():
            yield key, _get(field, "value")
        labels = _get(user, "label_values")
        for field in labels if isinstance(labels, list) else ():
            yield str(_get(field, "label")), _get(field, "value")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _texts(values: list[Any]) -> list[str]:
    return [clean_name(value) for value in values if isinstance(value, str) and value.strip()]
