"""YAML as version 1.2 means it, by PyYAML, which knows 1.1 alone: `1e-5` is a number, `no` and `2020-01-01` are texts.

DVC writes 1.2: for `-S train.learning_rate=1e-5` it puts `1e-05` into params.yaml, without the dot that 1.1 wants.
"""

import re
import reprlib
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

MOST_LEVELS = 100  # a level takes some C stack in libyaml's loader, which ends the process where there is no more

_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "false": False}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it


class _Loader(_Base):
    """PyYAML's safe loader without its own ideas of what a word means; the core schema is put in below."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}


def load_yaml(text: str | bytes) -> Any:
    """The content of a YAML document: dicts, lists, and scalars by the core schema (YAML 1.2, section 10.3).

    Raises:
        ValueError: it is no YAML, is nested too deeply, holds a key twice, or a tag that is not of the core schema; the
            message is one line that says what and where.
    """
    try:
        _check_depth(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark, what = error.problem_mark, ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"line {mark.line + 1}, column {mark.column + 1}: {what}") from None
    except yaml.YAMLError as error:  # a character that no YAML may hold
        raise ValueError(" ".join(str(error).split())) from None


def _check_depth(text: str | bytes) -> None:
    """Events come one after the other, whatever the depth; loading recurses."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise _error("nested too deeply. Look for stray brackets", event)


def _error(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _error("`key: value` lines were expected", node)
    # Looked at before what `<<` merges in is put beside the mapping's own keys, which may then stand there twice.
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == f"{_TAG}merge":
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error("a list or mapping cannot be a key. Look for a missing quote or comma", key_node)
        key = loader.construct_object(key_node)
        if key in seen:
            raise _error(f"the key `{key}` stands here a second time. Keep one of the two", key_node)
        seen.add(key)
    loader.flatten_mapping(node)
    return {loader.construct_object(key): loader.construct_object(value, deep=True) for key, value in node.value}


def _scalar(name: str, convert: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except (ValueError, KeyError):  # an int of more digits than Python converts; `!!float x`
            raise _error(f"{reprlib.repr(text)} (length {len(text):,}) cannot be read as {name}", node) from None

    return construct


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)  # `010` is ten


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


# Per type: what a plain scalar of it looks like, the characters it may begin with ("" is the empty text's), its value.
for _name, _pattern, _first, _convert in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: _BOOLEANS[text.lower()]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"), _int),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        _float,
    ),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), _first)
    _Loader.add_constructor(f"{_TAG}{_name}", _scalar(_name, _convert))
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile("<<$"), ["<"])
_Loader.add_constructor(f"{_TAG}str", yaml.SafeLoader.construct_yaml_str)
_Loader.add_constructor(f"{_TAG}seq", yaml.SafeLoader.construct_yaml_seq)
_Loader.add_constructor(f"{_TAG}map", _mapping)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)
