"""Files that hold messages and that nothing here reads: what they are, and what to do to have them read.

Each row: the file's name, what stands in its first bytes (None: the name is enough), and the line for people.
"""

import re

_HINTS: tuple[tuple[str, bytes | None, str], ...] = (
    (
        r"\.html?$",
        rb"<title>Exported Data</title>",
        "Telegram's HTML; in Telegram Desktop choose Export chat history, format: Machine-readable JSON",
    ),
    (
        r"(?i)messages\.(?:csv|json)$",
        rb"ID,Timestamp,Contents|\"Timestamp\":[^{}]*\"Contents\":",
        "Discord's own package, which has only your side of each talk; export with DiscordChatExporter, format JSON",
    ),
    (r"\.html?$", rb"chatlog__|DiscordChatExporter", "DiscordChatExporter's HTML; export with the format JSON"),
    (r"(?i)chat_history\.html?$", rb"(?i)snapchat|snap inc", "Snapchat's HTML; ask for My Data with Export JSON Files"),
    (r" - Text - .*\.html$", rb"hChatLog", "Google Voice's pages, which are not read"),
    (
        r"\.crypt\d*$",
        None,
        "WhatsApp's encrypted backup; export chats as text (docs/exports.md), or decrypt it to msgstore.db",
    ),
    (
        r"signal-[\d-]+\.backup$",
        None,
        "Signal's encrypted backup for Android; export as docs/exports.md says, or decrypt it with signalbackup-tools",
    ),
    (
        r"(?:^|/)sql/db\.sqlite$",
        None,
        "Signal Desktop's encrypted database; export it with signal-export (docs/exports.md)",
    ),
    (r"(?i)\.mbox$", rb"^From ", "e-mail, which is not read"),
    (r"(?:^|/)Manifest\.db$", None, "an encrypted backup of an iPhone, which is not read; make one without a password"),
    (r"\.(?:abu|ab)$", rb"ANDROID BACKUP", "a backup of an Android phone, which is not read"),
)
_COMPILED = [(re.compile(name), re.compile(head) if head else None, line) for name, head, line in _HINTS]


def hint_of(name: str, head: bytes) -> str | None:
    """What a file is that no reader took, and how to have its messages read; None for a file that says nothing."""
    for pattern, wanted, line in _COMPILED:
        if pattern.search(name) and (wanted is None or wanted.search(head)):
            return line
    return None
