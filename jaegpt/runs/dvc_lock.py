"""What dvc.lock records of the stages that have run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.yaml12 import load_yaml


def locked_stages(content: bytes | None) -> dict[str, Any]:
    """Each stage's record in the content of a dvc.lock; empty where there is none that can be read."""
    try:
        return dict((load_yaml(content or b"") or {}).get("stages", {}))
    except (ValueError, AttributeError):
        return {}


def check_lock(folder: Path) -> None:
    """Look whether dvc.lock is whole: DVC writes it in place, and a kill at that moment leaves it empty or cut off.

    Raises:
        JaegptError: it is not; with what brings it back.
    """
    path = folder / "dvc.lock"
    if not path.is_file():
        return
    content = path.read_bytes()
    if content.strip() and locked_stages(content):
        return
    raise JaegptError(
        f"{path.name}: empty or cut off, as a kill leaves it while DVC writes it. Type `git checkout dvc.lock`, then "
        "`dvc repro`: what has run since the last commit is taken from DVC's cache."
    )


def recorded_params(stages: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The parameters that these stages ran with, by dotted name."""
    recorded: dict[str, Any] = {}
    for name in names:
        recorded |= flatten((stages.get(name, {}).get("params") or {}).get("params.yaml") or {})
    return recorded


def hashes(stage: Mapping[str, Any], kind: str) -> dict[str, str | None]:
    """path -> hash of a stage's `outs` or `deps`."""
    return {one["path"]: one.get("md5") for one in stage.get(kind, [])}


def stages_before(
    outs: Mapping[str, Iterable[str]], deps: Mapping[str, Iterable[str]], targets: Sequence[str]
) -> set[str]:
    """`targets` and every stage whose outputs they need, directly or through others; paths by stage."""
    makers = {path: name for name, paths in outs.items() for path in paths}
    found: set[str] = set()
    waiting = list(targets)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [makers[path] for path in deps[name] if path in makers]
    return found


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"epochs": 1}}` -> `{"train.epochs": 1}`; the dotted keys of a lock file stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
