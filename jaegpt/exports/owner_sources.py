"""One owner over several messengers: each knows them by names of its own, and some mark which those are.

A name that a source marks as the owner's is used there; so is what Messenger and Instagram show, by the profile or by
most threads. For the others the names found so far are looked up, and where the evidence points to somebody else, that
is proposed, never assumed: a friend may bear in one messenger the name that the owner bears in another.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import printable
from jaegpt.exports.owner import NUM_CANDIDATES, Owner, Proposal, find_owner
from jaegpt.exports.people import NAMELESS
from jaegpt.exports.profile import Profile
from jaegpt.exports.threads import Pool, Thread, presence

_MARK = "the mark in "
METAS = ("messenger", "instagram")  # one account, and one profile


@dataclass(frozen=True)
class Guess:
    """Who the owner is in one source: names, how they were found, whether that is certain, and in how many threads."""

    names: tuple[str, ...]
    how: str
    is_certain: bool
    threads: int
    others: tuple[str, ...] = ()


def find_owners(threads: Sequence[Thread], configured: Sequence[str], profile: Profile) -> tuple[Owner, list[str]]:
    """The owner over all sources, and a line for the user on each source in which that is not clear.

    Args:
        threads: all of them.
        configured: `export.owner` as a list.
        profile: what a download of Meta's says of its owner.

    Raises:
        JaegptError: a configured name does not occur, or nothing shows who the owner is.
    """
    by_pool = _by_pool(threads)
    circles = [note.participants for thread in threads for note, _ in thread.pieces]
    if list(configured) != ["auto"]:
        owner = find_owner(presence(threads), configured, profile, circles)
        guesses = {pool: guess for pool, theirs in by_pool.items() if (guess := _guess(pool[0], theirs))}
        return _with_proposals(owner, by_pool, guesses)
    if all(thread.is_metas for thread in threads):
        return find_owner(presence(threads), configured, profile, circles), []
    guesses, why_not = _guesses(by_pool, profile)
    if not guesses:
        raise why_not or JaegptError(_nothing_shows(threads))
    # Certain ones first, then those of most threads; ties in the order of the sources.
    ranked = sorted(guesses.values(), key=lambda guess: (not guess.is_certain, guess.names == ("Me",), -guess.threads))
    used = [guess for guess in ranked if guess.is_certain] or ranked[:1]
    names = tuple(dict.fromkeys(name for guess in used for name in guess.names))
    counts = presence(threads)
    runner_up = next(((name, count) for name, count in counts.most_common() if name not in {*names, NAMELESS}), None)
    how = " and ".join(dict.fromkeys(_how(guess, used) for guess in used))
    others = tuple(name for guess in used for name in guess.others)
    owner = Owner(names, how, max(counts[name] for name in names), runner_up, others)
    owner = replace(owner, by_pool=_names_by_pool(names, by_pool, guesses))
    return _with_proposals(owner, by_pool, guesses)


def _by_pool(threads: Sequence[Thread]) -> dict[Pool, list[Thread]]:
    found: dict[Pool, list[Thread]] = {}
    for thread in threads:
        found.setdefault(thread.pool, []).append(thread)
    return dict(sorted(found.items(), key=lambda item: (item[0][0] not in METAS, item[0])))


def _how(guess: Guess, used: Sequence[Guess]) -> str:
    """How a guess was found; all marks are one reason."""
    marking = sorted({other.how.removeprefix(_MARK) for other in used if other.how.startswith(_MARK)})
    return f"{_MARK}{', '.join(marking)}" if guess.how.startswith(_MARK) else guess.how


def _guesses(by_pool: Mapping[Pool, list[Thread]], profile: Profile) -> tuple[dict[Pool, Guess], JaegptError | None]:
    """Who the owner seems to be in each source, and why Meta's downloads do not show it, if they do not."""
    guesses: dict[Pool, Guess] = {}
    why_not: JaegptError | None = None
    metas = [thread for threads in by_pool.values() for thread in threads if thread.is_metas]
    if metas:
        circles = [note.participants for thread in metas for note, _ in thread.pieces]
        try:
            owner = find_owner(presence(metas), ["auto"], profile, circles)
            of_metas = Guess(owner.names, owner.how, True, owner.threads, owner.others)
            guesses |= {pool: of_metas for pool, threads in by_pool.items() if any(t.is_metas for t in threads)}
        except JaegptError as error:
            why_not = error
    for pool, threads in by_pool.items():
        theirs = [thread for thread in threads if not thread.is_metas]
        if pool not in guesses and (guess := _guess(pool[0], theirs)):
            guesses[pool] = guess
    return guesses, why_not


def _guess(source: str, threads: Sequence[Thread]) -> Guess | None:
    """Who the owner is by the marks of a source, by what its reader noticed, or by being in most threads."""
    counts = presence(threads)
    marked = _named_by_readers(threads, marked=True)
    if marked:
        names = tuple(sorted(marked, key=lambda name: (-marked[name], name)))
        return Guess(names, f"{_MARK}{source}", True, max(counts[name] for name in names))
    noticed = _named_by_readers(threads, marked=False)
    for counted, how in ((noticed, f"what {source} shows"), (counts, "most threads")):
        ranked = [(name, count) for name, count in counted.most_common() if name != NAMELESS]
        clear = ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1])
        if clear and (counted is noticed or ranked[0][1] > 1):
            return Guess((ranked[0][0],), how, False, counts[ranked[0][0]])
    return None


def _named_by_readers(threads: Sequence[Thread], marked: bool) -> Counter[str]:
    """Owner's names that the readers give -> number of threads."""
    return Counter(
        name
        for thread in threads
        for name in {name for note, _ in thread.pieces if note.owner_is_marked == marked for name in note.owner}
        if name != NAMELESS
    )


def _names_by_pool(
    names: tuple[str, ...], by_pool: Mapping[Pool, list[Thread]], guesses: Mapping[Pool, Guess]
) -> dict[Pool, tuple[str, ...]]:
    """The owner's names in each pool; none where the evidence there points to somebody else."""
    found = {}
    for pool, threads in by_pool.items():
        guess = guesses.get(pool)
        if guess and (guess.is_certain or set(guess.names) & set(names)):
            found[pool] = guess.names if guess.is_certain else tuple(dict.fromkeys((*guess.names, *names)))
            continue
        counts = presence(threads)
        most = max((counts[name] for name in names), default=0)
        found[pool] = names if most > (guess.threads if guess else 0) else ()
    return found


def _with_proposals(
    owner: Owner, by_pool: Mapping[Pool, list[Thread]], guesses: Mapping[Pool, Guess]
) -> tuple[Owner, list[str]]:
    """The owner with the names that are proposed, and a line for each pool in which none of the owner's takes part."""
    without = [
        pool
        for pool, threads in by_pool.items()
        if any(not thread.is_metas for thread in threads)
        and (people := presence(threads))
        and people.keys().isdisjoint(owner.names_in(pool))
    ]
    proposals = tuple(
        Proposal(pool[0], guess.names, guess.how, guess.threads, len(by_pool[pool]))
        for pool in without
        if (guess := guesses.get(pool))
    )
    listed = [*dict.fromkeys((*owner.names, *(name for proposal in proposals for name in proposal.names)))]
    lines = []
    for pool in without:
        threads, guess = by_pool[pool], guesses.get(pool)
        source, is_marked = pool
        if guess:
            seen = f"in {guess.threads:,} of the {len(threads):,} threads there"
            lines.append(
                f"in {source} you seem to be {' / '.join(map(repr, guess.names))} ({seen}, by {guess.how}), which is "
                f"not used yet: if that is right, set export.owner to {listed}"
            )
        elif is_marked or (source, True) not in by_pool:
            # Not said of unmarked threads beside marked ones: the owner may just have written nothing there.
            counts = presence(threads)
            likely = sorted(set(counts) - {NAMELESS}, key=lambda name: (-counts[name], name))[:NUM_CANDIDATES]
            lines.append(
                f"in {source} none of your names takes part, so that nothing is learnt from it; if you are one of "
                f"{', '.join(map(repr, likely)) or 'nobody'}, add that name to the list in export.owner"
            )
    return replace(owner, proposals=proposals), [printable(line) for line in lines]


def _nothing_shows(threads: Sequence[Thread]) -> str:
    counts = sorted(presence(threads).items(), key=lambda row: (-row[1], row[0]))
    listed = ", ".join(f"{name} {count:,}" for name, count in counts[:NUM_CANDIDATES])
    return printable(
        "export.owner: nothing in these files shows whose they are. Set export.owner to your name, or to the list of "
        f"your names. Threads by name: {listed}."
    )
