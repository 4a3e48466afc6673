"""The house stays a house: what may import what, dvc.yaml lists exactly what a stage needs, files stay short."""

import ast
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.stage_imports import imported_modules

from jaegpt.yaml12 import load_yaml

# Data flows down, never back.
PACKAGES = [
    "exports",
    "dialogue",
    "training",
    "tpu",
    "generation",
    "evaluation",
    "chat",
    "turing",
    "runs",
    "sweep",
    "use",
]
FACES = ("chat", "turing", "runs", "sweep", "use")  # what no figure depends on
STAGES = load_yaml((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODULES = sorted(path.relative_to(ROOT) for folder in ("jaegpt", "stages") for path in (ROOT / folder).rglob("*.py"))


def tracked(*patterns: str) -> list[str]:
    listing = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_cover_what_it_imports(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("jaegpt/", "stages/"))}
    imported = imported_modules(f"stages.{stage}")
    used = {dep for dep in listed for module in imported if module == dep or module.startswith(f"{dep}/")}
    missing = [module for module in sorted(imported) if not any(f"{module}/".startswith(f"{dep}/") for dep in listed)]
    assert missing == []
    assert listed == used, "a dep that nothing imports would run the stage again for nothing"
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    assert STAGES[stage]["desc"]


def test_editing_a_face_runs_no_stage_again() -> None:
    files = [path for path in tracked("jaegpt") if path.split("/")[1] in FACES]
    deps = [dep for stage in STAGES.values() for dep in stage["deps"]]
    assert len(files) > 20
    assert [path for path in files if any(f"{path}/".startswith(f"{dep}/") for dep in deps)] == []


def test_dvc_yaml_can_be_read_in_a_minute() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 320


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_params_are_exactly_those_it_reads(stage: str) -> None:
    modules = [name for name in imported_modules(f"stages.{stage}") if name.startswith("stages/")]
    source = "".join((ROOT / name).read_text(encoding="utf-8") for name in modules)
    read = set(re.findall(r"\.(?:value|section)\(\s*\"(\w+)\"", source))
    listed = {name for name in STAGES[stage].get("params", []) if "." not in name}
    assert listed == read
    single = {name for name in STAGES[stage].get("params", []) if "." in name}
    assert single == set(re.findall(r"\"(\w+\.\w+)\"", source) if ".field(" in source else [])


def test_every_stage_module_is_in_the_pipeline() -> None:
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)
    assert len(modules) >= 11


_FRONT_DOORS = ("cli.py", "inspection.py", "project.py")  # the command line and the notebook's door may use all


def test_packages_import_only_from_those_above_them() -> None:
    checked = 0
    for path in MODULES:
        if path.parts[0] != "jaegpt" or path.name in _FRONT_DOORS:
            continue
        place = PACKAGES.index(path.parts[1]) if len(path.parts) > 2 else -1
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("jaegpt", "stages")):
                parts = str(node.module).split(".")
                assert parts[0] == "jaegpt", f"{path} imports a stage"
                if len(parts) > 1 and parts[1] in PACKAGES:
                    assert PACKAGES.index(parts[1]) <= place, f"{path} imports {node.module}"
                checked += 1
    assert checked > 50


def test_no_modules_import_each_other() -> None:
    """Neither directly nor in a round, imports inside functions included."""
    # A stage's module is not imported back, so jaegpt alone is looked at.
    modules = {str(path): path for path in MODULES if path.parts[0] == "jaegpt"}
    direct = {
        name: imported_modules(".".join(path.with_suffix("").parts), depth=1) - {name} for name, path in modules.items()
    }
    reached = {name: imported_modules(".".join(path.with_suffix("").parts)) for name, path in modules.items()}
    rounds = {(name, other) for name, others in direct.items() for other in others if name in reached[other]}
    assert sum(map(len, direct.values())) > 100
    assert rounds == set()


def test_package_files_hold_a_docstring_only() -> None:
    files = [path for path in MODULES if path.name == "__init__.py"]
    assert len(files) >= 6
    files.remove(Path("jaegpt/__init__.py"))  # hands out open_project, and loads it when it is asked for
    for path in files:
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_files_stay_short() -> None:
    files = tracked("*.py")
    assert len(files) > 20
    long = {name: count for name in files if (count := len((ROOT / name).read_text("utf-8").splitlines())) > 400}
    if long:
        warnings.warn(f"asking to be two: {long}", stacklevel=1)


def test_nothing_tracked_names_a_registry_or_a_path_of_this_machine() -> None:
    # The patterns are put together here so that this file does not match itself.
    forbidden = re.compile(
        "|".join(["index" + "-url", "find" + "-links", r"https?://[^ ]*/simp" + "le/", r"/ro" + "ot/"])
    )
    files = [name for name in tracked() if not name.endswith((".svg", ".png"))]
    assert "requirements.lock" in files
    found = [name for name in files if forbidden.search((ROOT / name).read_text(encoding="utf-8"))]
    assert found == []


def test_no_stage_loads_xla_unasked() -> None:
    stages = [f"stages.{stage}" for stage in STAGES]
    code = f"""import importlib, sys
for name in {stages}:
    importlib.import_module(name)
    assert "torch_xla" not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="a process alone takes all cores")
def test_processes_of_tests_side_by_side_do_not_take_each_others_cores() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
