"""Strict reading of params.yaml: an unknown, missing or ill-typed key is one clear line.

Sections are frozen dataclasses that live beside the code they configure; this module knows only their names.
`-S train.learning_rate=1e-5` and `[en, no]` are read as meant, by the rules of YAML 1.2.
"""

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from jaegpt.errors import JaegptError
from jaegpt.yaml12 import load_yaml

# Kept at the top level so that `dvc exp run -S w_mc=1` works.
VALUES: dict[str, type] = {"seed": int, "model": str, "block_size": int, "w_lm": float, "w_mc": float}
# What stood in the file once, and where it went.
_GONE = {"train.checkpoint_steps": "Remove the line: checkpoints are the machine's now, JAEGPT_CHECKPOINT_MINUTES."}
SECTIONS = ("export", "language", "session", "dataset", "train", "generate", "fidelity", "tpu", "sweep")

Section = TypeVar("Section")


class Params:
    """The parsed parameter file; nothing is returned before its type has been checked."""

    def __init__(self, path: str | Path = "params.yaml") -> None:
        self.path = Path(path)
        try:
            content = load_yaml(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise JaegptError(f"{self.path}: not found. Run from the project's top folder.") from None
        except OSError as error:
            raise JaegptError(f"{self.path}: cannot be opened ({error.strerror}).") from None
        except ValueError as error:
            raise JaegptError(f"{self.path}: not readable as YAML: {error}.") from None
        if not isinstance(content, dict):
            raise JaegptError(f"{self.path}: found {_name(content)} where `key: value` lines were expected.")
        self.content: dict[str, Any] = content  # sections and values as they were read, their types unchecked
        _check_keys(content, known=[*VALUES, *SECTIONS], where="", path=self.path, need_all=False)

    def value(self, key: str) -> Any:
        """The top-level value of `key`, of the type named in VALUES."""
        if key not in self.content:
            raise JaegptError(f"{self.path}: key `{key}` is missing. Add `{key}: ...` ({_type_name(VALUES[key])}).")
        return _checked_range(key, _checked(self.content[key], VALUES[key], key, self.path), self.path)

    def section(self, name: str, cls: type[Section]) -> Section:
        """The section `name` as the dataclass `cls`, every field checked against its annotation."""
        content = self.content.get(name)
        if not isinstance(content, dict):
            raise JaegptError(f"{self.path}: section `{name}` is missing or empty (found {_name(content)}).")
        hints = typing.get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        _check_keys(content, known=names, where=f"{name}.", path=self.path, need_all=True)
        values = {key: _checked(content[key], hints[key], f"{name}.{key}", self.path) for key in names}
        try:
            return cls(**values)
        except ValueError as error:
            raise JaegptError(f"{self.path}: {name}.{error}") from None

    def field(self, name: str, hint: Any) -> Any:
        """One value of a section, such as `train.batch_size`, for a stage that should not run again for the others.

        Args:
            hint: the value's type; or the section's dataclass, and the whole section is checked.
        """
        section, key = name.split(".")
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return getattr(self.section(section, hint), key)
        content = self.content.get(section)
        if not isinstance(content, dict) or key not in content:
            raise JaegptError(f"{self.path}: missing key `{name}`. Every parameter stands in the file; add it.")
        return _checked(content[key], hint, name, self.path)


def _check_keys(content: dict[str, Any], known: list[str], where: str, path: Path, need_all: bool) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{where}{near[0]}`?" if near else f"Known here: {', '.join(known)}."
            raise JaegptError(f"{path}: unknown key `{where}{key}`. {_GONE.get(f'{where}{key}', hint)}")
    missing = [key for key in known if key not in content] if need_all else []
    if missing:
        raise JaegptError(f"{path}: missing key `{where}{missing[0]}`. Every parameter stands in the file; add it.")


def _checked(value: Any, hint: Any, key: str, path: Path) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        fits, converted = _fit(value, option)
        if fits:
            return converted
    raise JaegptError(f"{path}: `{key}` must be {_type_name(hint)}, found {_name(value)} {_shown(value)}.")


def _fit(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether `value` is of type `hint`, and the value as that type (an int is a float, a bool is neither)."""
    if get_origin(hint) is Literal:
        return value in get_args(hint), value
    if get_origin(hint) is list:
        if not isinstance(value, list):
            return False, value
        items = [_fit(item, get_args(hint)[0]) for item in value]
        return all(fits for fits, _ in items), [item for _, item in items]
    if hint is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False, value
        try:
            return math.isfinite(value), float(value)
        except OverflowError:  # an int beyond any float
            return False, value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    return isinstance(value, hint), value


def _checked_range(key: str, value: Any, path: Path) -> Any:
    if key in ("w_lm", "w_mc") and value < 0:
        raise JaegptError(f"{path}: `{key}` is a loss weight and cannot be negative, found {value}.")
    if key == "block_size" and value < 2:
        raise JaegptError(f"{path}: `block_size` must hold at least a turn and a reply (2 tokens), found {value}.")
    if key == "seed" and not 0 <= value < 2**63:
        raise JaegptError(f"{path}: `seed` must be between 0 and 2^63 - 1, found {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    """`value` as far as it fits a line; Python does not write out the longest numbers."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "of more digits than can be shown"


def _name(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        words = ", ".join(map(str, get_args(hint)))
        return f"one of {words}" if len(get_args(hint)) > 1 else words
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type_name(option) for option in get_args(hint))
    if get_origin(hint) is list:
        return f"a list of {get_args(hint)[0].__name__}"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(hint, str(hint))
