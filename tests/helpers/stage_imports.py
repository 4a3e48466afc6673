"""Which of the project's own modules a stage imports, directly or through others, read from the source."""

import ast
import functools
from pathlib import Path

from helpers.paths import ROOT


def imported_modules(module: str, depth: int | None = None) -> set[str]:
    """Files of jaegpt and stages that `module` needs, itself included, as paths from the project's top folder.

    `depth` 1 stops at what `module` itself imports; None follows those imports to their end. Package files
    (`__init__.py`) import nothing of the project (a test checks it) and are left out.
    """
    found: set[str] = set()
    waiting = [(module, 0)]
    while waiting:
        name, level = waiting.pop()
        path = _file(name)
        if path is None or path.name == "__init__.py" or str(path) in found:
            continue
        found.add(str(path))
        if level == depth:
            continue
        waiting += [(name, level + 1) for name in _imports(path)]
    return found


@functools.cache
def _imports(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _file(module: str) -> Path | None:
    if module.split(".")[0] not in ("jaegpt", "stages"):
        return None
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None
