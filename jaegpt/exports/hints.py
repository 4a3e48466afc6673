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
    """What a file is that no reader took, and how to have its messages read; None where nothing in it shows that."""
    for pattern, wanted, line in _COMPILED:
        if pattern.search(name) and (wanted is None or wanted.search(head)):
            return line
    return None


# What the files of chats have in common, whatever wrote them: somebody, a time, and words.
_IN_JSON = (
    re.compile(rb'"(?:sender|from|author|user|nick)\w*"\s*:', re.IGNORECASE),
    re.compile(rb'"\w*(?:time|date|created|sent)\w*"\s*:|"ts"\s*:', re.IGNORECASE),
    re.compile(rb'"(?:text|messages?|msg|body|contents?)"\s*:', re.IGNORECASE),
)
_WORDS_COLUMN = re.compile(r"text|messages?|msg|body|contents?|nachricht|mensaje|texto|texte", re.IGNORECASE)
_TIME_COLUMN = re.compile(r"\w*(?:time|date|sent|created|datum|fecha|zeit)\w*", re.IGNORECASE)
_LINE = re.compile(
    rb"^\W{0,3}(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}[:.]\d\d)[^\n]{0,60}?[:>\t] ?[^\s]", re.MULTILINE
)
_FEW_LINES = 3
_ELEMENT = re.compile(rb"<(?:sms|mms|messages?|msg|chat)[\s>]", re.IGNORECASE)


def looks_like_messages(name: str, head: bytes) -> bool:
    """Whether a file that no reader took may hold a chat all the same, by its suffix and first bytes."""
    suffix = name.lower().rpartition(".")[2]
    if suffix in ("json", "jsonl", "ndjson"):
        return all(pattern.search(head) for pattern in _IN_JSON)
    if suffix in ("csv", "tsv"):
        names = re.split(r'[",;\t\s]+', head.partition(b"\n")[0].decode("utf-8", "replace"))
        return all(any(pattern.fullmatch(name) for name in names) for pattern in (_WORDS_COLUMN, _TIME_COLUMN))
    if suffix == "xml":
        return bool(_ELEMENT.search(head))
    return suffix in ("txt", "md") and len(_LINE.findall(head)) >= _FEW_LINES
