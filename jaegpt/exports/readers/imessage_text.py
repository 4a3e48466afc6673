"""imessage-exporter's text files, one per conversation: second best to chat.db, which has more and needs no guesses.

A message is a line with its time, a line with its sender, and its text, until an empty line and the next time follow:

    May 17, 2022  5:29:42 PM (Read by them after 2 seconds)
    Me
    see you at nine
    Tapbacks:
        Loved by Anna Berg
        May 17, 2022  5:31:00 PM       <- a reply, which stands at its own place again
        ...
"""

import re
from collections.abc import Callable, Iterator

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reactions import REASON, add_reaction, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import HourClock
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, malformed
from jaegpt.exports.readers.tapbacks import SIGNS, is_tapback, tapback_emoji
from jaegpt.exports.readers.text_blocks import blocks

OWNER = "Me"
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: f"{number:02}" for number, name in enumerate(_NAMES, start=1)}
_TIME = rf"(?:{'|'.join(_MONTHS)}) \d\d, \d{{4}} [ \d]\d:\d\d:\d\d [AP]M"
# Earlier versions of an edited message begin with a time too, so that an empty line has to stand before.
_START = re.compile(rf"\n(?<![^\n]\n){_TIME}(?=[ \n]|$)", re.ASCII)
_BETWEEN = re.compile(rf"(?:\A|\n)\n+(?={_TIME}(?:[ \n]|\Z))", re.ASCII)
_TIME_WIDTH = len("May 17, 2022  5:29:42 PM")
_EARLIER = re.compile(_TIME, re.ASCII)
_LINK = re.compile(r"https?://\S+(?=\n)")
_EDITED = re.compile(r"(?:^|\n)Edited [^\n:]{0,60}later: ")
_UNSENT = re.compile(r"[^\n]{1,80} unsent (?:this message part|a message)[^\n]*|(?:You|They) deleted a message\.")
_DELETED = "This message was deleted from the conversation!"
# Tapbacks to the message that they follow. Newer versions indent them, and its replies too, which begin with a time.
_VERBS = {verb.removesuffix(" at"): sign for verb, sign in SIGNS.items()}
_GIVEN = rf"(?:{'|'.join(_VERBS)}|Unknown emoji!|[^A-Za-z\s]\S*) by .+|Sticker from .+(?:: .+| not found!)"
_TAPBACKS = re.compile(rf"^(?:Tapbacks|Reactions):((?:\n    (?:{_GIVEN}))+|(?:\n(?:{_GIVEN}))+)", re.MULTILINE)
# Lines that the program added.
_ADDED = re.compile(
    rf"    .*|(?:Tapbacks|Reactions):|(?:{'|'.join(_VERBS)}) by .+|Sticker from .+: .+"
    r"|This message responded to an earlier message\.|Sent with [A-Z][\w ]+"
)
_ATTACHMENT = re.compile(
    r"Attachment missing!|attachments/.+|(?:~|/).*/Library/(?:Messages|SMS)/.+|.*MobileSync/Backup/.+"
    r"|Transcription: .+|[^\s/]+\.(?:jpe?g|heic|png|gif|mov|mp4|caf|amr|m4a|pdf|vcf|pluginPayloadAttachment)",
    re.IGNORECASE,
)
# What a text must have in it for any of these rules to matter; most have nothing of it.
_TELLING = re.compile(
    r"\n    |[/\\]|Tapbacks:|Reactions:|This message|Sent with|Edited|Attachment|Transcription|SharePlay|sharing loc"
    r"|unsent|deleted a| message:|\.\w{3,24}$|Liked an?|Loved an?|Laughed at|Emphasi.ed an?|Questioned an?|Disliked an?"
)
_ORPHANED = "orphaned"  # the file of messages that are in no conversation any more
_APP = re.compile(r"[^\n]{1,60} message:(?:\n.*)?", re.DOTALL)
_LOCATION = re.compile(r"St(?:art|opp)ed sharing location!")


def sniff(name: str, head: bytes) -> float:
    start = head.decode("utf-8", "replace").replace("\r\n", "\n").lstrip("\n")
    if not _START.match(f"\n{start}"):
        return 0.0
    return 0.9 if re.search(rf"^{_TIME}(?: \(Read by [^\n]*\))?\n\S", start, re.MULTILINE | re.ASCII) else 0.4


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The conversation of a file, which its name identifies; long ones in pieces.

    Raises:
        BadFileError: it is no text, or nothing in it is a message.
    """
    title = re.sub(r"\.txt$", "", file.name.rpartition("/")[2], flags=re.IGNORECASE)
    clock = HourClock(options.timezone, _iso_hour)
    senders: dict[str, None] = {}
    is_first = True
    for text, first_line in blocks(file, _START):
        starts = list(_BETWEEN.finditer(text))
        if is_first and (not starts or text[: starts[0].end()].strip("\n")):
            detail = "line 1: no time of a message, such as May 17, 2022  5:29:42 PM"
            raise BadFileError(file.name, "wrong_structure", detail)
        is_first = False
        for first in range(0, len(starts), PIECE_MESSAGES):
            thread = SourceThread(title, title=title, resolution_ms=1000)
            chosen = starts[first : first + PIECE_MESSAGES + 1]
            ends = [start.start() for start in chosen[1:]]
            if len(chosen) <= PIECE_MESSAGES:
                ends.append(len(text))
            for start, end in zip(chosen, ends, strict=False):
                try:
                    _add(thread, text[start.end() : end], clock, senders, options.reactions)
                except ValueError as error:
                    malformed(thread, f"line {first_line + text.count(chr(10), 0, start.end()) - 1:,}", error)
            thread.people = tuple(senders)
            thread.is_group = True if len(senders) > 2 else None
            thread.owner, thread.owner_is_marked = ((OWNER,), True) if OWNER in senders else ((), False)
            yield thread


def _add(thread: SourceThread, message: str, clock: HourClock, senders: dict[str, None], reactions: bool) -> None:
    """Take one message, its line breaks at the end still there, and the reactions to it where they are wanted."""
    first, _, rest = message.partition("\n")
    sender, _, body = rest.partition("\n")
    if (len(first) > _TIME_WIDTH and not first.startswith(" (Read by", _TIME_WIDTH)) or not sender:
        thread.dropped["system" if len(first) > _TIME_WIDTH else "empty"] += 1  # "... named the conversation Ski trip"
        return
    sent_at = clock.ms(first[:15] + first[22], first[16:18], first[19:21])
    text, reason = _text_or_reason(body.strip("\n"))
    if thread.key == _ORPHANED:
        reason = "deleted"
    senders[sender] = None
    if reactions and reason == REASON and (emoji := tapback_emoji(text)):
        text, reason = emoji, None
    if reason:
        thread.dropped[reason] += 1
    else:
        thread.add(sender, sent_at, text)
    for giver, sign in _given(body) if reactions else ():
        add_reaction(thread, None if reason else giver, sent_at, sign)
        if giver and not reason:
            senders[giver] = None


def _given(body: str) -> Iterator[tuple[str, str]]:
    """(who, emoji) of each tapback to a message: `Loved by Me`, `🎉 by Anna Berg`; "" twice for a picture."""
    for listed in _TAPBACKS.findall(body):
        for line in listed.strip("\n").split("\n"):
            what, _, who = line.strip(" ").partition(" by ")
            sign = _VERBS.get(what, what)
            yield (who, sign) if is_emoji(sign) else ("", "")


def _iso_hour(hour: str) -> str:
    """`"May 17, 2022  5P"` -> `"2022-05-17T17"`."""
    number = int(hour[13:15])
    if not 1 <= number <= 12:
        raise ValueError(f"{hour}M is no hour")
    return f"{hour[8:12]}-{_MONTHS[hour[:3]]}-{hour[4:6]}T{number % 12 + 12 * (hour[15] == 'P'):02}"


def _text_or_reason(body: str) -> tuple[str, str | None]:
    """What the sender wrote, without the lines that the program added; or why that is left out."""
    if not body.startswith("    ") and not _TELLING.search(body):
        if "“" in body and is_tapback(body):
            return body, REASON
        return (body, None) if body.strip() else ("", "empty")
    body = _TAPBACKS.sub("Tapbacks:", body)  # their line of its own goes with the others, and leaves no empty one
    lines = [line for line in body.split("\n") if not _ADDED.fullmatch(line)]
    words = [line for line in lines if not _ATTACHMENT.fullmatch(line)]
    has_media = len(words) < len(lines)
    text = "\n".join(words).strip("\n")
    if _EARLIER.match(text) and (edits := list(_EDITED.finditer(text))):
        text = text[edits[-1].end() :]
    elif link := _LINK.match(text):
        text = link[0]  # the page's title and description follow
    if text == _DELETED:
        return "", "deleted"
    if _UNSENT.fullmatch(text):
        return "", "unsent"
    if text.startswith("SharePlay Message"):
        return "", "call"
    if _LOCATION.fullmatch(text):
        return "", "location"
    if _APP.fullmatch(text):
        return "", "app"
    if is_tapback(text):
        return text, REASON
    return (text, None) if text.strip() else ("", "media" if has_media else "empty")


READER = Reader(
    source="imessage",
    name="iMessage (imessage-exporter's text)",
    sniff=sniff,
    read=read,
    how="Better give chat.db itself. Or: imessage-exporter --format txt, and give the folder that it writes.",
)
