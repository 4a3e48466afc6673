"""Matrix: a room as Element's "Export chat" writes it in JSON, one event after the other."""

from collections.abc import Callable, Iterator
from typing import Any

from jaegpt.exports.reactions import REASON, is_emoji
from jaegpt.exports.reader import Reader, ReadOptions, SourceFile, SourceThread
from jaegpt.exports.readers.clocks import checked_time
from jaegpt.exports.readers.collecting import PIECE_MESSAGES, malformed
from jaegpt.exports.readers.json_heads import batches_with_head
from jaegpt.exports.readers.json_stream import JsonStream, open_json
from jaegpt.exports.rows import kind_of

_HEAD = ("room_name", "exported_by")
_KEYS = (b'"room_name"', b'"exported_by"', b'"export_date"')
# Kinds of events that are no message, by the beginning of their type.
_EVENTS = (
    ("m.room.encrypted", "undecryptable"),
    ("m.sticker", "sticker"),
    ("m.reaction", "reaction"),
    ("m.poll", "poll"),
    ("org.matrix.msc3381.poll", "poll"),
    ("m.call", "call"),
    ("org.matrix.msc3401.call", "call"),
    ("m.beacon", "location"),
    ("org.matrix.msc3672.beacon", "location"),
)
# Kinds of messages besides text; what has a caption keeps it.
_MESSAGES = {"m.notice": "bot", "m.location": "location", "m.bad.encrypted": "undecryptable"}
_MEDIA = ("m.image", "m.video", "m.audio", "m.file")


def sniff(name: str, head: bytes) -> float:
    if not head.lstrip().startswith(b"{"):
        return 0.0
    if all(key in head for key in _KEYS):
        return 0.95
    return 0.8 if b'"m.room.' in head and b'"origin_server_ts"' in head and b'"messages"' in head else 0.0


def read(file: SourceFile, options: ReadOptions, say: Callable[[str], None]) -> Iterator[SourceThread]:
    """The room of a file, in pieces.

    Raises:
        BadFileError: it is no JSON, or is cut off.
    """
    room = _Room(options.reactions)
    with open_json(file) as json:
        for batch in batches_with_head(json, "messages", lambda key: room.learn(key, json), room.knows_all):
            for event in batch:
                room.add(event)
            if room.thread.num_read >= PIECE_MESSAGES:
                yield room.piece()
    yield room.piece()


class _Room:
    """The room that is being read; `thread` is the piece of it that is being collected."""

    def __init__(self, reactions: bool) -> None:
        self._reactions = reactions  # whether these become messages
        self._head: dict[str, str] = {}
        self._room_id = ""
        self._people: dict[str, str] = {}  # account -> name, as far as the room says
        self._senders: dict[str, None] = {}
        self._number = 0
        self._left_out: set[object] = set()  # events, where reactions are wanted
        self._rows: dict[str, int] = {}  # event -> its row in the piece
        self.thread = SourceThread("")

    def learn(self, key: str, json: JsonStream) -> None:
        if key in _HEAD:
            value = json.value()
            self._head[key] = value if isinstance(value, str) else ""

    def knows_all(self) -> bool:
        return all(key in self._head for key in _HEAD)

    def add(self, event: Any) -> None:
        self._number += 1
        if not isinstance(event, dict):
            self._malformed(f"{kind_of(event)} instead of an object")
            return
        content = event.get("content")
        if not self._room_id and isinstance(event.get("room_id"), str):
            self._room_id = event["room_id"]
        if event.get("type") == "m.room.member" and isinstance(content, dict):
            account, name = event.get("state_key", event.get("sender")), content.get("displayname")
            if isinstance(account, str) and isinstance(name, str):
                self._people[account] = name
        try:
            if not isinstance(content, dict):
                raise ValueError(f"`content` is {kind_of(content)} instead of an object")
            text, reason = self._text_or_reason(event, content)
            if reason:
                self.thread.dropped[reason] += 1
                self._leave(event)
                return
            sender, time = event.get("sender"), event.get("origin_server_ts")
            if not isinstance(sender, str) or not sender:
                raise ValueError(f"`sender` is {kind_of(sender)} instead of an account")
            if type(time) is not int:
                raise ValueError(f"`origin_server_ts` is {kind_of(time)} instead of a whole number")
            self.thread.add(sender, checked_time(time, "origin_server_ts"), text)
        except ValueError as error:
            self._malformed(error)
            self._leave(event)
            return
        self._senders[sender] = None
        if isinstance(event.get("event_id"), str):
            self._rows[event["event_id"]] = len(self.thread.texts) - 1

    def _leave(self, event: dict[str, Any]) -> None:
        if self._reactions and isinstance(event.get("event_id"), str):
            self._left_out.add(event["event_id"])

    def _malformed(self, what: object) -> None:
        malformed(self.thread, f"messages[{self._number - 1:,}]", what)

    def _text_or_reason(self, event: dict[str, Any], content: dict[str, Any]) -> tuple[str, str | None]:
        kind = event.get("type")
        if not isinstance(kind, str):
            raise ValueError(f"`type` is {kind_of(kind)} instead of a text")
        if kind == "m.reaction" and self._reactions:
            relation = content.get("m.relates_to")
            emoji, target = (relation.get("key"), relation.get("event_id")) if isinstance(relation, dict) else ("", "")
            is_kept = isinstance(emoji, str) and is_emoji(emoji) and str(target) not in self._left_out
            return (str(emoji), None) if is_kept else ("", REASON)
        if kind != "m.room.message":
            return "", next((reason for start, reason in _EVENTS if kind.startswith(start)), "system")
        unsigned = event.get("unsigned")
        if not content or (isinstance(unsigned, dict) and "redacted_because" in unsigned):
            return "", "deleted"
        relation = content.get("m.relates_to")
        if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
            self._replace(relation.get("event_id"), content.get("m.new_content"), event.get("sender"))
            return "", "edited_away"
        message, body = content.get("msgtype"), content.get("body")
        if isinstance(message, str) and message in _MESSAGES:
            return "", _MESSAGES[message]
        if body is not None and type(body) is not str:
            raise ValueError(f"`body` is {kind_of(body)} instead of a text")
        if message in _MEDIA:
            name = content.get("filename")
            return (body, None) if body and name and name != body else ("", "media")
        if message not in ("m.text", "m.emote"):
            return "", "system"
        if body and _has_quotation(content, relation):
            body = _without_quotation(body)
            return (body, None) if body and not body.isspace() else ("", "quoted")
        return (body, None) if body and not body.isspace() else ("", "empty")

    def _replace(self, event: Any, content: Any, sender: Any) -> None:
        """Give the message `event` its new text. An edit that comes some 65,000 messages later changes nothing."""
        row = self._rows.get(event) if isinstance(event, str) else None
        body = content.get("body") if isinstance(content, dict) else None
        if row is not None and isinstance(body, str) and body.strip() and self.thread.senders[row] == sender:
            self.thread.texts[row] = body

    def piece(self) -> SourceThread:
        """What was collected since the last one."""
        thread, self.thread, self._rows = self.thread, SourceThread(""), {}
        thread.title = self._head.get("room_name", "")
        thread.key = self._room_id or thread.title
        thread.people = tuple(self._senders)
        thread.is_group = True if len(self._senders) > 2 else None
        by = self._head.get("exported_by", "")
        if by.startswith("@") and ":" in by:  # an account without a name
            thread.owner, thread.owner_is_marked = (by,), True
        elif by:
            thread.owner = tuple(account for account, name in self._people.items() if name == by)
        return thread


def _has_quotation(content: dict[str, Any], relation: object) -> bool:
    """Whether a text may begin with what it answers: a reply, or one to which Element's button Quote was used."""
    formatted = content.get("formatted_body")
    is_quoting = isinstance(formatted, str) and formatted.lstrip().startswith("<blockquote>")
    return is_quoting or (isinstance(relation, dict) and "m.in_reply_to" in relation)


def _without_quotation(body: str) -> str:
    """A reply without the lines of what it answers, which stand before it up to an empty line."""
    if not body.startswith("> "):
        return body
    lines = body.split("\n")
    own = next((row for row, line in enumerate(lines) if not line.startswith(">")), len(lines))
    return "\n".join(lines[own:]).removeprefix("\n")


READER = Reader(
    source="matrix",
    name="Matrix (Element, exported chat in JSON)",
    sniff=sniff,
    read=read,
    how="In Element: Room info, Export Chat, format JSON, from the beginning, size limit raised.",
)
