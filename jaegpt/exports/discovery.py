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
from jaegpt.exports.sources import BadFileError, Entry, list_entries, printable

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

# Until autumn 2018 threads lay under `messages/` without a box. The search is greedy, so that the last `messages/`
# counts: the folder given may itself lie below another one of that name.
_THREAD_FILE = re.compile(rf"^(?:.*/)?messages/(?:({'|'.join(BOXES)})/)?([^/]+)/message(?:_(\d+))?\.(json|html)$")
_IN_A_BOX = re.compile(rf"(?:^|/)messages/(?:{'|'.join(BOXES)})/")
_OLD_HTML = re.compile(r"(?:^|/)(?:messages\.html?|messages/\d+\.html)$")
# The encrypted download is flat: `Anna Berg_12.json` at its top, some folders down where zips were unpacked by hand.
# Other files have such names too (`posts/your_posts_1.json`), so that a name alone proves nothing. Those that lie in
# the folder of a thread were sent by somebody.
_ENCRYPTED_FILE = re.compile(r"^(?!(?:.*/)?messages/[^/]+/[^/]+/)(?:.*/)?(?!message_)[^/]+_\d+\.json$")
_PROFILE = re.compile(
    r"(?:^|/)(?:profile_information/profile_information|personal_information/personal_information"
    r"|(?:messages|other_activity)/autofill_information|autofill_information)\.json$"
)

Format = Literal["messenger", "instagram", "encrypted"]


@dataclass(frozen=True, slots=True)
class MessageFile:
    """One file of messages: `thread` is the folder that identifies its thread, `number` its place (1 = newest)."""

    entry: Entry
    format: Format
    box: str
    thread: str
    number: int

    @property
    def thread_key(self) -> str:
        """What identifies its thread in all of an export; in one of its downloads, if they are encrypted."""
        return f"{'encrypted' if self.format == 'encrypted' else 'folder'}/{self.thread}"

    @property
    def download(self) -> str:
        """Where its download, or a zip of it, lies: a thread has one name in there."""
        return self.entry.folder if self.format == "encrypted" else self.entry.path.rpartition("/messages/")[0]

    @property
    def era(self) -> str:
        """When Meta wrote downloads of this layout."""
        if self.format == "encrypted":
            return "end-to-end-encrypted download"
        platform = "Instagram" if self.format == "instagram" else "Messenger"
        if self.entry.name.endswith("message.json"):
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
        notices: what was passed over though it might hold messages, a line each.
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
    for path in dict.fromkeys(os.path.normpath(path) for path in paths):
        # A folder inside a download (`.../messages/inbox`) works too: its own place says which box that is.
        prefix = Path(path).resolve().as_posix() + "/" if os.path.isdir(path) else ""
        listing = list_entries(path, partial(_wanted, prefix))
        found.problems += listing.problems
        for entry in listing.entries:
            _sort_in(found, entry, prefix if entry.index < 0 else "")
        for link in listing.links:
            _judge_link(found, path, prefix, link)
        if listing.far_zips:
            found.notices.append(
                f"{path}: zips that lie deeper, among threads, or in other zips are not opened "
                f"({len(listing.far_zips):,}, the first is {printable(min(listing.far_zips))}); if they are downloads, "
                "move them here"
            )
    found.files.sort(key=lambda file: (file.format == "encrypted", file.thread, -file.number))
    if not found.files and not found.problems:
        raise JaegptError(nothing_found(paths, found))
    return found


def _wanted(prefix: str, name: str) -> bool:
    return bool(
        _THREAD_FILE.match(prefix + name)
        or _OLD_HTML.search(name)
        or _PROFILE.search(name)
        or _ENCRYPTED_FILE.match(name)
    )


def _judge_link(found: Discovery, path: str, prefix: str, link: str) -> None:
    """A link to a folder stands in the way where threads belong, and is mentioned where they might be."""
    below = ("message_1.json", "x_1/message_1.json", "inbox/x_1/message_1.json")
    is_root = f"{PurePosixPath(link).name}/messages" in ROOTS
    if is_root or any(_THREAD_FILE.match(f"{prefix}{link}/{rest}") for rest in below):
        detail = "a link to another folder, which is not followed; give that folder in export.path"
        found.problems.append(BadFileError(f"{path}/{link}", "link", detail))
    elif "messages" not in PurePosixPath(link).parts and not _IN_A_BOX.search(prefix):
        found.notices.append(
            f"{printable(f'{path}/{link}')}: a link to another folder is not followed; if it holds messages, give that "
            "folder in export.path"
        )


def _sort_in(found: Discovery, entry: Entry, prefix: str) -> None:
    thread_file = _THREAD_FILE.match(prefix + entry.name)
    if thread_file:
        box, thread, number, suffix = thread_file.groups()
        if suffix == "html":
            found.html.append(entry)
            return
        format: Format = "instagram" if "your_instagram_activity/" in prefix + entry.name else "messenger"
        found.files.append(MessageFile(entry, format, box or BOXES[0], thread, int(number or 1)))
    elif _PROFILE.search(entry.name):
        found.profiles.append(entry)
    elif _OLD_HTML.search(entry.name):
        found.html.append(entry)
    else:
        stem = entry.name.rsplit("/", 1)[-1].removesuffix(".json")
        found.files.append(MessageFile(entry, "encrypted", ENCRYPTED_BOX, stem, 1))


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
