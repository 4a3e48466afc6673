"""What the tests of all readers' reactions do: read a file without and with them, and compare both."""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from helpers.reader_checks import dropped, messages, ms
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread

TIME, LATER = "2024-03-05T14:03:21", "2024-03-05T14:05:00"
AT, AFTER = ms(f"{TIME}Z"), ms(f"{LATER}Z")


def read(reader: Reader, path: Path, reactions: bool) -> list[SourceThread]:
    options = ReadOptions(timezone=ZoneInfo("UTC"), reactions=reactions)
    threads = list(reader.read(SourceFile(str(path)), options, lambda line: None))
    assert all(thread.num_read == len(thread.texts) + thread.dropped.total() for thread in threads)
    return threads


def check(reader: Reader, path: Path, off: Any, on: Any, lost: int, lost_off: int = 0) -> None:
    """Off and on: (sender, ms, text) of all messages; lost: reactions that are left out."""
    for reactions, expected, count in ((False, off, lost_off), (True, on, lost)):
        threads = read(reader, path, reactions)
        assert messages(threads) == expected
        assert dropped(threads).get("reaction", 0) == count
