"""YAML 1.2 by PyYAML: each scalar as the core schema has it, and DVC's own reader agrees on the project's files."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml
from dvc.utils.serialize import load_yaml as read_by_dvc
from helpers.paths import ROOT

from jaegpt import yaml12

Load = Callable[[str | bytes], Any]


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def load(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load_yaml` over libyaml, and as it is where PyYAML was built without it."""
    if request.param == "SafeLoader":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    spec = importlib.util.spec_from_file_location("yaml12_again", yaml12.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(module._Loader, getattr(yaml, request.param))
    return module.load_yaml


SCALARS: dict[str, Any] = {
    "1e-05": 1e-5, "1e5": 1e5, "1.": 1.0, "+.5": 0.5, "-1.5E+3": -1500.0, ".inf": math.inf, "-.INF": -math.inf,
    "12": 12, "-3": -3, "010": 10, "0o17": 15, "0x1F": 31,
    "true": True, "FALSE": False, "null": None, "~": None, "": None,
    # What YAML 1.1 makes booleans, dates and numbers of.
    "no": "no", "yes": "yes", "on": "on", "Off": "Off", "y": "y", "2001-01-01": "2001-01-01", "1:20": "1:20",
    "190:20:30": "190:20:30", "1_000": "1_000", "0b11": "0b11", "=": "=", "1e-": "1e-", ".": ".", "'1e5'": "1e5",
    "!!str 1": "1", "!!int '7'": 7, "!!float 2": 2.0, "!!bool 'True'": True, "-0x1": "-0x1", "nULL": "nULL",
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_scalars(load: Load, text: str) -> None:
    assert load(f"key: {text}\n") == {"key": SCALARS[text]}
    assert type(load(f"key: {text}\n")["key"]) is type(SCALARS[text])
    assert load(f"- [{text or '~'}, x]\n") == [[SCALARS[text], "x"]]


def test_not_a_number(load: Load) -> None:
    assert all(math.isnan(load(text)) for text in (".nan", ".NaN", ".NAN"))


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock"])
def test_dvc_reads_the_same(load: Load, name: str) -> None:
    content = load((ROOT / name).read_bytes())
    assert len(content) >= 2
    assert content == read_by_dvc(ROOT / name)


@pytest.mark.parametrize("value", [1e-5, 5e-324, 1e300, "no", "1e-5", "010", "1_000", "2020-01-01", "", "null", [], {}])
def test_what_dvc_writes_is_read_back(load: Load, value: Any) -> None:
    assert load(dumps_yaml({"key": value})) == {"key": value}
    assert type(load(dumps_yaml({"key": value}))["key"]) is type(value)


def test_anchors_and_merges(load: Load) -> None:
    text = "a: &a {b: 1, c: [2]}\nd: {<<: *a, b: 3}\ne: {<<: [*a, {f: 4}]}\ng: *a\n"
    a = {"b": 1, "c": [2]}
    assert load(text) == {"a": a, "d": {**a, "b": 3}, "e": {**a, "f": 4}, "g": a}


def test_a_file_of_windows(load: Load, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - \xc3\xa9\r\n")
    assert load((tmp_path / "x.yaml").read_bytes()) == {"a": 1, "b": ["é"]}
    assert load((tmp_path / "x.yaml").read_text(encoding="utf-8")) == {"a": 1, "b": ["é"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n", "line 5, column 3: the key `c` stands here a second time"),
        ("a: 1\n'a': 2\n", "line 2, column 1: the key `a` stands here a second time"),
        ("a: {b: 1,\n b: 2}\n", "line 2, column 2: the key `b`"),
        ("a: {<<: {b: 1}, b: 2, b: 3}\n", "line 1, column 23: the key `b`"),
        ("? [1, 2]\n: 3\n", "line 1, column 3: a list or mapping cannot be a key"),
        ("a: {{b}}\n", "line 1, column 5: a list or mapping cannot be a key"),
        (f"a: {'7' * 5000}\n", "line 1, column 4: '777777777777...7777777777777' (length 5,000) cannot be read as"),
        ("a: !!float x\n", "line 1, column 4: 'x' (length 1) cannot be read as float"),
        ("a: !!bool maybe\n", "cannot be read as bool"),
        ("a: !!int [1]\n", "expected a scalar node"),
        ("a: !!map [[1, 2]]\n", "`key: value` lines were expected"),
        ("a: !!timestamp 2001-01-01\n", "could not determine a constructor for the tag"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor for the tag"),
        ("a: &x [*x]\n", "line 1, column "),
        ("a: &x {b: *x}\n", "line 1, column 4: found unconstructable recursive node"),
        ("a: [1\n", "line 2, column 1: while parsing a flow sequence"),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: \x07\n", "#x0007"),
        (b"a: \xff\n", "position 3"),
        (f"a: {'[' * 300_000}", "nested too deeply. Look for stray brackets"),
        ("".join(f"{' ' * level}- \n" for level in range(200)), "nested too deeply"),
    ],
)  # fmt: skip
def test_anything_else_is_one_line_that_says_where(load: Load, text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        load(text)
    assert said in str(caught.value)


def test_as_deep_as_it_may_be(load: Load) -> None:
    content = load("[" * yaml12.MOST_LEVELS + "]" * yaml12.MOST_LEVELS)
    depth = 1
    while content:
        (content,) = content
        depth += 1
    assert depth == yaml12.MOST_LEVELS
