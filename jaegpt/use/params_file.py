"""Single values of params.yaml set in place: comments, order and all other lines stay as they are.

A YAML parser says at which letters a value begins and ends; only these are replaced. What comes out is read again and
must be the old content with the new values, or nothing is written.
"""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from jaegpt.errors import JaegptError
from jaegpt.files import write_text
from jaegpt.yaml12 import load_yaml

# What needs no quotes: nothing in it is a sign of YAML's, inside a list in brackets either.
_PLAIN = re.compile(r"[^\W\d_][\w ./+-]*\w|/[\w./+-]*\w|[^\W\d_]")
_DEPS = re.compile(r'"\$\{export\.path(?:\[\d+\])?\}"(?:,\s*"\$\{export\.path\[\d+\]\}")*')
_WORDS_OF_YAML = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # those of version 1.1 included


def changed_text(text: str, changes: Mapping[str, Any]) -> str:
    """The YAML document `text` with other values: `{"export.path": "chats"}` sets `path` of the section `export`.

    A list stays a list of lines where it was one, and is written in brackets otherwise.

    Raises:
        JaegptError: a key is not there, or the value cannot be replaced in place (it stands behind an anchor).
    """
    expected = copy.deepcopy(load_yaml(text))
    document = yaml.compose(text, yaml.SafeLoader)
    # From the end to the beginning, so that the places found stay right.
    for start, end, key, is_block in sorted((_place(document, key) for key in changes), reverse=True):
        *sections, name = key.split(".")
        target = expected
        for section in sections:
            target = target[section]
        target[name] = changes[key]
        column = start - (text.rfind("\n", 0, start) + 1)
        text = text[:start] + _written(changes[key], column if is_block else None) + text[end:]
    try:
        is_as_expected = load_yaml(text) == expected
    except ValueError:  # what was replaced held an anchor
        is_as_expected = False
    if not is_as_expected:
        keys = ", ".join(changes)
        raise JaegptError(f"params.yaml: {keys} cannot be set without changing other lines. Set it by hand.")
    return text


def write_params(path: Path, text: str) -> Path | None:
    """Write `text` in place of the file, and keep what it held beside it.

    Returns:
        Where that is: `params.yaml.before`, or with a number behind where that name holds something else. None where
        the file holds `text` already.
    """
    old = path.read_text(encoding="utf-8")
    if old == text:
        return None
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.before" + (f"-{number}" if number > 1 else ""))
        if not kept.exists() or kept.read_text(encoding="utf-8") == old:
            break
        number += 1
    write_text(kept, old)
    write_text(path, text)
    return kept


def with_deps(text: str, num_paths: int) -> str:
    """dvc.yaml's `text` with what `extract` depends on: DVC wants an item for each path, where they are a list."""
    items = ['"${export.path}"'] if num_paths == 1 else [f'"${{export.path[{index}]}}"' for index in range(num_paths)]
    changed, count = _DEPS.subn(", ".join(items), text)
    if count != 1:
        raise JaegptError("dvc.yaml: the stage extract does not depend on ${export.path}. Try `git checkout dvc.yaml`.")
    return changed


def _place(node: Any, key: str) -> tuple[int, int, str, bool]:
    """Where the value of a key begins and ends in a document, the key, and whether the value is a list of lines."""
    for name in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for title, value in pairs if title.value == name), None)
        if node is None:
            raise JaegptError(f"params.yaml: missing key `{key}`. Every parameter stands in the file; add it.")
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        # A list of lines ends for the parser where the next key begins; comments between are not the list's.
        return node.start_mark.index, node.value[-1].end_mark.index, key, True
    return node.start_mark.index, node.end_mark.index, key, False


def _written(value: Any, column: int | None) -> str:
    """A value as YAML; a list in lines that begin at `column`, or in brackets where that is None."""
    if not isinstance(value, list):
        return _scalar(value)
    if column is None or not value:
        return f"[{', '.join(map(_scalar, value))}]"
    return f"\n{' ' * column}".join(f"- {_scalar(item)}" for item in value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    # JSON's scalars are YAML's as well, quotes included; but YAML wants its own escapes for what cannot be printed.
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)
