"""What lies where in a download: message files by thread, whatever the year, the wrapping or the box."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import BadFileError, Entry, list_entries, printable
from jaegpt.exports.filenames import encrypted_stem, has_thread_id, message_file, thread_folder, unread_kind
from jaegpt.exports.message_files import BOXES, ENCRYPTED_BOX, ROOTS, MessageFile
from jaegpt.exports.sniffing import Sniffed, is_telling, may_hold_messages, sniff

# What people sent in a thread lies in these folders of it; files of any name may be among that.
_MEDIA = ("files", "photos", "videos", "audio", "gifs", "stickers_used", "stickers")

# Until autumn 2018 threads lay under `messages/` without a box, and new boxes come: any folder may be one. The search
# is greedy, so that the last `messages/` counts: the folder given may itself lie below another one of that name.
_THREAD_FILE = re.compile(r"^(?:.*/)?messages/(?:([^/]+)/)?([^/]+)/([^/]+)$", re.IGNORECASE | re.DOTALL)
_LOOSE_FILE = re.compile(r"^(?:.*/)?(?:([^/]+)/)?([^/]+)/([^/]+)$", re.DOTALL)  # its `messages/` was left behind
_IN_A_BOX = re.compile(rf"(?:^|/)messages/(?:{'|'.join(BOXES)})/")
_IN_A_THREAD = re.compile(r"(?:^|/)messages/[^/]+/[^/]+/", re.IGNORECASE)
_OLD_HTML = re.compile(r"(?:^|/)(?:messages\.html?|messages/\d+\.html)$")
# The encrypted download is flat: `Anna Berg_12.json` at its top, some folders down where zips were unpacked by hand.
# Other files have such names too (`posts/your_posts_1.json`), so that a name alone proves nothing. Those that lie in
# the folder of a thread were sent by somebody.
_NUMBERED_FILE = re.compile(r"(?:^|/)(?!message_)[^/]+_\d+(?:[\s(][^/]*)?\.json$", re.DOTALL)
_CONVERSATIONS = re.compile(r"(?:^|/)messages(?:[^\w/.][^/]*)?\.json$", re.IGNORECASE)
_PROFILE = re.compile(
    r"(?:^|/)(?:(?:profile_information/profile_information|(?:personal|account)_information/personal_information"
    r"|(?:messages|other_activity)/autofill_information|autofill_information)(?:[\s(][^/]*)?|profile)\.json$"
)

_UNREAD = {
    "unfinished": "not downloaded to the end, or not kept on this machine",
    "archive": "archives of a kind that is not opened (unpack them)",
    "unknown": "named as messages are but for their suffix",
}


@dataclass
class Discovery:
    """All that a set of paths holds.

    Attributes:
        files: Messenger's and Instagram's, in reading order; some may turn out to be only named like one.
        sources: files of all other messengers.
        profiles: files about the owner.
        html: files of messages that are not read.
        problems: what keeps messages from being read.
        notices: what was not read though it might hold messages, one line each.
        looked_at: paths of text, JSON and the like of which it is not known yet whether anything is read from them.
        suspects: those of them that look like messages of a format that nobody knows.
    """

    files: list[MessageFile] = field(default_factory=list)
    sources: list[Sniffed] = field(default_factory=list)
    profiles: list[Entry] = field(default_factory=list)
    html: list[Entry] = field(default_factory=list)
    problems: list[BadFileError] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)

    @property
    def num_files(self) -> int:
        return len(self.files) + len(self.sources)

    def suspects_but(self, read: Collection[str]) -> list[str]:
        """A line on the suspects that are not among `read`."""
        paths = self.suspects.difference(read)
        if not paths:
            return []
        return [
            f"files look like messages, and their format is not known ({len(paths):,}, the first is "
            f"{printable(min(paths))}); a table of them is read (docs/exports.md)"
        ]


def discover(paths: Sequence[str]) -> Discovery:
    """Find every file that holds messages under `paths`.

    Raises:
        JaegptError: a path does not exist, or no file of messages is found under any.
    """
    found = Discovery()
    unread: dict[str, list[str]] = {}
    for path in dict.fromkeys(os.path.normpath(path) for path in paths):
        # A folder inside a download (`.../messages/inbox`) works too: its own place says which box that is.
        is_folder = os.path.isdir(path)
        folder = Path(path if is_folder else os.path.dirname(path) or ".")
        prefix = folder.resolve().as_posix() + "/"
        listing = list_entries(path, partial(_wanted, prefix))
        found.problems += listing.problems
        unnumbered: list[MessageFile] = []
        num_before = found.num_files
        for entry in listing.entries:
            _sort_in(found, unnumbered, unread, entry, prefix if entry.index < 0 else "")
        folders = {file.entry.folder for file in found.files if file.format == "encrypted"}
        found.files += [file for file in unnumbered if file.entry.name.count("/") < 2 or file.entry.folder in folders]
        if not is_folder and [entry.path for entry in listing.entries] == [path] and found.num_files == num_before:
            raise JaegptError(_not_a_download(path, unread))
        for link in listing.links:
            _judge_link(found, path, prefix, link)
        if listing.far_zips:
            found.notices.append(
                f"{path}: zips that lie deeper, among threads, or in other zips are not opened "
                f"({len(listing.far_zips):,}, the first is {printable(min(listing.far_zips))}); if they are downloads, "
                "move them here"
            )
    for kind, names in unread.items():
        found.notices.append(
            f"files that may hold messages were not read: {_UNREAD.get(kind, kind)} ({len(names):,}, the first is "
            f"{printable(min(names))})"
        )
    found.files.sort(key=lambda file: (file.format == "encrypted", file.thread, -file.number))
    # Where one of the given paths lies in another, its files are found twice.
    found.sources = sorted({file.entry.path: file for file in found.sources}.values(), key=lambda file: file.entry.path)
    if not found.num_files and not found.problems:
        raise JaegptError(nothing_found(paths, found))
    return found


def _wanted(prefix: str, name: str) -> bool:
    path = prefix + name
    return bool(
        name.endswith((".json", ".JSON"))
        or _thread_file(path)
        or _OLD_HTML.search(name)
        or _unread(path)
        or may_hold_messages(path)
    )


def _thread_file(path: str) -> tuple[str, str, tuple[int, str]] | None:
    """(box, thread, what its name says) of a file with the place and name of one of messages; None for any other."""
    place = _THREAD_FILE.match(path)
    if place:
        box, thread, name = place.groups()
        lies_well = thread.lower() not in _MEDIA or (box or "").lower() in BOXES
    else:
        place = None if _IN_A_THREAD.search(path) else _LOOSE_FILE.match(path)
        if not place:
            return None
        box, thread, name = place.groups()
        lies_well = (box or "").lower() in BOXES or has_thread_id(thread)
        box = box if (box or "").lower() in BOXES else None
    named = message_file(name) if lies_well else None
    if not named:
        return None
    return (box.lower() if box and box.lower() in BOXES else box or BOXES[0]), thread_folder(thread), named


def _unread(path: str) -> str | None:
    place = _THREAD_FILE.match(path)
    if not place and _IN_A_THREAD.search(path):
        return None  # an attachment
    return unread_kind(path.rpartition("/")[2], place is not None)


def _judge_link(found: Discovery, path: str, prefix: str, link: str) -> None:
    """A link to a folder is a problem where threads belong, and a notice where there might be some."""
    below = ("message_1.json", "x_1/message_1.json", "inbox/x_1/message_1.json")
    is_root = f"{PurePosixPath(link).name}/messages" in ROOTS
    if is_root or any(_is_in_known_box(f"{prefix}{link}/{rest}") for rest in below):
        detail = "a link to another folder, which is not followed; give that folder in export.path"
        found.problems.append(BadFileError(f"{path}/{link}", "link", detail))
    elif "messages" not in PurePosixPath(link).parts and not _IN_A_BOX.search(prefix):
        found.notices.append(
            f"{printable(f'{path}/{link}')}: a link to another folder is not followed; if it holds messages, give that "
            "folder in export.path"
        )


def _is_in_known_box(path: str) -> bool:
    place = _THREAD_FILE.match(path)
    return bool(place and (place[1] is None or place[1] in BOXES))


def _sort_in(
    found: Discovery, unnumbered: list[MessageFile], unread: dict[str, list[str]], entry: Entry, prefix: str
) -> None:
    path = prefix + entry.name
    thread_file = _thread_file(path)
    kind = _unread(path)
    if thread_file:
        box, thread, (number, suffix) = thread_file
        if suffix != "json":
            found.html.append(entry)
            return
        format = "instagram" if "your_instagram_activity/" in path else "messenger"
        found.files.append(MessageFile(entry, format, box, thread, number))
    elif _PROFILE.search(entry.name):
        found.profiles.append(entry)
    elif kind:
        unread.setdefault(kind, []).append(entry.path)
    elif not _is_of_another_messenger(found, unread, entry, path):
        if _OLD_HTML.search(entry.name):
            found.html.append(entry)
        elif entry.name.lower().endswith(".json") and not _IN_A_THREAD.search(entry.name):
            _sort_in_by_content(found, unnumbered, entry, path)


def _is_of_another_messenger(found: Discovery, unread: dict[str, list[str]], entry: Entry, path: str) -> bool:
    """Whether a file's first bytes show what it is: for a reader, or something that nothing reads."""
    if not may_hold_messages(path):
        return False
    verdict = sniff(entry)
    if is_telling(entry.name):
        found.looked_at.add(entry.path)
    if verdict.is_suspect:
        found.suspects.add(entry.path)
    if verdict.notice:
        found.notices.append(verdict.notice)
    if verdict.sniffed:
        found.sources.append(verdict.sniffed)
    elif verdict.hint:
        unread.setdefault(verdict.hint, []).append(entry.path)
    return bool(verdict.sniffed or (verdict.hint and not verdict.is_damaged))


def _sort_in_by_content(found: Discovery, unnumbered: list[MessageFile], entry: Entry, path: str) -> None:
    """Files whose content has to show what they are."""
    folder, _, name = path.rpartition("/")
    stem = name[: -len(".json")]
    if _CONVERSATIONS.search(path):
        found.files.append(MessageFile(entry, "conversations", BOXES[0], stem, 0))
    elif _NUMBERED_FILE.search(entry.name):
        found.files.append(MessageFile(entry, "encrypted", ENCRYPTED_BOX, encrypted_stem(stem), 1))
    elif folder.endswith("/messages") or folder == "messages":
        return  # settings
    elif message_file(name):
        thread = folder.rpartition("/")[2] or entry.source
        unnumbered.append(MessageFile(entry, "messenger", BOXES[0], thread, 0))
    else:
        unnumbered.append(MessageFile(entry, "encrypted", ENCRYPTED_BOX, stem, 0))


def _not_a_download(path: str, unread: dict[str, list[str]]) -> str:
    """The message for a user who gave one file, which nothing reads."""
    why = "".join(f" It is {_UNREAD.get(kind, kind)}." for kind in unread)
    return (
        f"export.path: {printable(path)} is neither a folder nor a zip, nor a file of a messenger that is read "
        f"(docs/exports.md lists them).{why} Give the download itself."
    )


def nothing_found(paths: Sequence[str], found: Discovery) -> str:
    """The message for a user in whose download there is no thread."""
    where = ", ".join(paths)
    notices = "".join(f"\n  {notice}" for notice in (*found.notices, *found.suspects_but(())))
    if found.files:
        names = f"{len(found.files):,} with such a name, the first is {printable(found.files[0].entry.path)}"
        notices = f"\n  files that have only the name of encrypted threads: {names}{notices}"
    if found.html:
        return (
            f"export.path: {where} holds messages as HTML only (files: {len(found.html):,}), whose times have no zone "
            "and no seconds. Ask Meta for the download again: Accounts Centre > Your information and permissions > "
            f"Export your information > Messages, all time, format JSON.{notices}"
        )
    return (
        f"export.path: no threads under {where} (looked for {', '.join(ROOTS)}, each with {', '.join(BOXES)}, and for "
        "NAME_1.json of an encrypted download), and no file of another messenger (docs/exports.md lists them). Give "
        "the folder that holds `your_facebook_activity`, or the zip itself."
        f"{notices}"
    )
