"""SQLite databases of messengers: a private copy, opened so that nothing in it is trusted or changed."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile

HEADER = b"SQLite format 3\0"
MAYBE, SURE = 0.3, 0.8  # the first page names the tables of a small schema only; others are found when it is opened
MAX_VALUE_BYTES = 64 * 2**20  # of a text or blob; a damaged length would have SQLite allocate gigabytes
FETCH_ROWS = 4096  # rows that are taken from SQLite at a time


def sniff_tables(head: bytes, *names: bytes) -> float:
    """How sure it is that a file's first bytes are of a database with these tables."""
    if not head.startswith(HEADER):
        return 0.0
    return SURE if all(name in head for name in names) else MAYBE


@contextmanager
def opened(file: SourceFile, tables: Collection[str]) -> Iterator[sqlite3.Connection]:
    """A connection to a private copy of the database and of its write-ahead log, which holds the newest messages.

    A program that is writing to it may have locked it; a journal beside it undoes what is half written in the copy.

    Raises:
        BadFileError: it lacks one of the tables (`not_this_format`), or it is damaged or encrypted: also while it is
            being read.
    """
    try:
        # The copy is opened for writing, since only then SQLite takes in the log whatever state it was left in.
        companions = ("-wal", "-shm", "-journal")
        with file.copied(*companions) as path, closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as base:
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            base.text_factory = partial(str, encoding="utf-8", errors="replace")
            base.execute("PRAGMA query_only = ON")
            base.execute("PRAGMA trusted_schema = OFF")
            # A view of such a name could be a query without an end.
            found = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = sorted(set(tables) - found)
            if missing:
                detail = f"a database without the table {', '.join(missing)}"
                raise BadFileError(file.name, "not_this_format", detail)
            yield base
    # The last of them: SQLite's own words quote bytes of a damaged schema.
    except (sqlite3.Error, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise BadFileError(file.name, *_what_is_wrong(str(error))) from None


def columns_of(base: sqlite3.Connection, table: str) -> frozenset[str]:
    """The names of a table's columns in lower case: they come and go with every release."""
    return frozenset(str(row[1]).lower() for row in base.execute(f"PRAGMA table_info({table})"))


def _what_is_wrong(error: str) -> tuple[str, str]:
    if "not a database" in error:
        return "encrypted", "no readable database: it is encrypted, or not a database at all. Give the decrypted one"
    return "damaged_database", f"the database is damaged or was cut short ({error}); copy it again, with its -wal file"
