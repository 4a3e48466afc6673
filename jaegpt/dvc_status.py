"""What DVC says has changed since stages ran, in the workspace."""

from collections.abc import Sequence
from pathlib import Path

from jaegpt.errors import JaegptError


def changed_since(root: Path, stages: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each stage what it reads or writes (paths, parameters) that has changed since it ran, and how.

    Such as `{"fidelity": {"models/jaegpt": "modified", "data/tokens": "deleted"}}`: in a fresh clone the data is not
    here, and counts as deleted.

    Raises:
        JaegptError: DVC cannot say.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            # DVC looks for a bare name in the working directory's dvc.yaml.
            status = repo.status(targets=[f"{root.resolve() / 'dvc.yaml'}:{stage}" for stage in stages])
    except DvcException as error:
        reason = " ".join(str(error).split())
        raise JaegptError(f"DVC does not say what has changed since `dvc repro` ({reason}).") from None
    changed: dict[str, dict[str, str]] = {stage: {} for stage in stages}
    for address, entries in status.items():
        stage = address.rpartition(":")[2]
        # Such as ["changed command", {"changed deps": {"data/a": "modified", "params.yaml": {"seed": "modified"}}}]
        for entry in entries:
            for paths in entry.values() if isinstance(entry, dict) else ():
                for path, change in paths.items():
                    changed[stage] |= change if isinstance(change, dict) else {path: change}
    return changed
