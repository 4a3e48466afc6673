"""What DVC has recorded of each run: the workspace, the last commit, and the experiments, with their figures.

The figures are those of metrics/evaluate.json at each revision. dvc.lock says which parameters they belong to, because
params.yaml may have been edited since, and an experiment that did not evaluate holds the figures of the commit before.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.runs.dvc_lock import flatten, hashes, locked_stages, recorded_params, stages_before

FIGURES = "metrics/evaluate.json"
SWEEP_PREFIX = "sweep-"  # of the names that `jaegpt sweep` gives its trials
# Its tables: one line per trial and parameter, and one line per parameter.
SWEEP_TRIALS = Path("plots/sweep.csv")
SWEEP_IMPORTANCE = Path("plots/sweep_importance.csv")
# Parameters that no figure of the evaluation depends on; records of older runs hold `checkpoint_steps`.
WITHOUT_EFFECT = (
    "sweep.", "generate.", "fidelity.", "tpu.", "train.evaluations", "train.valid_examples", "train.checkpoint_steps",
)  # fmt: skip
PRIVATE = ("export.",)  # parameters that may name people or folders
NEEDED = (
    "lm_loss",
    "mc_loss",
    "lm_ratio",
    "token_accuracy",
    "mc_accuracy",
    "mc_accuracy_ci",
    "seed_accuracy",
    "examples",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, or one that did not come to figures.

    name: the experiment's, the branch's, or `workspace`.
    rev: the commit's hash, or `workspace`.
    kind: experiment, commit, or workspace.
    state: done, running, queued, failed, or without figures.
    params: by dotted name, as in `train.epochs`.
    figures: the content of metrics/evaluate.json; empty unless done.
    note: what to know about the row, or why there are no figures.
    """

    name: str
    rev: str
    kind: str
    state: str
    params: Mapping[str, Any]
    figures: Mapping[str, Any]
    note: str = ""


def collect_runs(root: Path, all_commits: bool = False) -> list[Run]:
    """The workspace, HEAD and its experiments; or the experiments of every commit.

    Raises:
        JaegptError: `root` is no Git repository with DVC in it, or holds no commit.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.experiments.refs import ExpRefInfo
    from scmrepo.exceptions import SCMError

    try:
        with Repo(str(root)) as repo:
            revs = [repo.scm.get_rev()]
            if all_commits:
                refs = (ref for ref in repo.scm.iter_refs(base="refs/exps") if ref.count("/") == 4)
                baselines = (ExpRefInfo.from_ref(ref).baseline_sha for ref in refs)
                revs += sorted({rev for rev in baselines if rev and rev != revs[0]})
            states = repo.experiments.show(revs=revs)
            if Path(repo.root_dir) != root.resolve():
                raise DvcException(f"{root.resolve()} is inside {repo.root_dir}")
    except (DvcException, SCMError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise JaegptError(f"{reason}. Run from the top folder of a jaegpt clone that has a commit.") from None
    return list(_runs(states, root, revs[0]))


def _runs(states: Iterable[Any], root: Path, head: str) -> Iterator[Run]:
    for state in states:
        if state.rev == "workspace":
            yield _recorded(_run(state, "workspace", "workspace", root), root)
        elif state.rev == head:
            yield _recorded(_run(state, state.name or head[:7], "commit", root), root)
        for experiment in state.experiments or []:
            executor = experiment.executor.state if experiment.executor else "success"
            first = experiment.revs[0]
            yield _recorded(_run(first, experiment.name or first.rev[:7], "experiment", root, executor), root)


def _run(state: Any, name: str, kind: str, root: Path, executor: str = "success") -> Run:
    """DVC's record of one revision as a Run."""
    params: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    note = ""
    outcome = "done" if executor == "success" else executor
    if state.data:
        params = flatten((state.data.params.get("params.yaml") or {}).get("data") or {})
    if outcome == "failed":
        note = f"see `dvc queue logs {name}`"
    elif state.error:
        note = " ".join(str(state.error.msg).split())[:200]
    elif outcome == "done":
        figures, note = _figures(root, state.rev)
    if outcome == "done" and note:
        outcome = "without figures"
    return Run(name=name, rev=state.rev, kind=kind, state=outcome, params=params, figures=figures, note=note)


def _figures(root: Path, rev: str) -> tuple[dict[str, Any], str]:
    """The evaluation's figures at a revision, or why there are none. (DVC's own table leaves lists out.)"""
    content = _content(root, rev, FIGURES)
    if content is None:
        return {}, f"no {FIGURES}: it was not run as far as `evaluate`"
    try:
        figures = json.loads(content)
        missing = [key for key in NEEDED if figures.get(key) is None]
    except (ValueError, AttributeError):
        return {}, f"{FIGURES} is not readable"
    return ({}, f"{FIGURES} holds no {missing[0]}") if missing else (figures, "")


def _recorded(run: Run, root: Path) -> Run:
    """The run with the parameters its figures were made with, from dvc.lock, and a note where they are not today's.

    An experiment is its parameters: where its figures belong to others, it has none.
    """
    if run.state != "done":
        return run
    stages = locked_stages(_content(root, run.rev, "dvc.lock"))
    digest = hashlib.md5(_content(root, run.rev, FIGURES) or b"").hexdigest()
    params, note = _made_with(stages, digest, run.params)
    if note and run.kind == "experiment":
        return replace(run, state="without figures", figures={}, note="it was not run as far as `evaluate`")
    return replace(run, note=f"{note}; run `dvc repro`" if note else "", params={**run.params, **params})


def _made_with(stages: Mapping[str, Any], digest: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The recorded parameters of the figures with this MD5, and what in the record does not fit them or `params`."""
    if "evaluate" not in stages:
        return {}, "dvc.lock records no evaluation"
    outs, deps = ({name: hashes(stage, kind) for name, stage in stages.items()} for kind in ("outs", "deps"))
    if outs["evaluate"].get(FIGURES) != digest:
        return {}, f"{FIGURES} is not the one dvc.lock records"
    # Only what the evaluation needs: other stages may stand there from an earlier run, with its parameters.
    needed = sorted(stages_before(outs, deps, ("evaluate",)) - {"evaluate"})
    recorded = recorded_params(stages, (*needed, "evaluate"))
    made = {path: md5 for name in needed for path, md5 in outs[name].items()}
    for name in (*needed, "evaluate"):
        for path, md5 in deps[name].items():
            # Read in a version that no stage of this record has written: its maker has run since, and this has not.
            if made.get(path, md5) != md5:
                return recorded, f"from before {path} was made again"
    changed = [key for key in sorted(recorded) if key in params and recorded[key] != params[key]]
    changed = [key for key in changed if not key.startswith(WITHOUT_EFFECT)]
    shown = ", ".join(
        key
        if key.startswith(PRIVATE)
        else f"{key} {shown_value(key, recorded[key])} -> {shown_value(key, params[key])}"
        for key in changed[:3]
    )
    return recorded, f"from before params.yaml was changed ({shown})" if changed else ""


def shown_value(key: str, value: Any) -> Any:
    """A parameter's value as others may see it: of a model in a folder of this machine the last name only."""
    local = key == "model" and str(value).startswith(("/", ".", "~"))
    return PurePath(value).name if local else value


def _content(root: Path, rev: str, name: str) -> bytes | None:
    if rev == "workspace":
        path = root / name
        return path.read_bytes() if path.is_file() else None
    done = subprocess.run(["git", "show", f"{rev}:{name}"], cwd=root, capture_output=True)
    return done.stdout if done.returncode == 0 else None
