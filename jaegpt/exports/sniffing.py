"""Which reader a file is for, by its first bytes: a name alone shows nothing, and two may think it theirs."""

import re
from dataclasses import dataclass

from jaegpt.exports.archives import BadFileError, Entry, printable
from jaegpt.exports.hints import hint_of, looks_like_messages
from jaegpt.exports.message_files import BOXES
from jaegpt.exports.reader import HEAD_BYTES
from jaegpt.exports.registry import all_readers
from jaegpt.exports.streams import open_entry
from jaegpt.exports.text import BYTE_ORDER_MARK

SURE = 0.5  # a reader that is surer than this gets the file
MAYBE = 0.3  # of a database the first bytes show little more than that it is one: these are tried in turn
SQLITE = b"SQLite format 3\0"

# What people send each other; no chat is kept in such files, and an export has tens of thousands of them.
_MEDIA = re.compile(
    r"\.(?:jpe?g|png|gif|webp|heic|heif|bmp|tiff?|svg|ico|mp4|m4v|mov|3gp|avi|mkv|webm|mp3|m4a|aac|amr|ogg|oga|opus|"
    r"wav|flac|caf|tgs|thumb|webarchive|docx?|xlsx?|pptx?|odt|ods|pdf|epub|vcf|ics|css|js|woff2?|ttf|otf|apk|exe|dmg|"
    r"zip|py|pyc|dat)$",
    re.IGNORECASE,
)
_TELLING = re.compile(r"\.(?:txt|json|jsonl|ndjson|xml|csv|tsv|parquet|db|sqlite3?|md)$", re.IGNORECASE)
# Files of a thread of Messenger or Instagram were sent by somebody, whatever they hold.
_SENT = re.compile(
    rf"(?:^|/)messages/(?:(?:{'|'.join(BOXES)})/[^/]+/"
    r"|(?:[^/]+/)?[^/]+_(?:\d+|[A-Za-z0-9_-]{10})/(?:files|photos|videos|audio|gifs|stickers_used|stickers)/)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file, the names of the readers to try in turn, and how sure the first of them is (0 to 1)."""

    entry: Entry
    readers: tuple[str, ...]
    certainty: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a file; all may be missing.

    Attributes:
        sniffed: it is to be read.
        hint: what it is, and why it is not read.
        notice: what was decided about it, for people.
        is_damaged: the hint is why its first bytes could not be seen.
        is_suspect: nobody knows its format, and it looks like messages.
    """

    sniffed: Sniffed | None = None
    hint: str | None = None
    notice: str | None = None
    is_damaged: bool = False
    is_suspect: bool = False


def may_hold_messages(path: str) -> bool:
    """Whether a file is worth opening, from its path alone."""
    return not (_MEDIA.search(path) or _SENT.search(path))


def is_telling(path: str) -> bool:
    """Whether files of such a name are what exports are made of, so that one that is not read is counted."""
    return bool(_TELLING.search(path))


def sniff(entry: Entry) -> Verdict:
    """Look at the first bytes of a file and ask every reader."""
    if entry.fault or entry.size == 0:
        return Verdict()
    try:
        with open_entry(entry, HEAD_BYTES) as stream:
            head = stream.read(HEAD_BYTES).removeprefix(BYTE_ORDER_MARK)
    except BadFileError as problem:
        hint = hint_of(entry.name, b"")
        return Verdict(hint=hint or (problem.detail if _TELLING.search(entry.name) else None), is_damaged=not hint)
    certainties = {reader.name: reader.sniff(entry.path, head) for reader in all_readers()}
    ranked = sorted(certainties, key=lambda name: -certainties[name])  # stable: ties in the order of the registry
    best = certainties[ranked[0]] if ranked else 0.0
    is_database = head.startswith(SQLITE)
    if best > SURE or (is_database and best >= MAYBE):
        notice = None
        if best > SURE and len(ranked) > 1 and certainties[ranked[1]] == best:
            notice = f"{printable(entry.path)}: could be of {ranked[0]} or of {ranked[1]}; it was read as {ranked[0]}"
        names = tuple(name for name in ranked if certainties[name] > SURE or certainties[name] >= MAYBE)
        return Verdict(Sniffed(entry, names if is_database else names[:1], best), notice=notice)
    hint = hint_of(entry.name, head)
    if not hint and best >= MAYBE and not entry.name.lower().endswith(".json"):
        hint = f"they look a little like {ranked[0]}, which is not enough to read them"
    return Verdict(hint=hint, is_suspect=not hint and looks_like_messages(entry.name, head))
