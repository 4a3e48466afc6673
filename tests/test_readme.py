"""README and docs: every command in them runs, and every link leads somewhere."""

import math
import re
import shlex
from pathlib import Path

import pytest
import torch
from helpers.clones import metrics, wait_for_queue
from helpers.commands import call, started
from helpers.paths import ROOT
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from jaegpt.params import Params
from jaegpt.sweep.space import SweepConfig
from jaegpt.yaml12 import load_yaml

PAGES = sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# What would take minutes, on less.
SHORTER = {
    "dvc exp run --queue -S 'w_mc=0.01,0.1,1,10,100'": "dvc exp run --queue -S w_mc=0.01 evaluate",
    "jaegpt sweep --model tiny --trials 10": "jaegpt sweep --model tiny --trials 1",
    "jaegpt sweep --model tiny --space docs/original/space.yaml --study original --trials 10":
    "jaegpt sweep --model tiny --space docs/original/space.yaml --study original --trials 1",
    "torchrun --nproc-per-node 4 -m stages.train": "torchrun --nproc-per-node 1 -m stages.train",
}  # fmt: skip
OURS = ("make ", "dvc ", "jaegpt ", "torchrun ", "git commit ")
# Lines of code blocks that set up a machine: another one's, or this one's with rights that a test has not.
SETUP = ("gcloud ", "sudo ", "apt-get ", "git clone ", ". .venv/bin/activate", "%%bash")


def commands_of(page: str) -> list[str]:
    """The commands of the code blocks without a language; those of `text` are output."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block.replace("\\\n", " ") for language, block in fenced if not language]
    return [" ".join(line.split("#")[0].split()) for block in blocks for line in block.splitlines() if line.strip()]


README = [line for line in commands_of("README.md") if line.startswith(OURS)]


def run(project: Path, command: str, quickly: bool) -> None:
    """Run a command of a page; `quickly`: an experiment is queued and taken from the queue, or planned, but not run."""
    words = shlex.split(command.replace("~/Downloads/facebook-download.zip", "data/sample_export"))
    if words[:2] == ["jaegpt", "use"]:
        original = (project / "params.yaml").read_text(encoding="utf-8")
        call(project, *words, "--yes")
        assert (project / "params.yaml.before").read_text(encoding="utf-8") == original
        (project / "params.yaml.before").rename(project / "params.yaml")
    elif words[:2] == ["git", "commit"]:
        call(project, "git", "-c", "user.name=t", "-c", "user.email=t@t", *words[1:], "--allow-empty")
        call(project, "git", "reset", "-q", "HEAD~1")  # the files stay
    elif words[0] == "make":
        call(project, "make", "--dry-run", words[1])
    elif words[:2] in (["jaegpt", "web"], ["jaegpt", "serve"]) or words == ["jaegpt", "turing"]:
        assert "Ctrl-C ends" in started(project, *words, "--port", "0")
    elif words[:2] == ["jaegpt", "export"]:
        said = call(project, *words)
        path = project / words[-1] / "Modelfile" if "--ollama" in words else project / words[-1]
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0
        if "--ollama" in words:
            assert said.splitlines()[-2:] == [f"ollama create jaegpt -f {words[-1]}/Modelfile", "ollama run jaegpt"]
    elif words == ["dvc", "queue", "start"]:
        call(project, *words)
        wait_for_queue(project)
    elif quickly and words[:3] == ["dvc", "exp", "run"]:
        name = [] if "-n" in words else ["-n", "planned"]
        call(project, *words, *([] if "--queue" in words else ["--queue", *name]))
        call(project, "dvc", "queue", "remove", "--all")
    elif command == "dvc repro -f tpu_report" or words[:3] == ["dvc", "exp", "show"]:
        call(project, *words, *(["--no-pager"] if "show" in words else []))
    else:
        call(project, *words)


def test_every_command_in_the_readme_works(project: Path) -> None:
    assert {"make repro", "make test", "dvc repro", "dvc plots show", "dvc exp run -S w_mc=1"} <= set(README)
    for command in README:
        run(project, SHORTER.get(command, command), quickly=False)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_every_command_in_the_docs_works(project: Path, page: str) -> None:
    lines = commands_of(page)
    assert [line for line in lines if not line.startswith((*OURS, *SETUP))] == []
    for command in lines:
        if command.startswith(OURS) and command not in README:
            run(project, SHORTER.get(command, command), quickly=True)


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


def test_the_run_of_the_original_runs_with_a_random_model_of_its_shape(project: Path, tmp_path: Path) -> None:
    (command,) = (line for line in commands_of("docs/original.md") if line.startswith("dvc exp run"))
    tokenizer = AutoTokenizer.from_pretrained(project / "data/base_model")
    shape = GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=tokenizer.eos_token_id)
    assert (shape.n_layer, shape.n_head, shape.n_embd, shape.n_positions) == (12, 12, 768, 1024), "GPT-2 small's"
    torch.manual_seed(1)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path / "random")
    tokenizer.save_pretrained(tmp_path / "random")
    words = shlex.split(command.replace("microsoft/DialoGPT-small", str(tmp_path / "random")))
    # A hundredth of the training examples, and as few to be measured on.
    shorter = ("-S", "dataset.train_fraction=0.01", "-S", "dataset.valid_fraction=0.02", "evaluate")
    try:
        call(project, *words, *shorter)
        params = Params(project / "params.yaml")
        train = params.content["train"]
        assert (train["learning_rate"], train["warmup"], train["epochs"], train["token_types"]) == (5e-5, 0, 2, True)
        assert metrics(project, "train")["epochs"] == 2
        assert metrics(project, "evaluate")["candidates"] == 4
        config = load_yaml((project / "models/jaegpt/config.json").read_text(encoding="utf-8"))
        assert (config["n_layer"], config["n_embd"]) == (12, 768)
    finally:
        call(project, "git", "checkout", "-q", "params.yaml", "dvc.lock", "metrics", "plots")
