"""The names of the others in groups, turn by turn in plain Python."""

from helpers.dialogue_reference import Row, by_thread

LETTERS = [chr(ord("A") + number) for number in range(26)]
NAMES = [*LETTERS, *(first + second for first in LETTERS for second in LETTERS)]


def shown(turns: list[Row]) -> list[Row]:
    """Turns as the model is shown them."""
    found: list[Row] = []
    for thread in by_thread(turns):
        others = list(dict.fromkeys(turn["sender"] for turn in thread if not turn["is_owner"]))
        for turn in thread:
            is_named = len(others) > 1 and not turn["is_owner"]
            name = f"{NAMES[others.index(turn['sender'])]}: " if is_named else ""
            found.append({**turn, "text": name + turn["text"]})
    return found
