"""The commands of README and docs, and how a test runs each."""

import re
import shlex
from pathlib import Path

from helpers.clones import wait_for_queue
from helpers.commands import call, started
from helpers.paths import ROOT

PAGES = sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# What would take minutes, on less. The sweep after them begins with the parameters that they leave.
SHORTER = {
    "dvc exp run -S w_mc=1": "dvc exp run -S w_mc=1 -S dataset.train_fraction=0.1 evaluate",
    "dvc exp run --queue -S 'w_mc=0.01,0.1,1,10,100'":
    "dvc exp run --queue -S w_mc=0.01 -S dataset.train_fraction=0.1 evaluate",
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
