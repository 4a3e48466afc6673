"""The `export` section of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from jaegpt.exports.reader import DateOrder
from jaegpt.exports.zones import zone_name


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which downloads to read and how.

    Raises:
        ValueError: a list or a text that has to say something is empty, or a value is unknown.
    """

    path: str | list[str]  # a folder, a zip, or several of them that belong together
    owner: str | list[str]  # `auto`, a display name, or all names that one person has used
    exclude: list[str]  # display names, thread titles or thread folders that are left out
    on_error: Literal["stop", "skip"]  # what to do with a file that cannot be read
    system_patterns: list[str]  # regular expressions (RE2) for whole lines that no human wrote
    redact: bool  # replace e-mail addresses, numbers and links by placeholders
    timezone: str | None  # of formats that write local time: an IANA name; null or `local` is the machine's
    date_order: DateOrder  # of formats that write dates in the phone's order: auto finds it in each file
    newest_months: int | None  # only what was written in the last months before the newest message; null: all
    boxes: list[Literal["inbox", "archived", "requests"]]  # the boxes to use
    reactions: bool = False  # emoji reactions, and stickers that stand for an emoji, become messages of that emoji

    def __post_init__(self) -> None:
        if not self.paths or not all(path.strip() for path in self.paths):
            raise ValueError(f"path: found {self.path!r}. Give the folder or the zip of the download.")
        if not self.owners or not all(name.strip() for name in self.owners):
            raise ValueError(f"owner: found {self.owner!r}. Give `auto`, a name, or a list of names.")
        if not all(name.strip() for name in self.exclude):
            raise ValueError("exclude: found an empty name. Remove it, or write the name out.")
        if self.newest_months is not None and self.newest_months < 1:
            raise ValueError(f"newest_months: found {self.newest_months}. Give 1 or more, or null for all.")
        if not self.boxes:
            raise ValueError("boxes: found none. Give one or more of inbox, archived and requests.")
        zone_name(self.timezone)

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path

    @property
    def owners(self) -> list[str]:
        """The owner's names, or `["auto"]`."""
        return [self.owner] if isinstance(self.owner, str) else self.owner
