"""All readers of chat formats: every module in `jaegpt.exports.readers` that ends in a READER or in READERS."""

import functools
import importlib
import pkgutil

from jaegpt.exports import readers
from jaegpt.exports.reader import Reader

# A table of messages may look like much: those of a messenger are asked first.
_LAST = "table"


@functools.cache
def all_readers() -> tuple[Reader, ...]:
    """The readers in the order in which ties are decided. A module that cannot be imported is an error, not a gap."""
    names = sorted((module.name for module in pkgutil.iter_modules(readers.__path__)), key=lambda name: name == _LAST)
    found: list[Reader] = []
    for name in names:
        module = importlib.import_module(f"{readers.__name__}.{name}")
        found += getattr(module, "READERS", [module.READER] if hasattr(module, "READER") else [])
    assert len({reader.name for reader in found}) == len(found), "two readers of one name"
    return tuple(found)


def reader_named(name: str) -> Reader:
    """The reader whose `name` this is."""
    return next(reader for reader in all_readers() if reader.name == name)
