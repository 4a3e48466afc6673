"""A frozen copy of the project for each trial of a sweep, so that what is edited meanwhile changes no trial.

`dvc exp run --temp` would do it too, but it stashes the workspace for a moment at the start of each trial, and two of
them started at once take each other's stash. A copy here is a Git clone that borrows the objects of the project, with
its uncommitted changes on top, and DVC's cache is shared: what one trial has made is there for the next.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.params import Params
from jaegpt.runs.dvc_lock import flatten, stages_before
from jaegpt.runs.records import PRIVATE
from jaegpt.yaml12 import load_yaml

# The stages that a trial runs up to: the figures, and what `dvc exp apply` would miss: the plots of the data, and the
# base model's replies, which all trials share.
TARGETS = ("evaluate", "block_size", "replies_base")
# `git stash create` writes a commit, and Git refuses that to somebody it does not know the name of.
_IDENTITY = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "sweep"), ("EMAIL", "-"))
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The project as it was when the sweep began.

    head: the commit that experiments are recorded under.
    state: the commit that holds head and the uncommitted changes.
    changed: tracked files with uncommitted changes.
    cache: DVC's cache folder.
    """

    root: Path
    head: str
    state: str
    changed: tuple[str, ...]
    cache: str

    @contextmanager
    def copy(self, folder: Path) -> Iterator[Path]:
        """A copy in `folder`, which must not exist, removed when the block ends."""
        try:
            git(self.root, "clone", "--quiet", "--shared", "--no-checkout", str(self.root), str(folder))
            git(folder, "checkout", "--quiet", "--detach", self.head)
            git(folder, "read-tree", "-u", "--reset", self.state)  # the index too, so that new files are not lost
            self._share_cache(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _share_cache(self, folder: Path) -> None:
        from dvc.config import Config

        local = self.root / ".dvc/config.local"
        if local.is_file():
            shutil.copy(local, folder / ".dvc/config.local")
        with Config(str(folder / ".dvc")).edit("local") as config:
            config.setdefault("cache", {})["dir"] = self.cache

    def keep_experiment(self, folder: Path, name: str) -> None:
        """Bring the experiment that a copy has made into the project; one of the same name is replaced."""
        ref = f"refs/exps/{self.head[:2]}/{self.head[2:]}/{name}"
        git(self.root, "-c", "gc.auto=0", "fetch", "--quiet", "--no-tags", str(folder), f"+{ref}:{ref}")


def take_snapshot(root: Path) -> Snapshot:
    """Freeze the project as it is now, uncommitted changes to tracked files included.

    Raises:
        JaegptError: `root` is not the top folder of a Git repository with DVC in it, or has no commit.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local_cache_dir
        head = git(root, "rev-parse", "--verify", "HEAD")
    except (DvcException, JaegptError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise JaegptError(f"sweep: {reason}. Run from the top folder of a jaegpt clone that has a commit.") from None
    changed = [line[3:] for line in git(root, "status", "--porcelain", "--untracked-files=no").splitlines()]
    return Snapshot(
        root=root.resolve(),
        head=head,
        state=git(root, "stash", "create") or head,
        changed=tuple(changed),
        cache=os.path.abspath(cache),
    )


def fixed_settings(root: Path, overrides: Mapping[str, Any], searched: set[str], salt: bytes) -> dict[str, str]:
    """What a trial's loss depends on besides the parameters searched: other parameters, and the code's hashes.

    Read from dvc.yaml: all that `evaluate` and the stages before it list. Trials of one study must agree in all of it.

    Args:
        salt: goes into the hashes of parameters that may name people: without it, whoever has the study's file could
            hash names until one fits.
    """
    stages = load_yaml((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = {**flatten(Params(root / "params.yaml").content), **overrides}
    settings: dict[str, str] = {}
    outs = {name: list(_paths(stage)) for name, stage in stages.items()}
    deps = {name: stage.get("deps", []) for name, stage in stages.items()}
    for name in stages_before(outs, deps, ["evaluate"]):
        for listed in stages[name].get("params", []):
            for key, value in params.items():
                if not (key == listed or key.startswith(f"{listed}.")) or key in searched:
                    continue
                text = repr(value)
                private = key.startswith(PRIVATE)
                settings[key] = hmac.new(salt, text.encode(), hashlib.sha256).hexdigest() if private else text
        for dep in deps[name]:
            if dep.startswith(("jaegpt/", "stages/")):  # a file, or a folder of them
                files = sorted((root / dep).rglob("*.py")) or [root / dep]
                settings[dep] = hashlib.md5(b"".join(path.read_bytes() for path in files)).hexdigest()
    return dict(sorted(settings.items()))


def private_salt(path: Path) -> bytes:
    """The bytes in the file `path`, which Git ignores; made of random ones at the first call."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    return path.read_bytes()


def _paths(stage: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("outs", "metrics", "plots"):
        for out in stage.get(kind, []):
            yield from [out] if isinstance(out, str) else out


def git(folder: Path, *arguments: str) -> str:
    """Run Git in `folder`, out of reach of the terminal's Ctrl-C; what it prints, without the last line's end.

    Raises:
        JaegptError: it failed; with what it said.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **_IDENTITY}, capture_output=True, encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise JaegptError(f"git {arguments[0]}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout.rstrip("\n")
