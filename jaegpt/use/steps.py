"""The steps of `jaegpt use`: read, ask, propose settings, say what a training takes, write params.yaml."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jaegpt.dialogue.cuts import ADVISED, worth_a_look
from jaegpt.dialogue.examples import DatasetConfig
from jaegpt.dialogue.language import LanguageConfig
from jaegpt.dialogue.session_gaps import SessionConfig
from jaegpt.errors import JaegptError, make_private
from jaegpt.exports.account import ExportReport
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import survey_export
from jaegpt.exports.tracking import refuse_tracked
from jaegpt.exports.zones import zone_name
from jaegpt.files import scratch_folder, write_text
from jaegpt.inspection import NUM_SAMPLES, languages_of
from jaegpt.params import Params
from jaegpt.runs.dvc_lock import locked_stages, recorded_params
from jaegpt.training.block_size import BLOCK_SIZES
from jaegpt.training.config import TrainConfig
from jaegpt.use.outlook import Outlook, Ruler, Settings, compare_cuts, keep_part, look_ahead
from jaegpt.use.params_file import changed_text, with_deps, write_params
from jaegpt.use.questions import Asker, written
from jaegpt.use.words import cost_lines, learning_lines, reading_lines, setting_lines

COMMON_SHARE = 0.1  # of the messages, that a language has to have to be proposed
PARAMS, PIPELINE, BASE = Path("params.yaml"), Path("dvc.yaml"), Path("data/base_model")


@dataclass
class Proposed:
    """New values by key of params.yaml, and why; a key with a reason alone keeps its value."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Any, now: Any, reason: str) -> None:
        self.reasons[key] = reason
        if value != now:
            self.values[key] = value


def use_chats(paths: Sequence[str], takes_all: bool) -> None:
    """Set params.yaml up for the exports under `paths`.

    Raises:
        JaegptError: nothing can be learned from them, Git would track them, or something has to be asked of nobody.
    """
    params = Params(PARAMS)
    here = params.section("export", ExportConfig)
    paths = list(dict.fromkeys(_as_written(path) for path in paths))
    refuse_tracked(paths)
    asker = Asker.at_terminal(takes_all)
    make_private()
    # In data/, which only this user reads and every worker of a cluster reaches.
    with scratch_folder("data/.use") as scratch:
        config, report, parts = _read(dataclasses.replace(here, path=paths, on_error="skip"), asker, scratch)
        proposed = Proposed()
        proposed.set("export.path", paths if len(paths) > 1 else paths[0], here.path, "")
        for key, value in written({"owner": config.owner, "date_order": config.date_order}).items():
            proposed.set(f"export.{key}", value, getattr(here, key), "")
        if here.on_error == "stop" and (report.skipped or report.dropped.get("malformed")):
            proposed.set("export.on_error", "skip", "stop", "what cannot be read would stop the pipeline; see above")
        print("\n".join([*reading_lines(paths, report, zone_name(config.timezone)), *asker.said]))
        outlook, base = _propose_settings(params, proposed, report, parts)
        table_bytes = sum(os.path.getsize(part) for part in parts)
    content = _merged(params, proposed)
    print("\n".join(learning_lines(outlook, content["dataset"]["learn"])))
    print("\n".join(setting_lines(params.content, proposed.values, proposed.reasons)))
    if sys.stderr.isatty():
        print("Measuring this machine ...", end="\r", file=sys.stderr, flush=True)
    print("\n".join(_cost_lines(params, content, outlook, base, table_bytes)))
    _write(proposed, len(paths), asker, takes_all)


def _read(config: ExportConfig, asker: Asker, scratch: Path) -> tuple[ExportConfig, ExportReport, list[str]]:
    """Read the downloads, and read them again after each answer that changes how they are read.

    Returns the settings as answered, the report of the last reading, and the files that hold its parts of `messages`.
    """
    for number in range(sys.maxsize):
        folder = scratch / str(number)
        folder.mkdir()
        report = survey_export(config, NUM_SAMPLES, measure=partial(keep_part, folder=folder.absolute()))
        changes = asker.next_changes(report, config)
        if not changes:
            break
        shutil.rmtree(folder)
        config = dataclasses.replace(config, **changes)
    if not report.messages_kept or not report.owner_messages:
        from jaegpt.exports.account import refuse_nothing

        assert report.owner is not None
        refuse_nothing(report, report.owner)
    return config, report, [part for part in report.measured if part]


def _propose_settings(
    params: Params, proposed: Proposed, report: ExportReport, parts: Sequence[str]
) -> tuple[Outlook, Path | None]:
    """Languages, then the cut, then the block, each on what the ones before leave; the base model where it is here."""
    language, session = params.section("language", LanguageConfig), params.section("session", SessionConfig)
    shares = languages_of(report.samples)
    if shares and sum(shares.get(code, 0.0) for code in language.keep) < language.min_share:
        common = common_languages(shares)
        shown = ", ".join(f"{code} {shares[code]:.0%}" for code in common)
        proposed.set("language.keep", common, language.keep, f"what is written here: {shown}")
        language = dataclasses.replace(language, keep=common)
    used, advised = compare_cuts(parts, language, session)
    if session.fixed_gap_s is not None:
        proposed.set(
            "session.fixed_gap_s", session.fixed_gap_s, session.fixed_gap_s, "cuts at your own gap, in seconds"
        )
    elif worth_a_look(used, advised):
        reason = (
            f"cuts where you pause for longer: {advised.share_with_context():.0%} of your turns keep something to "
            f"answer to; at {session.percentile:g}, {used.share_with_context():.0%}"
        )
        proposed.set("session.percentile", ADVISED, session.percentile, reason)
        session = dataclasses.replace(session, percentile=ADVISED)
    else:
        proposed.set(
            "session.percentile",
            session.percentile,
            session.percentile,
            "another cut would hardly leave more to answer to",
        )
    base = _unpacked_base(params.value("model"))
    ruler = Ruler.of(params.value("model"), base)
    dataset = params.section("dataset", DatasetConfig)
    settings = Settings(language=language, session=session, dataset=dataset, seed=params.value("seed"))
    outlook = look_ahead(parts, settings, ruler)
    block = outlook.sizes.recommended() or BLOCK_SIZES[-1]
    reason = f"the smallest into which 99% of your examples fit (here {outlook.sizes.share_that_fits(block):.1%})"
    if not base:
        reason += "; estimated, as the base model is not unpacked yet"
    proposed.set("block_size", block, params.value("block_size"), reason)
    return outlook, base


def common_languages(shares: Mapping[str, float]) -> list[str]:
    """Those of `shares` (the most frequent first) worth keeping; the first where many are mixed and none is."""
    return [code for code, share in shares.items() if share >= COMMON_SHARE] or list(shares)[:1]


def _unpacked_base(model: str) -> Path | None:
    """The base model's folder, where the stage base_model has made it of this model."""
    lock = Path("dvc.lock")
    stages = locked_stages(lock.read_bytes() if lock.is_file() else None)
    is_this = recorded_params(stages, ["base_model"]).get("model") == model
    return BASE if is_this and (BASE / "config.json").is_file() else None


def _cost_lines(
    params: Params, content: dict[str, Any], outlook: Outlook, base: Path | None, table_bytes: int
) -> list[str]:
    from jaegpt.training.devices import choose_device
    from jaegpt.training.four_bits import check_bits
    from jaegpt.training.memory import Load, memory_lines
    from jaegpt.use.cost import Disk, ModelShape, config_of, training_seconds

    train = params.section("train", TrainConfig)
    work = outlook.work(
        learn=content["dataset"]["learn"],
        block_size=content["block_size"],
        batch_size=train.batch_size,
        mc_share=train.mc_share if params.value("w_mc") else 0,
    )
    config = config_of(params.value("model"), base)
    if config is None:
        return cost_lines(work.steps * train.epochs, None, "the base model is not on this machine yet", [], None)
    shape = ModelShape.of(config)
    device = choose_device(train.precision)
    check_bits(train, device.kind)  # as the stage train does
    num_valid = int((~outlook.is_train).sum())
    num_measured = min(num_valid, train.valid_examples or num_valid) * train.evaluations
    per_example = float(outlook.sizes.packed.mean())
    seconds = training_seconds(
        shape,
        work,
        epochs=train.epochs,
        device=device,
        lora_rank=train.lora_rank,
        adamw_bits=train.adamw_bits,
        valid_tokens=int(num_measured * per_example),
    )
    load = Load.about(
        tokens=work.tokens // work.steps,
        labels=work.labels // work.steps,
        batch_size=train.batch_size,
        example_tokens=int(per_example),
        example_labels=int(outlook.replies.mean()),
    )
    memory = memory_lines(config, train, device, load)
    disk = Disk.of(shape, table_bytes, train.lora_rank)
    return cost_lines(work.steps * train.epochs, seconds, device.reason, memory, disk)


def _merged(params: Params, proposed: Proposed) -> dict[str, Any]:
    """The content of params.yaml with what is proposed."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in params.content.items()}
    for key, value in proposed.values.items():
        section, _, name = key.rpartition(".")
        (content[section] if section else content)[name] = value
    return content


def _write(proposed: Proposed, num_paths: int, asker: Asker, takes_all: bool) -> None:
    if asker.takes_all and not takes_all:
        raise JaegptError("use: nothing was written, as nobody is there to be asked. --yes takes what is proposed.")
    if not asker.yes("Write this into params.yaml?"):
        print("Nothing was written.")
        return
    text = changed_text(PARAMS.read_text(encoding="utf-8"), proposed.values)
    pipeline = with_deps(PIPELINE.read_text(encoding="utf-8"), num_paths)
    kept = write_params(PARAMS, text)
    if pipeline != PIPELINE.read_text(encoding="utf-8"):
        write_text(PIPELINE, pipeline)
        print("dvc.yaml: the stage extract now names each of the paths.")
    print(f"params.yaml is set up; its text before is in {kept}." if kept else "params.yaml is as it was.")
    print("Next: dvc repro")


def _as_written(path: str) -> str:
    """A path as params.yaml holds it: whole, or from the project's folder where it lies in that."""
    full = os.path.abspath(os.path.expanduser(path))
    try:
        full.encode()
    except UnicodeEncodeError:
        raise JaegptError(
            f"export.path: the name {full!r} is not valid UTF-8. Rename it, and run this again."
        ) from None
    inside = os.path.relpath(full)
    return full if inside.startswith("..") else inside
