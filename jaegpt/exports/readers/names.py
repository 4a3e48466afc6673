"""Names of people: one per person, without marks that show nothing, whole where they hold the sign that ends a name."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from jaegpt.exports.readers.local_times import MARKS, SPACES

_MARKS = re.compile(f"[{MARKS}]")
_SPACES = re.compile(rf"[{SPACES}\u3000]+")
_ENOUGH = 3  # lines of one beginning; fewer may be a coincidence


def plain_name(name: str) -> str:
    """As people read it: `"\\u202a+49 171 5\\u202c"` -> `"+49 171 5"`, `"~\\u202fAnna"` -> `"Anna"`."""
    return _SPACES.sub(" ", _MARKS.sub("", name)).strip().removeprefix("~ ")


class NameParts:
    """Names that were cut at a separator which they hold themselves: "Dr: Anna: hello" is by "Dr: Anna".

    They show by this: all lines that begin with "Dr: " go on with "Anna: ".
    """

    def __init__(self, separator: str = ": ", longest: int = 40) -> None:
        self._separator, self._longest = separator, longest
        self._seconds: dict[str, str] = {}  # beginning -> what follows it
        self._varied: set[str] = set()  # beginnings that something else follows too
        self._counts: Counter[str] = Counter()
        self._whole: dict[str, tuple[str, str]] = {}  # beginning -> (whole name, what to cut from the text)

    def look_at(self, names: Sequence[str | None], texts: Sequence[str]) -> None:
        """Take note of lines: names are what stands before the first separator, texts all behind it."""
        varied = self._varied
        if {*names} <= {*varied, None}:
            return
        for name, text in zip(names, texts, strict=True):
            if name is None or name in varied:
                continue
            second, mark, _ = text[: self._longest].partition(self._separator)
            if not mark or "\n" in second or self._seconds.setdefault(name, second) != second:
                varied.add(name)
            else:
                self._counts[name] += 1

    def whole(self, name: str) -> str:
        """The whole name that begins with `name`."""
        return self._found(name)[0]

    def rest(self, name: str) -> str:
        """What must be cut from the texts of the lines that begin with `name`; mostly ""."""
        return self._found(name)[1]

    def _found(self, name: str) -> tuple[str, str]:
        found = self._whole.get(name)
        if found is None:
            if name not in self._varied and self._counts[name] >= _ENOUGH:
                second = self._seconds[name]
                found = plain_name(f"{name}{self._separator}{second}"), f"{second}{self._separator}"
            else:
                found = plain_name(name), ""
            self._whole[name] = found
        return found


class Names:
    """One name per identity: two people of one name must not become one sender, nor one of them the owner."""

    def __init__(self) -> None:
        self._by_identity: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, identity: str, name: str) -> str:
        """The name of `identity`, which is `name` unless somebody else has that: then the identity stands behind it."""
        known = self._by_identity.get(identity)
        if known is None:
            known = name if name not in self._taken else f"{name} ({identity})"
            self._by_identity[identity] = known
            self._taken.add(known)
        return known

    def get(self, identity: str) -> str | None:
        return self._by_identity.get(identity)

    def identities(self) -> Collection[str]:
        return self._by_identity.keys()
