"""SMS Backup & Restore's XML: text messages, and MMS with their parts, newest or oldest first.

The file is read twice. Only at its end is known how a number's owner is called, from which country numbers without its
code are, and to which services the owner ever wrote.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jaegpt.exports.reactions import REASON
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.addresses import AddressBook, is_short_code, region_of
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import BLOCK_MESSAGES, Pieces, malformed
from jaegpt.exports.readers.tapbacks import is_tapback, tapback_emoji
from jaegpt.exports.readers.xml_stream import Attributes, Elements, parse

OWNER = "Me"  # the file knows no name of its owner
_ROOT = "smses"
_OWN_ADDRESS = "insert-address-token"
_NAMELESS = ("", "null", "(Unknown)")
_RECEIVED, _SENT, _FROM = "1", "2", "137"
_MMS_TYPES = ("128", "132", "null", "")  # sent, received, not known; others are notices of the network
_SECONDS_TO = 10**11  # times below it are in seconds
_UNKNOWN = "unknown"  # the thread of messages without an address


def sniff(name: str, head: bytes) -> float:
    return 0.95 if re.search(rb"<smses[\s>/]", head) and head.lstrip().startswith(b"<") else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The threads of a backup, in pieces; one per number or set of numbers.

    Raises:
        BadFileError: it is no such XML, is cut off, or declares entities.
    """
    survey = _Survey()
    for _ in parse(file, _ROOT, survey):
        pass
    book = survey.book()
    collector = _Collector(survey, book, options.reactions)
    for _ in parse(file, _ROOT, collector):
        if collector.num_waiting >= BLOCK_MESSAGES:
            collector.num_waiting = 0
            yield from collector.pieces.take()
    yield from collector.pieces.take()


@dataclass
class _Survey(Elements):
    """What the whole file says of the addresses in it, as they are written."""

    names: dict[str, str] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    written_to: set[str] = field(default_factory=set)
    senders: set[tuple[str, str]] = field(default_factory=set)  # of sent MMS, with those they went to
    _sent_to: str | None = None

    def start(self, name: str, attributes: Attributes) -> None:
        if name in ("sms", "mms"):
            address = attributes.get("address", "")
            is_sent = attributes.get("type" if name == "sms" else "msg_box") == _SENT
            self._sent_to = address if is_sent else None
            if is_sent:
                self.written_to.add(address)
            contact = attributes.get("contact_name", "")
            self.addresses.add(address)
            if contact not in _NAMELESS and "~" not in address:
                self.names[address] = contact
        elif name == "addr" and attributes.get("type") == _FROM and self._sent_to is not None:
            self.senders.add((attributes.get("address", ""), self._sent_to))

    def book(self) -> AddressBook:
        addresses = {part for address in self.addresses for part in address.split("~")}
        return AddressBook(region_of(sorted(addresses)))


class _Collector(Elements):
    """Sorts messages into the pieces of their threads."""

    def __init__(self, survey: _Survey, book: AddressBook, reactions: bool) -> None:
        self._book = book
        self._reactions = reactions  # whether these become messages
        self._names = {book.normal(address): name for address, name in sorted(survey.names.items())}
        # Some telephones give the receiver's number as the sender's: that is not the owner's.
        self._own = {
            book.normal(sender)
            for sender, receivers in survey.senders
            if book.normal(sender) not in map(book.normal, receivers.split("~"))
        } | {_OWN_ADDRESS}
        self._threads: dict[str, tuple[str, ...]] = {}  # address as written -> those who take part
        self._people: dict[str, tuple[str, ...]] = {}  # key -> the same
        self._answered = {"~".join(self._participants(address)) for address in survey.written_to}
        self._mms: _Mms | None = None
        self.pieces = Pieces(self._begin)
        self.num_waiting = 0

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sms":
            box, body = attributes.get("type", ""), attributes.get("body", "null")
            reason = None if box in (_RECEIVED, _SENT) else "draft"
            self._add(attributes, box == _SENT, "", "" if body == "null" else body, reason)
        elif name == "mms":
            self._mms = _Mms(attributes, self.line())
        elif self._mms is not None and name == "part":
            self._mms.add_part(attributes)
        elif self._mms is not None and name == "addr" and attributes.get("type") == _FROM:
            self._mms.sender = attributes.get("address", "")

    def end(self, name: str) -> None:
        if name == "mms" and self._mms is not None:
            mms, self._mms = self._mms, None
            text, reason = mms.text_or_reason()
            self._add(mms.about, mms.about.get("msg_box") == _SENT, mms.sender, text, reason, mms.line)

    def _add(
        self, about: Attributes, is_own: bool, sender: str, text: str, reason: str | None, line: int | None = None
    ) -> None:
        """Take a message; `sender` is the address of a group's member, "" where that is not known."""
        self.num_waiting += 1
        address = about.get("address", "null")
        participants = self._participants(address)
        if not participants:
            malformed(self.pieces[_UNKNOWN], f"line {line or self.line():,}", "`address` is missing")
            return
        key = "~".join(participants)
        self._people[key] = participants
        thread = self.pieces[key]
        if key not in self._answered and all(map(is_short_code, participants)):
            reason = "short_code"
        if reason is None and not text.strip():
            reason = "empty"
        if reason is None and is_tapback(text):
            emoji = tapback_emoji(text) if self._reactions else None
            text, reason = (emoji, None) if emoji else (text, REASON)
        if reason is None:
            try:
                sent_at = _milliseconds(about.get("date", "null"))
                thread.add(OWNER if is_own else self._sender(sender, participants), sent_at, text)
            except ValueError as error:
                malformed(thread, f"line {line or self.line():,}", error)
        else:
            thread.dropped[reason] += 1

    def _participants(self, address: str) -> tuple[str, ...]:
        """The other people of a thread, sorted."""
        found = self._threads.get(address)
        if found is None:
            parts = {self._book.normal(part) for part in address.split("~") if part.strip() not in ("", "null")}
            found = self._threads[address] = tuple(sorted(parts - self._own or parts))
        return found

    def _sender(self, address: str, participants: tuple[str, ...]) -> str:
        if len(participants) == 1:
            return self._name(participants[0])
        sender = self._book.normal(address) if address not in ("", "null") else ""
        # Some telephones give their own number, or one for all: then nobody knows who it was.
        return self._name(sender) if sender in participants else ""

    def _name(self, address: str) -> str:
        return self._names.get(address, address)

    def _begin(self, key: str) -> SourceThread:
        people = tuple(dict.fromkeys(map(self._name, self._people.get(key, ()))))
        return SourceThread(
            key,
            title=", ".join(people),
            people=(*people, OWNER),
            is_group="~" in key,
            owner=(OWNER,),
            owner_is_marked=True,
        )


@dataclass
class _Mms:
    """A message whose parts are still being read."""

    about: Attributes
    line: int
    sender: str = ""
    texts: list[tuple[int, str]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def add_part(self, about: Attributes) -> None:
        kind, text = about.get("ct", ""), about.get("text", "null")
        if kind == "text/plain":
            if text != "null":
                place = about.get("seq", "")
                self.texts.append((int(place) if place.isascii() and place.isdigit() and len(place) < 9 else 0, text))
        elif kind != "application/smil":
            self.kinds.add(kind.lower())

    def text_or_reason(self) -> tuple[str, str | None]:
        if self.about.get("m_type", "null") not in _MMS_TYPES:
            return "", "service"
        if self.about.get("msg_box") not in (_RECEIVED, _SENT):
            return "", "draft"
        text = "\n".join(text for _, text in sorted(self.texts, key=lambda part: part[0]))
        if text.strip() or not self.kinds:
            return text, None
        return "", "contact" if all("vcard" in kind for kind in self.kinds) else "media"


def _milliseconds(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise ValueError(f"`date` is {value[:20]!r} instead of a whole number")
    return checked_time(int(value) * (1000 if int(value) < _SECONDS_TO else 1), "date")


READER = Reader(
    source="sms",
    name="SMS Backup & Restore (XML)",
    sniff=sniff,
    read=read,
    how="In SMS Backup & Restore (Android): Back up now, messages; take the file sms-....xml.",
)
