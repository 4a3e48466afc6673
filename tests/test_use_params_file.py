"""params.yaml with other values: everything else in it stays, and nothing that was there is lost."""

from pathlib import Path

import pytest
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.errors import JaegptError
from jaegpt.use.params_file import changed_text, with_deps, write_params
from jaegpt.yaml12 import load_yaml

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_only_the_values_change() -> None:
    changes = {
        "block_size": 256,
        "export.path": ["/home/ben/chats", "/home/ben/more"],
        "export.owner": ["Ben Ødeby", "+49 171 5550199", "no", "Ben: the 2nd"],
        "language.keep": ["de", "en"],
        "session.percentile": 90,
    }
    changed = changed_text(TEXT, changes)
    content = load_yaml(changed)
    assert content["block_size"] == 256
    assert content["export"]["path"] == changes["export.path"]
    assert content["export"]["owner"] == changes["export.owner"]
    assert content["language"]["keep"] == ["de", "en"]
    assert content["session"]["percentile"] == 90
    before, after = TEXT.splitlines(), changed.splitlines()
    assert [line for line in before if "#" in line] == [line for line in after if "#" in line]
    assert sorted(set(after) - set(before)) == [
        "    - de",
        '  owner: [Ben Ødeby, "+49 171 5550199", "no", "Ben: the 2nd"]',
        "  path: [/home/ben/chats, /home/ben/more]",
        "  percentile: 90",
        "block_size: 256",
    ]
    assert len(after) == len(before) + 1
    back = {key: _value(TEXT, key) for key in changes}
    assert changed_text(changed, back) == TEXT


def _value(text: str, key: str) -> object:
    value = load_yaml(text)
    for name in key.split("."):
        value = value[name]
    return value


@settings(deadline=None, max_examples=50)
@given(names=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=4))
def test_any_name_comes_back_as_it_was(names: list[str]) -> None:
    changed = changed_text(TEXT, {"export.owner": names, "export.path": names[0], "language.keep": names})
    content = load_yaml(changed)
    assert content["export"]["owner"] == content["language"]["keep"] == names
    assert content["export"]["path"] == names[0]


def test_a_key_that_is_missing_and_a_value_that_is_shared() -> None:
    with pytest.raises(JaegptError, match=r"missing key `export\.owner`"):
        changed_text("export:\n  path: a\n", {"export.owner": "b"})
    with pytest.raises(JaegptError, match=r"export\.path cannot be set without changing"):
        changed_text("export:\n  path: &x a\n  owner: *x\n", {"export.path": "b"})


def test_what_was_there_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    assert write_params(path, "a: 1\n") is None
    assert list(tmp_path.iterdir()) == [path]
    assert write_params(path, "a: 2\n") == tmp_path / "params.yaml.before"
    assert write_params(path, "a: 3\n") == tmp_path / "params.yaml.before-2"
    texts = {found.name: found.read_text(encoding="utf-8") for found in tmp_path.iterdir()}
    assert texts == {"params.yaml": "a: 3\n", "params.yaml.before": "a: 1\n", "params.yaml.before-2": "a: 2\n"}
    path.write_text("a: 1\n", encoding="utf-8")
    assert write_params(path, "a: 4\n") == tmp_path / "params.yaml.before", "the same text is kept once"


def test_dvc_yaml_names_each_path() -> None:
    pipeline = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    deps = load_yaml(pipeline)["stages"]["extract"]["deps"]
    two = with_deps(pipeline, 2)
    assert load_yaml(two)["stages"]["extract"]["deps"] == ["${export.path[0]}", "${export.path[1]}", *deps[1:]]
    assert with_deps(with_deps(two, 3), 1) == pipeline
    with pytest.raises(JaegptError, match=r"extract does not depend on \$\{export\.path\}"):
        with_deps("stages: {}\n", 1)
