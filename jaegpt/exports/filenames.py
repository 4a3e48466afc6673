"""What the names of a download's files and folders say, also where a browser, a cloud or a file manager changed them.

Meta writes no space into the name of a thread's folder or of a message file. What comes behind one is the mark of a
copy, in whatever language: `x_1001 2`, `x_1001 - Copie`, `message_1 (1).json`, `Kopie von message_1.json`.
"""

import re

_COPY = r"(?:[^\w.].*|[^\x00-\x7f].*)"
# `title_digits` since about 2021, `title_TENletters` before, two letters in spring 2018.
_FOLDER = re.compile(
    rf"(?P<before>(?:\S+\s+){{0,4}})(?P<name>\S*_(?:\d+|[A-Za-z0-9_-]{{10}}))(?P<behind>{_COPY})?"
    r"|(?P<short>\S+_[A-Za-z0-9_-]+)(?P<mark>[\s(].*)",
    re.DOTALL,
)
_FILE = re.compile(
    rf"(?P<before>.{{1,40}}\s)?message(?:_(?P<number>\d+))?(?P<behind>{_COPY})?\.(?P<suffix>json|html?)",
    re.IGNORECASE | re.DOTALL,
)
_HAS_ID = re.compile(r"_(?:\d+|[A-Za-z0-9_-]{10})$")
_NUMBERED = re.compile(r"(?P<name>.+_\d+)(?:[\s(].*)?", re.DOTALL)
# Downloads that are not done, files that a cloud keeps elsewhere, and archives that are not zips.
_UNFINISHED = re.compile(
    r"\.(?:crdownload|opdownload|part|partial|filepart|download|aria2|icloud)$|\.(?:zip|json)\.tmp$", re.IGNORECASE
)
_ARCHIVE = re.compile(
    r"\.(?:7z|rar|tar|t[gbx]z|tbz2|zipx|z\d\d|zip\.\d+|tar\.\w+|(?:json|zip)\.(?:gz|bz2|xz|zst))$", re.IGNORECASE
)
_UNREAD_MESSAGES = re.compile(r"message_\d+(?:\W.*)?", re.IGNORECASE | re.DOTALL)
MAX_NUMBER = 10**9


def thread_folder(name: str) -> str:
    """The name that Meta gave to the folder of a thread: `x_1001 - Copy (2)` -> `x_1001`."""
    match = _FOLDER.fullmatch(name)
    return (match["name"] or match["short"]) if match else name


def has_thread_id(folder: str) -> bool:
    """Whether a folder's name ends as those of threads do."""
    return bool(_HAS_ID.search(thread_folder(folder)))


def message_file(name: str) -> tuple[int, str] | None:
    """(number, suffix) of a file that is named as those of messages are; None for any other."""
    match = _FILE.fullmatch(name)
    if not match:
        return None
    digits = match["number"] or "1"  # Python refuses to read numbers of thousands of digits
    number = int(digits) if len(digits) < 10 else MAX_NUMBER
    return number, match["suffix"].lower()


def encrypted_stem(stem: str) -> str:
    """The name of a file of the encrypted download without the mark of a copy: `Bo_12 (1)` -> `Bo_12`."""
    match = _NUMBERED.fullmatch(stem)
    return match["name"] if match else stem


def unread_kind(name: str, is_in_thread: bool) -> str | None:
    """Why a file that may hold messages cannot be read, from its name alone; None for one that need not be named."""
    if is_in_thread:
        if not _UNREAD_MESSAGES.search(name.removeprefix(".")) or message_file(name):
            return None
        return "unfinished" if _UNFINISHED.search(name) else "unknown"
    if _UNFINISHED.search(name):
        return "unfinished"
    return "archive" if _ARCHIVE.search(name) else None
