"""What a Slack message says: markup as people see it, blocks where the text is empty, without what it quotes."""

import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16  # of blocks in blocks; Slack's own have four

_TAG = re.compile(r"<([^<>]+)>")
_EMOJI = re.compile(r":([^\s:]+):(?::skin-tone-\d:)?")
# Slack marks quotes as e-mail does; `&gt;:(` is a face. Three marks quote all that follows.
_QUOTE = re.compile(r"^&gt;&gt;&gt;(?s:.*)|^&gt;(?! ?[:;=]).*(?:\n|\Z)", re.MULTILINE)


def plain_text(message: Mapping[str, Any], people: Mapping[str, str], channels: Mapping[str, str]) -> tuple[str, bool]:
    """(the text as people see it, whether it had a quote that was cut).

    Args:
        message: unchanged from the export.
        people: names by id, for mentions.
        channels: names by id, likewise.

    Raises:
        ValueError: the text is no text, or its blocks are nested too deep.
    """
    text, blocks = message.get("text"), message.get("blocks")
    if text is not None and type(text) is not str:
        raise ValueError(f"`text` is {type(text).__name__} instead of a text")
    has_quote = False
    if text:
        if "&gt;" in text:
            cut = _QUOTE.sub("", text)
            has_quote, text = cut != text, cut
    elif type(blocks) is list:
        text = _text_of(blocks, MAX_DEPTH)
        has_quote = any(_is_quote(inner) for block in blocks if type(block) is dict for inner in _elements(block))
    if not text:
        return "", has_quote
    if "<" in text:
        text = _TAG.sub(lambda tag: _shown(tag[1], people, channels), text)
    if "&" in text:
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    if ":" in text and type(blocks) is list and _EMOJI.search(text):
        signs: dict[str, str] = {}
        _collect_emoji(blocks, signs, MAX_DEPTH)
        if signs:
            text = _EMOJI.sub(lambda match: signs.get(match[1], match[0]), text)
    return text.strip() if has_quote else text, has_quote


def _shown(tag: str, people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """`@U1` -> `@Anna`, `https://x|label` -> `label`: what stands between the brackets, as people see it."""
    target, _, label = tag.partition("|")
    if target.startswith("@"):
        return f"@{people.get(target[1:]) or label or 'someone'}"
    if target.startswith("#"):
        return f"#{label or channels.get(target[1:], 'channel')}"
    if target.startswith("!subteam"):
        return label or "@group"
    if target.startswith("!"):
        return label or f"@{target[1:].partition('^')[0]}"
    return label or target.removeprefix("mailto:").removeprefix("tel:")


def _text_of(elements: list[Any], depth: int) -> str:
    """The blocks as the markup that Slack would have written into the text, without quotes."""
    if depth == 0:
        raise ValueError("`blocks` are nested too deep")
    parts: list[str] = []
    for element in elements:
        if type(element) is not dict or _is_quote(element):
            continue
        kind = str(element.get("type"))
        if "elements" in element:
            # The parts of a message each have lines of their own, and so have the items of a list.
            starts_a_line = parts and kind.startswith("rich_text_")
            parts.append("\n" * bool(starts_a_line) + _text_of(_elements(element), depth - 1))
        else:
            parts.append(_leaf(kind, element))
    return "".join(parts)


def _elements(block: dict[str, Any]) -> list[Any]:
    found = block.get("elements")
    return found if type(found) is list else []


def _is_quote(element: Any) -> bool:
    return type(element) is dict and element.get("type") == "rich_text_quote"


def _leaf(kind: str, element: dict[str, Any]) -> str:
    values = {key: value for key, value in element.items() if type(value) is str}
    if kind == "text":
        return values.get("text", "").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if kind == "emoji":
        return f":{values.get('name', '')}:"
    if kind == "link":
        return values.get("text") or values.get("url", "")
    if kind in ("user", "channel"):
        return f"<{'@' if kind == 'user' else '#'}{values.get(f'{kind}_id', '')}>"
    if kind == "usergroup":
        return "@group"
    return f"@{values.get('range', 'channel')}" if kind == "broadcast" else values.get("fallback", "")


def _collect_emoji(elements: list[Any], signs: dict[str, str], depth: int) -> None:
    """The signs of emoji by name: blocks have their code points, such as `1f44d-1f3fc`, the text only the names."""
    if depth == 0:
        raise ValueError("`blocks` are nested too deep")
    for element in elements:
        if type(element) is not dict:
            continue
        name, points = element.get("name"), element.get("unicode")
        if element.get("type") == "emoji" and type(name) is str and type(points) is str:
            try:
                sign = "".join(chr(int(point, 16)) for point in points.split("-"))
                sign.encode()  # half a surrogate pair is not a character
                signs[name] = sign
            except (ValueError, OverflowError):
                continue
        else:
            _collect_emoji(_elements(element), signs, depth - 1)
