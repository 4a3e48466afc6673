"""Names of one and the same thing, joined pair by pair: handles of a person, chats of a group."""

from collections.abc import Hashable


class Joined:
    """Sets that grow together (union-find): `find` gives one and the same member for all that were joined."""

    def __init__(self) -> None:
        self._leads_to: dict[Hashable, Hashable] = {}

    def find(self, name: Hashable) -> Hashable:
        while name in self._leads_to:
            # Half of the way is cut off each time, so that no way stays long.
            after = self._leads_to[name]
            if after in self._leads_to:
                self._leads_to[name] = self._leads_to[after]
            name = after
        return name

    def join(self, one: Hashable, other: Hashable) -> None:
        one, other = self.find(one), self.find(other)
        if one != other:
            self._leads_to[other] = one
