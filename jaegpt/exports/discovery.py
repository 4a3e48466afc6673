"""What lies where in a download: message files by thread, whatever the year, the wrapping or the box."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from jaegpt.errors import JaegptError
from jaegpt.exports.archives import BadFileError, Entry, list_entries, printable
from jaegpt.exports.filenames import encrypted_stem, has_thread_id, message_file, thread_folder, unread_kind

# A thread that stands in several boxes, in downloads of different days, counts for the first of them.
BOXES = ("inbox", "archived_threads", "filtered_threads", "message_requests", "e2ee_cutover")
ENCRYPTED_BOX = "encrypted_download"
ROOTS = (
    "your_facebook_activity/messages",
    "your_activity_across_facebook/messages",
    "your_instagram_activity/messages",
    "messages",
)
_YEARS = {
    "your_facebook_activity": "since 2024",
    "your_activity_across_facebook": "2023 to 2024",
    "your_instagram_activity": "since 2022",
}
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

Format = Literal["messenger", "instagram", "encrypted", "conversations"]
_UNREAD = {
    "unfinished": "not downloaded to the end, or not kept on this machine",
    "archive": "archives of a kind that is not opened (unpack them)",
    "unknown": "named as messages are but for their suffix",
}


@dataclass(frozen=True, slots=True)
class MessageFile:
    """One file of messages.

    Attributes:
        thread: the folder that identifies its thread, without the mark of a copy.
        number: its place (1 = newest); 0 where the name does not show that it is of messages.
        copy: what a browser or a file manager added to the file's name.
    """

    entry: Entry
    format: Format
    box: str
    thread: str
    number: int
    copy: str = ""

    @property
    def thread_key(self) -> str:
        """What identifies its thread in all of an export; in one of its downloads, if they are encrypted."""
        return f"{'encrypted' if self.format == 'encrypted' else 'folder'}/{self.thread}"

    @property
    def download(self) -> str:
        """Where its download, or a zip of it, lies: a thread has one name in there."""
        if self.format in ("encrypted", "conversations"):
            return self.entry.folder
        before, found, _ = self.entry.path.rpartition("/messages/")
        return before if found else self.entry.source

    @property
    def witness(self) -> tuple[str, str]:
        """The copy of the thread that it is part of: none of them holds a message twice, two may hold the same."""
        return self.entry.folder, self.copy

    @property
    def era(self) -> str:
        """When Meta wrote downloads of this layout."""
        if self.format == "encrypted":
            return "end-to-end-encrypted download"
        if self.format == "conversations":
            return "Instagram, until 2020"
        platform = "Instagram" if self.format == "instagram" else "Messenger"
        if re.search(r"message(?:[^\w/.][^/]*)?\.json$", self.entry.name):
            return f"{platform}, early 2018"
        for root, years in _YEARS.items():
            if f"{root}/messages/" in self.entry.path:
                return f"{platform}, {years}"
        return f"{platform}, 2018 to 2023"


@dataclass
class Discovery:
    """All that a set of paths holds.

    Attributes:
        files: those of messages, in reading order, and those that may only have the name of one.
        profiles: files about the owner.
        html: files of messages that are not read.
        problems: what stands in the way of messages.
        notices: what was not read though it might hold messages, a line each.
    """

    files: list[MessageFile] = field(default_factory=list)
    profiles: list[Entry] = field(default_factory=list)
    html: list[Entry] = field(default_factory=list)
    problems: list[BadFileError] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def thread_id(key: str) -> str:
    """A hash of a thread's key: it tells threads apart and names nobody."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def discover(paths: Sequence[str]) -> Discovery:
    """Find every message file under `paths`.

    Raises:
        JaegptError: a path does not exist, or no file of messages is found under any.
    """
    found = Discovery()
    unread: dict[str, list[str]] = {}
    for path in dict.fromkeys(os.path.normpath(path) for path in paths):
        # A folder inside a download (`.../messages/inbox`) works too: its own place says which box that is.
        prefix = Path(path).resolve().as_posix() + "/" if os.path.isdir(path) else ""
        listing = list_entries(path, partial(_wanted, prefix))
        found.problems += listing.problems
        unnumbered: list[MessageFile] = []
        for entry in listing.entries:
            _sort_in(found, unnumbered, unread, entry, prefix if entry.index < 0 else "")
        folders = {file.entry.folder for file in found.files if file.format == "encrypted"}
        found.files += [file for file in unnumbered if file.entry.name.count("/") < 2 or file.entry.folder in folders]
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
            f"files that may hold messages were not read: {_UNREAD[kind]} ({len(names):,}, the first is "
            f"{printable(min(names))})"
        )
    found.files.sort(key=lambda file: (file.format == "encrypted", file.thread, -file.number))
    if not found.files and not found.problems:
        raise JaegptError(nothing_found(paths, found))
    return found


def _wanted(prefix: str, name: str) -> bool:
    return bool(
        name.endswith((".json", ".JSON"))
        or _thread_file(prefix + name)
        or _OLD_HTML.search(name)
        or _unread(prefix + name)
    )


def _thread_file(path: str) -> tuple[str, str, tuple[int, str, str]] | None:
    """(box, thread, what its name says) of a file that lies and is named as those of messages do and are."""
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
        return None  # sent by somebody
    return unread_kind(path.rpartition("/")[2], place is not None)


def _judge_link(found: Discovery, path: str, prefix: str, link: str) -> None:
    """A link to a folder stands in the way where threads belong, and is mentioned where they might be."""
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
        box, thread, (number, copy, suffix) = thread_file
        if suffix != "json":
            found.html.append(entry)
            return
        format: Format = "instagram" if "your_instagram_activity/" in path else "messenger"
        found.files.append(MessageFile(entry, format, box, thread, number, copy))
    elif _PROFILE.search(entry.name):
        found.profiles.append(entry)
    elif _OLD_HTML.search(entry.name):
        found.html.append(entry)
    elif kind:
        unread.setdefault(kind, []).append(entry.path)
    elif not _IN_A_THREAD.search(entry.name):
        _sort_in_by_content(found, unnumbered, entry, path)


def _sort_in_by_content(found: Discovery, unnumbered: list[MessageFile], entry: Entry, path: str) -> None:
    """Files whose content has to show what they are."""
    folder, _, name = path.rpartition("/")
    stem = name[: -len(".json")]
    if _CONVERSATIONS.search(path):
        found.files.append(MessageFile(entry, "conversations", BOXES[0], stem, 0, stem[len("messages") :]))
    elif _NUMBERED_FILE.search(entry.name):
        found.files.append(MessageFile(entry, "encrypted", ENCRYPTED_BOX, *_stem_number_copy(stem)))
    elif folder.endswith("/messages") or folder == "messages":
        return  # settings
    elif named := message_file(name):
        number_0 = MessageFile(entry, "messenger", BOXES[0], folder.rpartition("/")[2] or entry.source, 0, named[1])
        unnumbered.append(number_0)
    else:
        unnumbered.append(MessageFile(entry, "encrypted", ENCRYPTED_BOX, stem, 0))


def _stem_number_copy(stem: str) -> tuple[str, int, str]:
    name, copy = encrypted_stem(stem)
    return name, 1, copy


def nothing_found(paths: Sequence[str], found: Discovery) -> str:
    """What to tell a user in whose download there is no thread."""
    where = ", ".join(paths)
    notices = "".join(f"\n  {notice}" for notice in found.notices)
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
        "NAME_1.json of an encrypted download). Give the folder that holds `your_facebook_activity`, or the zip itself."
        f"{notices}"
    )
