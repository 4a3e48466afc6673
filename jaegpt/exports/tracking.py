"""Whether Git would take a download into its history: `dvc exp run` commits every file that Git does not ignore.

What lies outside the work tree, or beside no Git at all, is safe from that.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jaegpt.errors import JaegptError

_TIMEOUT_S = 60


def refuse_tracked(paths: Sequence[str], folder: str | Path = ".") -> None:
    """Refuse downloads in the work tree around `folder` that Git tracks, or would: those it does not ignore.

    Raises:
        JaegptError: with the line for .gitignore; or there is a work tree, of which Git does not say what it ignores.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or not top.strip():
        _refuse_unread(folder)
        return
    tree = Path(os.path.realpath(top.rstrip("\n")))
    for path in paths:
        # Links on the way are followed, as Git does not follow them: the link itself is no download.
        place = Path(os.path.realpath(os.path.join(folder, path)))
        if not place.exists() or not place.is_relative_to(tree):
            continue
        inside = place.relative_to(tree).as_posix()
        if inside == ".":
            raise JaegptError(f"export.path: {path} is the project itself. Move the download into a folder of its own.")
        tracked = _git(tree, "ls-files", "-z", "--", f":(top,literal){inside}")
        line = f"/{_escaped(inside)}{'/' if place.is_dir() else ''}"
        if tracked:
            raise JaegptError(
                f"export.path: Git tracks {path}, so that its messages would go wherever the project goes. Take it out "
                f"(`git rm -r --cached -- '{inside}'`; what was committed stays in the history), and add this line to "
                f".gitignore: {line}"
            )
        if _git(tree, "ls-files", "-z", "--others", "--exclude-standard", "--", f":(top,literal){inside}"):
            raise JaegptError(
                f"export.path: {path} lies in the project and Git does not ignore it: `dvc exp run` would commit it. "
                f"Add this line to .gitignore, or move the download out of the project: {line}"
            )


def _refuse_unread(folder: str | Path) -> None:
    """Refuse a work tree that Git does not read, as one that another user owns; without Git nothing is committed."""
    here = Path(os.path.realpath(folder))
    tree = next((path for path in (here, *here.parents) if (path / ".git").exists()), None)
    if tree is not None and shutil.which("git"):
        raise JaegptError(
            f"export.path: Git does not say whether it ignores the download: it cannot read {tree}. See what "
            f"`git -C {shlex.quote(str(tree))} status` says (of another owner: "
            f"`git config --global --add safe.directory {shlex.quote(str(tree))}`), and run it again."
        )


def _git(folder: str | Path, *arguments: str) -> str | None:
    """What git says, or None where it fails: there is no git, no repository, or the answer is no."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def _escaped(name: str) -> str:
    """`name` as a line of .gitignore that means it alone."""
    escaped = "".join(f"\\{sign}" if sign in "\\*?[" else sign for sign in name)
    return escaped.removesuffix(" ") + "\\ " if escaped.endswith(" ") else escaped
