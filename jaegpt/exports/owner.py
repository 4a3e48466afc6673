"""Whose export this is: the name in `export.owner`, in the profile, or in most threads; never a guess between two."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import printable
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.profile import Profile
from jaegpt.exports.threads import Pool, Thread

NUM_CANDIDATES = 5


@dataclass(frozen=True)
class Proposal:
    """Names that seem to be the owner's in one messenger, how that was found, and how many of its threads have them."""

    source: str
    names: tuple[str, ...]
    how: str
    threads: int
    of_threads: int


@dataclass(frozen=True)
class Owner:
    """The owner's names, the first of which stands for all; how they were found; who came next, with thread counts.

    Attributes:
        others: names that the profile has too, and that are other people's.
        by_pool: the names by messenger, where each has names of its own; a pool that is not in it knows all.
        former: names of the owner that two downloads show; they hold everywhere.
        proposals: further names that seem to be the owner's, and are not used before the user says so.
    """

    names: tuple[str, ...]
    how: str
    threads: int
    runner_up: tuple[str, int] | None
    others: tuple[str, ...] = ()
    by_pool: Mapping[Pool, tuple[str, ...]] = field(default_factory=dict)
    former: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()

    def names_in(self, pool: Pool) -> tuple[str, ...]:
        """The owner's names in some threads; empty where none of them is known to be the owner there."""
        names = self.by_pool.get(pool, self.names)
        return tuple(dict.fromkeys((*names, *self.former))) if names else ()

    def __str__(self) -> str:
        return printable(f"{' / '.join(self.names)} (named by {self.how})")

    def counted(self, presence: Counter[str]) -> "Owner":
        """The same with other counts: those of threads that have been joined since."""
        runner_up = (self.runner_up[0], presence[self.runner_up[0]]) if self.runner_up else None
        return replace(self, threads=max(presence[name] for name in self.names), runner_up=runner_up)

    def with_former_names(self, aliases: Iterable[Mapping[str, str]], circles: Iterable[Collection[str]]) -> "Owner":
        """The same with the names that two downloads show to be the owner's too, unless somebody else has them."""
        found = {name for names in aliases for name, current in names.items() if current in self.names}
        found |= {current for names in aliases for name, current in names.items() if name in self.names}
        others = {name for circle in circles if not set(self.names).isdisjoint(circle) for name in circle}
        former = tuple(sorted(found - others - set(self.names) - {NAMELESS}))
        return replace(self, names=(*self.names, *former), former=former)


def find_owner(
    presence: Counter[str],
    configured: Sequence[str],
    profile: Profile,
    circles: Iterable[Collection[str]] = (),
) -> Owner:
    """Decide on the owner.

    Args:
        presence: name -> number of threads it takes part in.
        configured: `export.owner` as a list.
        profile: what the download says of its owner.
        circles: the participants of each thread, without those who are known to have written there only.

    Raises:
        JaegptError: a configured name does not occur, or two names occur equally often.
    """
    ranked = sorted(
        ((name, count) for name, count in presence.items() if name != NAMELESS), key=lambda row: (-row[1], row[0])
    )
    if not ranked:
        raise JaegptError("export.owner: nobody is named in any thread. Check that export.path is a whole download.")
    circles = list(circles)
    if list(configured) != ["auto"]:
        present = set(presence).union(*circles)  # a former name too, where messages show whose it was
        for name in configured:
            if name not in present:
                near = difflib.get_close_matches(name, presence, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise JaegptError(f"export.owner: nobody is called {name!r} here.{hint} {_candidates(ranked)}")
        return _owner(configured, "export.owner", presence, ranked)
    by_presence = sorted(profile.typed, key=lambda name: -presence[name])
    # Where the profile's keys are in an unknown language, any value may be the name, or a friend's name in a motto.
    # Nobody is in more threads than the owner, so only a value in most threads counts; of two such ones none does.
    in_most = max(presence.values(), default=0)
    guessed = [name for name in dict.fromkeys(profile.values) if presence.get(name) == in_most]
    guessed = guessed if len(guessed) == 1 else []
    listed = [*profile.names, *(() if any(name in presence for name in profile.names) else guessed), *by_presence]
    known = [name for name in dict.fromkeys(listed) if name in presence]
    if known:
        others = _others_than_the_first(known, circles)
        owner = _owner([name for name in known if name not in others], "profile", presence, ranked)
        return replace(owner, others=tuple(sorted(others)))
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        raise JaegptError(
            f"export.owner: {ranked[0][0]!r} and {ranked[1][0]!r} are in equally many threads, so the owner is not "
            f"clear. Set export.owner to your name. {_candidates(ranked)}"
        )
    return _owner([ranked[0][0]], "most threads", presence, ranked)


def owner_elsewhere(threads: Sequence[Thread], owner: Owner) -> list[str]:
    """A line on threads in which the owner is under none of the names known, with the name that most of them share.

    This happens where Messenger knows the owner by one name and Instagram by another.
    """
    without = [thread for thread in threads if thread.num_rows and thread.people.isdisjoint(owner.names)]
    shared = Counter(name for thread in without for name in thread.people if name != NAMELESS)
    if not shared:
        return []
    # Early in 2018 participants came without the owner, and who wrote nothing is not there at all.
    is_certain = any(not note.has_partial_people for thread in without for note, _ in thread.pieces)
    most = max(shared.values())
    names = sorted(name for name, count in shared.items() if count == most)
    if most < 2 and not is_certain:
        return []
    listed = ", ".join(names[:NUM_CANDIDATES])
    return [
        f"{len(without):,} of the {len(threads):,} threads are without {' / '.join(owner.names)}; the name in most of "
        f"them ({most:,}) is {listed}: if it is yours too, set export.owner to the list of your names"
    ]


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
