"""What another parameter runs again of the data stages, as `dvc repro` reports it, and what it changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.clones import own_copy, set_params, stages_run
from helpers.commands import call


@pytest.fixture(scope="module")
def project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`; its data as the whole sample gives it."""
    folder = own_copy(shared, tmp_path_factory.mktemp("clone") / "jaegpt")
    set_params(folder, dataset__train_fraction=1.0)
    assert stages_run(call(folder, "dvc", "repro", "block_size")) == ["build_dataset", "encode", "block_size"]
    return folder


@contextmanager
def changed(project: Path, **changes: Any) -> Iterator[None]:
    """Other parameters for a while; then everything comes back from the cache."""
    original = (project / "params.yaml").read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in (project / "metrics").iterdir()}
    try:
        set_params(project, **changes)
        yield
    finally:
        (project / "params.yaml").write_text(original, encoding="utf-8")
    assert stages_run(call(project, "dvc", "repro", "block_size")) == []
    assert {path: path.read_bytes() for path in (project / "metrics").iterdir()} == before


def examples(project: Path) -> list[dict[str, Any]]:
    parts = sorted((project / "data/examples").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_another_percentile_leaves_extraction_and_language_alone(project: Path) -> None:
    with changed(project, session__percentile=95):
        output = call(project, "dvc", "repro", "block_size")
        assert stages_run(output) == ["merge_turns", "sessionize", "build_dataset", "encode", "block_size"]
        for stage in ("extract", "filter_language"):
            assert f"Stage '{stage}' didn't change, skipping" in output


def test_another_seed_changes_splits_and_distractors_and_nothing_else(project: Path) -> None:
    before = examples(project)
    with changed(project, seed=1338):
        output = call(project, "dvc", "repro", "block_size")
        after = examples(project)
    assert stages_run(output) == ["build_dataset", "encode", "block_size"]
    assert len(before) > 3_000
    differing = {name for one, other in zip(before, after, strict=True) for name in one if one[name] != other[name]}
    assert differing == {"split", "distractors"}
