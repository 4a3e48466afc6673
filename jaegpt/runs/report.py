"""`jaegpt report`: one page with the figures of the current run and of the experiments, and its pictures as files."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from jaegpt.dvc_status import changed_since
from jaegpt.errors import JaegptError
from jaegpt.evaluation.plain_words import counts_in_words, sentences
from jaegpt.files import write_text, writing_folder
from jaegpt.params import Params
from jaegpt.runs import pictures
from jaegpt.runs.dvc_lock import flatten
from jaegpt.runs.lengths import reply_lengths
from jaegpt.runs.records import PRIVATE, SWEEP_IMPORTANCE, SWEEP_PREFIX, SWEEP_TRIALS, Run, shown_value
from jaegpt.runs.table import STARRED, frame_of, make_table, notes_on, weight_groups

PAGE = "index.html"
LEAST_WEIGHTS = 3  # different ones, for a picture of what they do
MOST_TRIALS = 20  # of a sweep's table
MOST_CURVES = 6  # experiments whose curves are drawn over the current run's
_COMMAND = {"tpu_report": "make tpu && dvc repro -f tpu_report", "fidelity": "dvc repro"}


@dataclass
class Section:
    """A part of the page: sentences, then a table where it has rows, then pictures by name."""

    title: str
    text: list[str]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: dict[str, str] = field(default_factory=dict)


def write_report(root: Path, runs: Sequence[Run], folder: Path) -> Path:
    """Write the page, and each picture as an SVG file beside it, in place of what `folder` held; the page's path.

    Raises:
        JaegptError: DVC cannot read the plots, or a file of figures is not JSON.
    """
    metrics = {path.stem: _figures(path) for path in sorted(root.glob("metrics/*.json"))}
    sections = make_sections(root, metrics, runs)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["with_code"] = _with_code
    environment.filters["as_table"] = _as_table
    page = environment.get_template("report.html").render(sections=sections, picture=_inlined)
    with writing_folder(folder) as unfinished:
        write_text(unfinished / PAGE, page)
        for section in sections:
            for name, picture in section.pictures.items():
                write_text(unfinished / f"{_file_name(name)}.svg", picture)
    return folder / PAGE


def _figures(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise JaegptError(f"{path}: not readable as JSON ({error}). Try `git checkout HEAD -- {path}`.") from None


def _inlined(drawn: str, name: str) -> Markup:
    """The picture with names of its own, as all pictures of a page share one set of them."""
    return Markup(re.sub(r'(?<= id=")|(?<=url\(#)', f"{_file_name(name)}-", drawn))


def _with_code(sentence: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub("`(.+?)`", r"<code>\1</code>", str(escape(sentence))))


def _as_table(table: pd.DataFrame) -> Markup:
    """The table as HTML, without its index."""
    with pd.option_context("display.max_colwidth", None):  # pandas would cut longer texts
        return Markup(table.to_html(index=False, border=0))


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def make_sections(root: Path, metrics: Mapping[str, Any], runs: Sequence[Run]) -> list[Section]:
    """The page's sections; one whose figures are missing says what makes them."""
    others = [run.name for run in runs if run.kind == "experiment" and run.state == "done"]
    others = [name for name in others if not name.startswith(SWEEP_PREFIX)]
    curves = others[:MOST_CURVES]
    plots = pictures.dvc_plots(root)
    if curves:
        compared = pictures.dvc_plots(root, curves)
        plots |= {name: compared[name] for name in (*_LEARNING, *_GRADIENTS) if name in compared}

    def drawn(*names: str) -> dict[str, str]:
        return {name: plots[name] for name in names if name in plots}

    notes = [f"Mind: {run.note}." for run in runs if run.kind == "workspace" and run.state == "done" and run.note]
    learning = Section("Learning", _training(metrics.get("train")), pictures=drawn(*_LEARNING))
    if curves and learning.pictures:
        learning.text.append(_ON_OVERLAYS)
        if len(others) > len(curves):
            learning.text.append(f"Of {len(others):,} experiments the first {len(curves):,} are drawn.")
    gradients = Section("The two tasks' gradients", [_ON_GRADIENTS], pictures=drawn(*_GRADIENTS))
    if not gradients.pictures:
        gradients.text = ["Not measured: training with both w_lm and w_mc above 0 (`dvc repro`) makes these figures."]
    changed = changed_since(root, ("block_size", "fidelity", "tpu_report"))
    # Other data, another model or other parameters make figures those of another run; edited code does not, nor does
    # data that is not here, as in a fresh clone.
    old = {
        name
        for name, changes in changed.items()
        if any(how == "modified" and not path.startswith(("jaegpt/", "stages/")) for path, how in changes.items())
    }
    return [
        Section("In short", _in_short(metrics, old)),
        _evaluation(metrics.get("evaluate"), notes),
        _data(metrics, drawn("Languages of threads"), old),
        Section(
            "Sessions", _sessions(metrics.get("sessions")), pictures=drawn("Gaps between messages", "Context by cut")
        ),
        Section("Block size", _block_size(metrics.get("block_size"), old), pictures=drawn("Block-size yield")),
        learning,
        gradients,
        _weights(runs),
        _sweep(root),
        _fidelity(metrics.get("fidelity"), old, reply_lengths(root), drawn("Ways of drawing")),
        _tpu(metrics.get("tpu"), old),
        _settings(root, notes),
    ]


_LEARNING = ("L_LM by step", "L_MC by step", "Next token right", "Accuracy by step")
_ON_OVERLAYS = "Each run has a colour; the total loss is not drawn, as each run's is in units of its own weights."
_GRADIENTS = ("Gradient norms", "Gradient cosine")
_ON_GRADIENTS = (
    "On a small fixed batch: how long each task's gradient is before its weight, and the cosine between them. A task "
    "whose weight times norm is far above the other's decides every step."
)


def _noted_old(name: str, old: Collection[str]) -> list[str]:
    """What to say of figures that are not of the current data, model and parameters."""
    command = _COMMAND.get(name, f"dvc repro {name}")
    return [f"These figures are not of this run, but of an earlier one: `{command}` makes them again."] * (name in old)


def _missing(title: str, command: str) -> Section:
    return Section(title, [f"Not measured yet: `{command}` makes these figures."])


def _in_short(metrics: Mapping[str, Any], old: Collection[str]) -> list[str]:
    """Five figures in words, as far as they are there and of this run."""
    train, found = metrics.get("train"), metrics.get("evaluate")
    sounds = metrics.get("fidelity") if "fidelity" not in old else None
    text = []
    if train:
        text.append(
            f"It learned from {_learned_from(train)} in {_duration(train['wall_s'])} on {train['device'].upper()}."
        )
    if found and found.get("base"):
        text.append(
            f"On new replies it wavers among {found['perplexity']:.0f} words (perplexity); the untouched base model "
            f"among {found['base']['perplexity']:.0f}."
        )
    if found and (found.get("candidates") or 0) > 1:
        text.append(
            f"Of {found['candidates']} replies of the same person it picks the true one in {found['mc_accuracy']:.0%} "
            f"of the cases; a guess in {1 / found['candidates']:.0%}."
        )
    if sounds and sounds.get("told_apart") is not None:
        text.append(
            f"A judge who has read both sides finds the person's real reply beside the model's in "
            f"{sounds['told_apart']:.0%} of the cases; 50% would be a perfect likeness."
        )
    elif counts := (sounds or {}).get("reasons", {}).get("told_apart"):
        text.append(f"Whether it can be told from the person was not measured ({counts_in_words(counts)}).")
    if sounds and sounds.get("leak"):
        text.append(f"{sounds['leak']['tuned']:.1%} of its replies repeat messages of the training data word for word.")
    elif counts := (sounds or {}).get("reasons", {}).get("leak"):
        text.append(f"Whether it repeats messages of the training data was not measured ({counts_in_words(counts)}).")
    return text or ["Nothing has been measured yet: `dvc repro` makes all figures."]


def _learned_from(train: Mapping[str, Any]) -> str:
    """What the steps read, in all epochs together."""
    return f"{train['examples']:,} " + ("pieces of sessions and examples" if "segments" in train else "examples")


def _duration(seconds: float) -> str:
    """A time as people say it: 45 seconds, 12 minutes, 23.0 hours, 4.5 days."""
    if seconds < 90:
        return f"{seconds:.0f} second" + "s" * (round(seconds) != 1)
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def _evaluation(found: Mapping[str, Any] | None, notes: Sequence[str]) -> Section:
    if found is None or not found.get("base"):
        return _missing("Did it learn?", "dvc repro")
    base, (low, high) = found["base"], found["mc_accuracy_ci"]
    text = [
        *notes,
        f"On {found['examples']:,} replies it never saw, the model finds the next token with a perplexity of "
        f"{found['perplexity']:.1f}; the untouched base model needs {base['perplexity']:.1f}.",
    ]
    if (candidates := found.get("candidates") or 0) > 1:  # else it is not known, or there is nothing to choose from
        chance = 1 / candidates
        text.append(
            f"Among the true reply and others of the same person, its classification head picks the true one in "
            f"{found['mc_accuracy']:.1%} of the cases (95 % interval {low:.1%} to {high:.1%}). "
            f"A guess picks it in {chance:.0%}" + (": the head helps." if low > chance else ": the head does not help.")
        )
    digits = {"loss": 3, "lm_loss": 3, "lm_ratio": 3, "perplexity": 1, "token_accuracy": 3, "mc_loss": 3, "mc_ratio": 3,
              "mc_accuracy": 3, "seed_accuracy": 5}  # fmt: skip
    rows = [
        (key, *("" if one.get(key) is None else f"{one[key]:.{places}f}" for one in (base, found)))
        for key, places in digits.items()
    ]
    return Section("Did it learn?", text, pd.DataFrame(rows, columns=["", "base model", "fine-tuned"]))


def _data(metrics: Mapping[str, Any], drawn: dict[str, str], old: Collection[str]) -> Section:
    needed = ("extract", "language", "sessions", "dataset", *(() if "block_size" in old else ("block_size",)))
    if any(name not in metrics for name in needed):
        return _missing("Data", "dvc repro block_size")
    extract, language, sessions, dataset = (metrics[name] for name in needed[:4])
    steps = [
        ("messages read", extract["messages_read"]),
        ("kept by extract", extract["messages_kept"]),
        *_by_source(extract),
        ("in a kept language", language["messages_kept"]),
        ("turns", sessions["turns"]),
        ("turns of the owner", sessions["owner_turns"]),
        ("examples", dataset["examples"]),
    ]
    steps += [("that fit a block", metrics[name]["examples_kept"]) for name in needed[4:]]
    rows = [
        (name, reason.replace("_", " "), f"{count:,}")
        for name in needed
        for reason, count in metrics[name].get("dropped", {}).items()
        if count
    ]
    text = [
        f"{dataset['train']:,} examples for training, {dataset['valid']:,} for validation. "
        f"{dataset['valid_replies_in_train']:,} validation replies also stand, word for word, in training."
    ]
    table = pd.DataFrame(rows, columns=["stage", "dropped for", "number"])
    return Section("Data", text, table, {"Data funnel": pictures.funnel(steps), **drawn})


def _by_source(extract: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The messages kept of each messenger, where there is more than one."""
    sources = extract.get("sources", {})
    return [(f"of which {name}", one["kept"]) for name, one in sources.items()] if len(sources) > 1 else []


def _sessions(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["Not measured yet: `dvc repro sessionize` makes these figures."]
    seconds = {key: value / 1000 for key, value in found["threshold_ms"].items() if value is not None}
    middle = f" The middle thread is cut at gaps of {_duration(seconds['p50'])}." if "p50" in seconds else ""
    return [
        f"{found['sessions']:,} sessions with {found['mean_turns']:.1f} turns each.{middle} "
        "`dvc exp run -S session.percentile=95` tries longer ones."
    ]


def _block_size(found: Mapping[str, Any] | None, old: Collection[str]) -> list[str]:
    if found is None:
        return ["Not measured yet: `dvc repro block_size` makes these figures."]
    times = found["tokens_padded"] / max(found["tokens_packed"], 1)
    return [
        *_noted_old("block_size", old),
        f"Recommended: {found['recommended']} tokens, the smallest that holds 99 % of the examples. Packed, they take "
        f"{found['tokens_packed']:,} tokens, {times:.1f} times fewer than in padded rows.",
    ]


def _training(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["Not measured yet: `dvc repro` makes these figures."]
    peak = found["peak_memory_mb"]  # null where the system does not say
    memory = "" if peak is None else f"{peak / 1000:.1f} GB of memory, "
    return [
        f"{_learned_from(found)}, epochs: {found['epochs']}, {found['steps']:,} steps on {found['device'].upper()} "
        f"(devices: {found['devices']}, {found['precision']}): {found['examples_per_second']:.2f} of them per second "
        f"in {_duration(found['examples'] / found['examples_per_second'])} of training, {_duration(found['wall_s'])} "
        f"with validation and checkpoints, {memory}"
        f"rows {found['pack_fill']:.1%} full."
    ]


def _weights(runs: Sequence[Run]) -> Section:
    table = make_table(runs)
    title = "Runs side by side"
    if not table["rows"]:
        return _missing(title, "dvc exp run -S w_mc=1")
    frame = frame_of(table, PRIVATE).reset_index()
    text = [f"A star marks the {STARRED}. `jaegpt table` prints the same.", *notes_on(table)]
    groups = weight_groups(table["rows"], LEAST_WEIGHTS, PRIVATE)
    if not groups:
        return Section(title, text, frame)
    if (drawn := sum(map(len, groups.values()))) < len(table["rows"]):
        text.append(f"The picture is of the {drawn:,} rows with {' or '.join(groups)}.")
    return Section(title, text, frame, {"Loss weights": pictures.weights(groups)})


def _sweep(root: Path) -> Section:
    trials, importance = (_csv(root / path) for path in (SWEEP_TRIALS, SWEEP_IMPORTANCE))
    if not trials or "study" not in trials[0]:  # a file of another version
        return _missing("Sweep", "jaegpt sweep")
    first, number = trials[0], len({row["trial"] for row in trials})
    of_model = f", of the base model {first['model']}" if first["model"] else ""
    text = [f"{number:,} trials of the study '{first['study']}'{of_model}."]
    if done := [row for row in trials if row["outcome"] == "done"]:
        best = min(done, key=lambda row: float(row["lm_loss"]))
        settings = ", ".join(f"{row['parameter']} {row['setting']}" for row in done if row["trial"] == best["trial"])
        text.append(f"The lowest L_LM is {float(best['lm_loss']):.3f}, with {settings}.")
    text.append("Losses of another base model do not compare with these.")
    rows = pd.DataFrame(trials).pivot(index=["trial", "outcome", "lm_loss"], columns="parameter", values="setting")
    rows = rows.reset_index().sort_values("lm_loss", key=lambda losses: losses.astype(float)).head(MOST_TRIALS)
    rows["lm_loss"] = rows["lm_loss"].astype(float).map("{:.3f}".format)
    if number > MOST_TRIALS:
        text.append(f"The table has the {MOST_TRIALS} trials of the lowest L_LM.")
    return Section("Sweep", text, rows.rename_axis(columns=None), pictures.sweep(trials, importance))


def _fidelity(
    found: Mapping[str, Any] | None,
    old: Collection[str],
    lengths: Sequence[Mapping[str, Any]],
    ways: Mapping[str, str],
) -> Section:
    title = "Does it sound like the person, and what does it give away?"
    if found is None:
        return _missing(title, _COMMAND["fidelity"])
    try:
        text = [*_noted_old("fidelity", old), *sentences(found)]
    except KeyError as error:  # a file of another version of this program
        said = f"metrics/fidelity.json has no {error}: `dvc repro` makes these figures again."
        return Section(title, [said], pictures=dict(ways))
    drawn = {"Style": pictures.style(found["style"])} if found["style"] else {}
    if lengths and "fidelity" not in old:
        drawn["Lengths of replies"] = pictures.lengths(lengths)
    return Section(title, text, pictures={**drawn, **ways})


def _tpu(found: Mapping[str, Any] | None, old: Collection[str]) -> Section:
    compiled = {name: entry for name, entry in (found or {}).items() if entry.get("compiles") is not None}
    if not compiled:
        return _missing("On a TPU", _COMMAND["tpu_report"])
    columns = ["slice", "compiles", "memory per device (GB)", "step at least (ms)", "epoch (min)"]
    rows = []
    for name, entry in compiled.items():
        if not entry["compiles"]:
            rows.append((name, f"no: {entry['message']}", "", "", ""))
            continue
        memory = f"{entry['hbm_needed_bytes'] / 1e9:.2f}"
        memory += f" of {entry['hbm_available_bytes'] / 1e9:.2f}" if entry["hbm_available_bytes"] else ""
        step_s, minutes = entry["roofline_step_s"], entry["minutes_per_epoch"]
        speed = (f"{1000 * step_s:.1f}", f"{minutes:.2f}") if step_s else ("", "")
        rows.append((name, "yes", memory, *speed))
    text = ["What the real TPU compiler says of a run's training step, and the bound its operations and bytes set."]
    text += _noted_old("tpu_report", old)
    return Section("On a TPU", text, pd.DataFrame(rows, columns=columns))


def _settings(root: Path, notes: Sequence[str]) -> Section:
    params = flatten(Params(root / "params.yaml").content)
    rows = [(key, str(shown_value(key, value))) for key, value in params.items() if not key.startswith(PRIVATE)]
    text = [
        *notes,
        "`dvc repro` makes this run again from params.yaml and the export; `dvc exp run -S key=value` tries a change.",
        "The settings of the section export may name people and folders, and are left out.",
    ]
    return Section("Settings, and how to repeat it", text, pd.DataFrame(rows, columns=["setting", "value"]))


def _csv(path: Path) -> list[dict[str, str]]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.is_file() else []
