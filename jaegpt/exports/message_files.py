"""A file of messages as discovery found it: which thread, box and download it belongs to, and what it is called."""

import hashlib
import re
from dataclasses import dataclass

from jaegpt.exports.archives import Entry

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
# What `export.boxes` calls them. A box of any other name is a new one of Meta's, and counts as the inbox.
_KINDS = {
    "archived_threads": "archived",
    "archived": "archived",
    "filtered_threads": "requests",
    "message_requests": "requests",
    "requests": "requests",
}

# What `source` may say: the messengers that are read here, and `other` for tables that name none.
SOURCES = (
    *("messenger", "instagram", "whatsapp", "telegram", "discord", "imessage", "signal", "sms", "slack", "google_chat"),
    *("hangouts", "line", "kakaotalk", "snapchat", "matrix", "chatlab", "other"),
)
# Sources in which a thread is known by its title alone, and so goes by another name when the contact is renamed.
KNOWN_BY_TITLE = ("kakaotalk", "line", "whatsapp")
# What stands before the keys of Meta's threads, or is a format of theirs: no other source may be called so.
RESERVED_SOURCES = ("conversations", "encrypted", "folder")


@dataclass(frozen=True, slots=True)
class MessageFile:
    """One file of messages, or one thread of a file that holds several.

    Attributes:
        format: of Meta's files messenger, instagram, encrypted or conversations; of others their source.
        thread: the folder that identifies its thread, without the mark of a copy; in other sources the thread's key.
        number: its place (1 = newest); 0 where the name does not show that it is of messages.
        reader: the name of the reader that knows the format; "" for Meta's.
    """

    entry: Entry
    format: str
    box: str
    thread: str
    number: int
    reader: str = ""

    @property
    def source(self) -> str:
        """The value of the column `source`."""
        if self.reader:
            return self.format
        return "instagram" if self.format in ("instagram", "conversations") else "messenger"

    @property
    def thread_key(self) -> str:
        """What identifies its thread in all of an export; in one of its downloads, if they are encrypted."""
        if self.reader:
            return f"{self.format}/{self.thread}"
        return f"{'encrypted' if self.format == 'encrypted' else 'folder'}/{self.thread}"

    @property
    def download(self) -> str:
        """Where its download, or a zip of it, lies: a thread has one name in there."""
        if self.reader:
            return self.entry.path
        if self.format in ("encrypted", "conversations"):
            return self.entry.folder
        before, found, _ = self.entry.path.rpartition("/messages/")
        return before if found else self.entry.source

    @property
    def witness(self) -> str:
        """The file: it holds each message once, another may hold it again.

        Also one of the same folder, where two downloads were unpacked over one another.
        """
        return self.entry.path

    @property
    def era(self) -> str:
        """What wrote it: the reader's name, or when Meta wrote downloads of this layout."""
        if self.reader:
            return self.reader
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


def thread_id(key: str) -> str:
    """A hash of a thread's key: it distinguishes threads and names nobody."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def box_kind(box: str) -> str:
    """inbox, archived or requests: what `export.boxes` calls a box."""
    return _KINDS.get(box, "inbox")
