"""Fixtures that several test files share, and which files `make test-fast` leaves out, beside tests marked `slow`."""

from pathlib import Path

import pytest
from helpers.clones import clone, stages_run
from helpers.commands import call
from helpers.models import save_tiny
from helpers.network import NETWORK_LOG, tracing

# A browser, the whole pipeline, a sweep, trainings to the end or killed, XLA's compiler, thousands of mutated exports.
SLOW = {
    "test_readme", "test_plots",
    "test_pipeline", "test_pipeline_data", "test_sweep", "test_sweep_trials", "test_no_names", "test_chat_web",
    "test_chat_elsewhere", "test_page_attacks", "test_page_layout", "test_page_prefix", "test_turing",
    "test_turing_page",
    "test_report", "test_chat_terminal", "test_chat_load", "test_chat_connections", "test_training_xla",
    "test_training_resume", "test_training_parts", "test_tpu_report", "test_exports_property", "test_exports_pairs",
    "test_families", "test_parallel", "test_processes", "test_model_folders", "test_chat_gguf", "test_fidelity_models",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = {item.path.stem for item in items}
    assert len(found) < len(SLOW) or found >= SLOW, f"no test files any more: {SLOW - found}"
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tiny` base model; read only."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`, whose connections are noted. Who changes it puts it back."""
    folder = clone(tmp_path_factory.mktemp("clone") / "jaegpt")
    output = call(folder, *tracing(folder / NETWORK_LOG), "dvc", "repro")
    assert "train" in stages_run(output)
    return folder
