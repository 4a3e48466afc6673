"""README: every command in it runs. README and docs: every link leads somewhere."""

import math
import re
from pathlib import Path

import pytest
from helpers.clones import own_copy
from helpers.pages import PAGES, README, SHORTER, commands_of, run
from helpers.paths import ROOT

from jaegpt.params import Params
from jaegpt.sweep.space import SweepConfig
from jaegpt.yaml12 import load_yaml


@pytest.fixture(scope="module")
def project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`."""
    return own_copy(shared, tmp_path_factory.mktemp("clone") / "jaegpt")


def test_every_command_in_the_readme_works(project: Path) -> None:
    assert {"make repro", "make test", "dvc repro", "dvc plots show", "dvc exp run -S w_mc=1"} <= set(README)
    for command in README:
        run(project, SHORTER.get(command, command), quickly=False)


def test_every_shortened_command_stands_somewhere() -> None:
    assert set(SHORTER) <= {command for page in PAGES for command in commands_of(page)}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    if page == "README.md":
        assert {f"docs/{name}.md" for name in ("exports", "experiments", "serving", "scaling", "original")} <= set(
            links
        )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_the_space_of_the_original_is_the_one_it_searched() -> None:
    space = load_yaml((ROOT / "docs/original/space.yaml").read_text(encoding="utf-8"))
    config = Params(ROOT / "params.yaml").section("sweep", SweepConfig)
    dimensions = {one.name: one for one in SweepConfig(space=space, random_trials=5, keep_percent=75).dimensions}
    assert list(dimensions) == [one.name for one in config.dimensions]
    for name, powers in (("train.learning_rate", (-25, 0)), ("w_mc", (-7, 7))):
        assert dimensions[name].arguments == pytest.approx([math.exp(power) for power in powers], rel=1e-12)
    assert dimensions["train.epochs"].arguments == (1, 4)
    assert dimensions["train.batch_size"].arguments == tuple(8 * per_core for per_core in (1, 4, 8, 16))
