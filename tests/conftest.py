"""Fixtures that several test files share."""

from pathlib import Path

import pytest
from helpers.models import save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tiny` base model; read only."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")
