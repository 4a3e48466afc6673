"""JSON files of one list with a few words about it beside it, before or behind."""

from collections.abc import Callable, Iterator
from typing import Any

from jaegpt.exports.readers.json_stream import JsonStream


def batches_with_head(
    json: JsonStream, key: str, learn: Callable[[str], None], knows_all: Callable[[], bool]
) -> Iterator[list[Any]]:
    """The elements of the list `key` of the object ahead, after all that the object has besides.

    Args:
        json: the file, at the object.
        key: of the list.
        learn: called with every other key, the file at its value.
        knows_all: whether that was enough to begin with the list; if not, it is come back to from the end.
    """
    list_at = None
    for name in json.members():
        if name != key:
            learn(name)
        elif knows_all():
            yield from json.batches()
        else:
            list_at = json.position
    if list_at is not None:
        end = json.position
        json.seek(list_at)
        yield from json.batches()
        json.seek(end)
