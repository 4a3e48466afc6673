"""The pages of docs: every command in them runs, or is planned where it would take minutes."""

from pathlib import Path

import pytest
from helpers.clones import own_copy
from helpers.pages import OURS, PAGES, README, SETUP, SHORTER, commands_of, run


@pytest.fixture(scope="module")
def project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`."""
    return own_copy(shared, tmp_path_factory.mktemp("clone") / "jaegpt")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_every_command_in_the_docs_works(project: Path, page: str) -> None:
    lines = commands_of(page)
    assert [line for line in lines if not line.startswith((*OURS, *SETUP))] == []
    for command in lines:
        if command.startswith(OURS) and command not in README:
            run(project, SHORTER.get(command, command), quickly=True)
