"""The strings of a request's `stop`: a reply that comes in pieces ends where the first of them begins."""

from collections.abc import Sequence


class Stops:
    """Passes pieces of a text on, but holds back an end that may be the beginning of a stop.

    Of several stops in the text the one that ends first counts, as if it had been read letter by letter; so the cut
    does not depend on where the pieces were cut.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        assert all(strings), "an empty string is everywhere"
        self.found = False
        self._strings = strings
        self._held = ""

    def take(self, piece: str) -> str:
        """What can be passed on now; nothing once a stop was found."""
        if self.found:
            return ""
        text = self._held + piece
        places = [(place + len(stop), place) for stop in self._strings if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)[1]]
        longest = max((len(stop) - 1 for stop in self._strings), default=0)
        kept = next(
            (size for size in range(min(longest, len(text)), 0, -1) if self._begins(text[len(text) - size :])), 0
        )
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self) -> str:
        """What was held back, at the text's end."""
        held, self._held = self._held, ""
        return held

    def _begins(self, end: str) -> bool:
        return any(stop.startswith(end) for stop in self._strings)
