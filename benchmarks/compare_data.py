"""Ways to make the data or to learn from it, compared at equal training on the same validation replies.

Run where `dvc repro encode` has been run: python -m benchmarks.compare_data KEY=VALUE [KEY=VALUE ...], for instance
session.percentile=50 session.percentile=90 session.percentile=95. Each is one way; a way of several keys has commas
between them. Beside params.yaml's there are two keys: average=0.25 gives the model the mean of the weights of the last
quarter of the steps, and decay=false keeps the learning rate at its peak. Some 5 minutes for each way and seed on 2 CPU
cores, with the default model. Prints a line of JSON for each and a table.

With --groups 3 the threads are first joined by threes into made-up groups, in which all write at once.

Whole threads are held out, so that the same replies are held out whatever cuts them, unless a way says otherwise by
dataset.split. Figures are of the replies that all ways keep with a history, among the same wrong candidates; each way
shows its own history, to the judges as well. The classification loss and accuracy are among the example's own
distractors.
"""

import jaegpt.environment  # noqa: F401

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from jaegpt.dialogue.encoding import Encoder
from jaegpt.dialogue.separators import JOINTS
from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.baselines import OtherReply, other_replies
from jaegpt.evaluation.content import common_words, context_words, token_f1
from jaegpt.evaluation.contexts import Context, contexts_of
from jaegpt.evaluation.judges import MIN_CONTEXTS, told_apart, wins
from jaegpt.evaluation.ranking import Lineup, hits, lineups
from jaegpt.evaluation.reading import Reader, fit
from jaegpt.evaluation.scoring import score_candidates
from jaegpt.generation.settings import DEFAULT
from jaegpt.generation.speaker import Speaker
from jaegpt.params import Params
from jaegpt.tables import SCHEMAS, iterate_parts, part_name, read_table, write_part
from jaegpt.training import loop
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.heads import round_weights
from jaegpt.training.loop import train
from jaegpt.training.model_folder import load_base, save_model
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Example, examples_from_table, segments_from_table, subset
from jaegpt.training.validation import measure
from jaegpt.yaml12 import load_yaml

# Sections and keys that a way may change: those of the stages that are run again, and of training.
COMPARED = ("session", "dataset", "train", "w_lm", "w_mc", "block_size")
NOT_COMPARED = ("train.precision", "train.evaluations", "train.valid_examples")  # the same for all ways, or not used
STAGES = ("merge_turns", "sessionize", "build_dataset", "encode")
MAX_TOKENS = 46  # of a reply: 99 of 100 of the sample's owner have no more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """The data that one way made from one seed. valid: (thread, time, reply) -> context and example.

    average: share of the last steps whose weights are averaged. decays: whether the learning rate falls.
    """

    folder: Path
    params: Params
    average: float
    decays: bool
    valid: dict[tuple[str, Any, str], tuple[Context, Example]]
    others: list[OtherReply]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ways", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--tokens", type=int, default=80_000, help="tokens of training (80,000)")
    parser.add_argument("--share", type=float, help="of the examples and sessions, the same for all; not by tokens")
    parser.add_argument("--contexts", type=int, default=150, help="replies that are drawn and judged; 0: none (150)")
    parser.add_argument("--groups", type=int, default=1, help="threads that are joined to one made-up group (1: none)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 2])
    asked = parser.parse_args()
    if 0 < asked.contexts < MIN_CONTEXTS:
        raise JaegptError(f"--contexts: judges need at least {MIN_CONTEXTS}, found {asked.contexts}. 0 draws none.")
    device = choose_device(Params().section("train", TrainConfig).precision, eager=True)
    rows = []
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            filtered = Path("data/filtered").resolve()
            if asked.groups > 1:
                filtered = joined(filtered, Path(folder) / "filtered", asked.groups)
            ways = {
                text: made(Path(folder) / str(number), text, seed, filtered) for number, text in enumerate(asked.ways)
            }
            shared = set.intersection(*(set(way.valid) for way in ways.values()))
            shown = candidates(list(ways.values()), sorted(shared), seed)
            if not shown[0]:
                raise JaegptError(f"seed {seed}: no validation reply has a history that fits a block in all ways.")
            for number, (text, way) in enumerate(ways.items()):
                figures = measured(way, shown[number], seed, asked, device)
                rows.append({"way": text, "seed": seed, **figures})
                print(json.dumps(rows[-1]), flush=True)
    print(pd.DataFrame(rows).to_string(index=False))


def joined(filtered: Path, folder: Path, size: int) -> Path:
    """The table `filtered` with each `size` threads, the longest first, as one group: its people all write at once.

    The threads of a group begin together, and no pause in them is longer than a minute where it was more than half an
    hour, so that what the owner answers to one person stands among what the others say.
    """
    rows = read_table(filtered, "filtered").to_pandas()
    pause = rows.groupby("thread_id")["sent_at"].diff().fillna(pd.Timedelta(0))
    pause = pause.mask(pause > pd.Timedelta(minutes=30), pd.Timedelta(minutes=1))
    rows["sent_at"] = rows["sent_at"].min() + pause.groupby(rows["thread_id"]).cumsum()
    longest_first = rows["thread_id"].value_counts().index
    group = {thread: f"group-{place // size:05}" for place, thread in enumerate(longest_first)}
    rows["thread_id"], rows["is_group"] = rows["thread_id"].map(group), True
    rows = rows.sort_values(["thread_id", "sent_at"], kind="stable")
    folder.mkdir()
    table = pa.Table.from_pandas(rows, SCHEMAS["filtered"], preserve_index=False)
    write_part(table, folder / part_name(0), "filtered")
    return folder


def made(folder: Path, changes: str, seed: int, filtered: Path) -> Way:
    """Run the data stages in a folder of their own, with the parameters changed and whole threads held out."""
    folder.mkdir()
    content = load_yaml(Path("params.yaml").read_text(encoding="utf-8"))
    content["seed"] = seed
    content["dataset"]["split"] = "thread"
    learning = {"average": 0.0, "decay": True}
    for change in changes.split(","):
        name, equals, value = change.partition("=")
        if equals and name in learning:
            learning[name] = load_yaml(value)
            continue
        if name.split(".")[0] not in COMPARED or name in NOT_COMPARED:
            raise JaegptError(f"{change}: not compared here; keys of {', '.join(COMPARED)} are, average and decay.")
        *sections, key = name.split(".")
        place = content[sections[0]] if len(sections) == 1 and sections[0] in content else content
        if not equals or len(sections) > 1 or key not in place:
            raise JaegptError(f"{change}: a way is KEY=VALUE, with a key of params.yaml such as session.percentile.")
        place[key] = load_yaml(value)
    if content["train"]["token_types"] or content["train"]["lora_rank"]:
        raise JaegptError("params.yaml: token_types and lora_rank are not compared; set them to false and 0.")
    (folder / "params.yaml").write_text(json.dumps(content), encoding="utf-8")
    (folder / "data").mkdir()
    (folder / "data/filtered").symlink_to(filtered)
    (folder / "data/base_model").symlink_to(Path("data/base_model").resolve())
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for stage in STAGES:
        command = [sys.executable, "-m", f"stages.{stage}"]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    params = Params(folder / "params.yaml")
    examples = examples_from_table(read_table(folder / "data/tokens", "tokens"), "valid", params.value("block_size"))
    by_id = {example.example_id: example for example in examples}
    table = read_table(folder / "data/examples", "examples")
    times = dict(zip(table["example_id"].to_pylist(), table["replied_at"].to_pylist(), strict=True))
    # A reply is the same reply, whatever keeps its messages apart.
    valid = {
        (context.thread_id, times[context.example_id], " ".join(context.reply.split())): (
            context,
            by_id[context.example_id],
        )
        for context in contexts_of(table, "valid")
        if context.example_id in by_id
    }
    others = [reply for part in iterate_parts(folder / "data/sessions", "sessions") for reply in other_replies(part)]
    average, decays = float(learning["average"]), bool(learning["decay"])
    if not 0 <= average < 1 or (average and content["train"].get("adamw_bits") == 8):
        raise JaegptError(f"average is a share of the steps, below 1, of exact moments; found {average:g}.")
    return Way(folder=folder, params=params, average=average, decays=decays, valid=valid, others=others)


def candidates(ways: Sequence[Way], shared: Sequence[Any], seed: int) -> list[list[tuple[Context, Lineup]]]:
    """[ways][replies] the way's own context, and the first way's candidates after the way's own history.

    A way with another separator has candidates of its own: the same draws, written as it writes them.
    """
    of_separators: dict[str, list[Lineup]] = {}
    for way in ways:
        separator = way.params.content["session"]["separator"]
        if separator in of_separators:
            continue
        encoder = Encoder("data/base_model", JOINTS[separator])
        contexts = [way.valid[key][0] for key in shared]
        tokens = {context.example_id: way.valid[key][1] for key, context in zip(shared, contexts, strict=True)}
        of_separators[separator] = lineups(contexts, tokens, way.others, encoder, way.params.value("block_size"), seed)
    lined_up = [of_separators[way.params.content["session"]["separator"]] for way in ways]
    block_size = ways[0].params.value("block_size")
    shown: list[list[tuple[Context, Lineup]]] = [[] for _ in ways]
    for key, *of_ways in zip(shared, *lined_up, strict=True):
        own = [
            dataclasses.replace(way.valid[key][1], candidates=lineup.example.candidates)
            for way, lineup in zip(ways, of_ways, strict=True)
        ]  # the histories differ
        fits = all(example.fits(block_size) for example in own)
        if not fits or any(False not in lineup.is_own for lineup in of_ways):
            continue
        for of_way, way, example, lineup in zip(shown, ways, own, of_ways, strict=True):
            of_way.append((way.valid[key][0], Lineup(example, lineup.is_own)))
    return shown


def measured(
    way: Way, shown: Sequence[tuple[Context, Lineup]], seed: int, asked: argparse.Namespace, device: Device
) -> dict[str, Any]:
    """Train on a share of the way's data, or on so many tokens of it, then score and draw."""
    params, block_size = way.params, way.params.value("block_size")
    config = dataclasses.replace(params.section("train", TrainConfig), evaluations=0)
    learn = params.content["dataset"]["learn"]
    every = None if learn == "replies" else segments_from_table(read_table(way.folder / "data/segments", "segments"))
    examples = examples_from_table(read_table(way.folder / "data/tokens", "tokens"), "train", block_size)
    task = Task(
        w_lm=params.value("w_lm"), w_mc=params.value("w_mc"), seed=seed, train=examples, valid=[], segments=every
    )
    plan = task.plan(config, pack_width=0, num_parts=1, row_shares=1)
    share = asked.share or min(1.0, asked.tokens / plan.sizes()[1])
    task = dataclasses.replace(
        task,
        train=subset(examples, round(share * len(examples)), seed),
        segments=every and subset(every, round(share * len(every)), seed),
    )
    model = load_base("data/base_model", seed, config.token_types)
    plan = task.plan(config, pack_width=0, num_parts=1, row_shares=1)
    began = time.monotonic()
    with learning(way.average, way.decays, len(plan.steps)):
        train(model, task, config, device)
    minutes = (time.monotonic() - began) / 60
    folder = way.folder / "model"
    view = {
        "num_history": params.content["dataset"]["num_history"],
        "block_size": block_size,
        "token_types": False,
        "learn": learn,
        "separator": params.content["session"]["separator"],
    }
    folder.mkdir()
    save_model(model, "data/base_model", folder, "", view)
    round_weights(model, device.dtype)
    scores = score_candidates(model.eval(), [lineup.example for _, lineup in shown], device, "scoring")
    lined_up = [lineup for _, lineup in shown]
    found = {
        name: hits(lined_up, scores, own=own)["likelihood"]
        for name, own in (("hits_own", True), ("hits_others", False))
    }
    as_made = {context.example_id: example for context, example in way.valid.values()}
    own = measure(model, [as_made[context.example_id] for context, _ in shown], device)
    figures: dict[str, Any] = {
        "tokens": plan.sizes()[1],
        "steps": len(plan.steps),
        "minutes": minutes,
        "lm_loss": own.lm_loss,
        "nats_a_letter": own.lm_loss * own.tokens / sum(len(context.reply) for context, _ in shown),
        "mc_loss": own.mc_loss,
        "mc_accuracy": own.mc_accuracy,
        "replies": len(shown),
        "history": float(np.mean([len(lineup.example.history) for lineup in lined_up])),
        "nats_a_reply": -float(np.mean([score.log_likelihood[-1] for score in scores])),
        "nats_a_token": -float(
            np.sum([score.log_likelihood[-1] for score in scores]) / np.sum([score.num_tokens[-1] for score in scores])
        ),
        **found,
    }
    if asked.contexts:
        places = np.random.default_rng(seed).permutation(len(shown))[: asked.contexts]  # the same replies for all ways
        contexts = [shown[place][0] for place in sorted(places.tolist())]
        figures |= replies_figures(folder, view, contexts, way, seed, device)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


@contextmanager
def learning(average: float, decays: bool, steps: int) -> Iterator[None]:
    """Training inside it averages the weights after the last share of its steps, or keeps its learning rate up."""
    plain_step, plain_restore, plain_rate = MasterAdamW.step, MasterAdamW.restore_masters, loop.learning_rate_at
    first, done, sums = steps - round(average * steps), 0, []

    def step(optimizer: MasterAdamW, learning_rate: float) -> float | torch.Tensor:
        nonlocal done, sums
        norm = plain_step(optimizer, learning_rate)
        done += 1
        if average and done > first:
            masters = [master.detach() for master in optimizer.masters]
            sums = torch._foreach_add(sums, masters) if sums else [master.clone() for master in masters]  # type: ignore[assignment]
        return norm

    def restore(optimizer: MasterAdamW) -> None:
        assert bool(sums) == bool(average), "this device's optimizer is another one"
        for master, total in zip(optimizer.masters, sums, strict=False):
            master.data.copy_(total / (done - first))
        plain_restore(optimizer)

    def rate(step: int, num_steps: int, peak: float, warmup: float) -> float:
        return plain_rate(step if decays else min(step, int(warmup * num_steps)), num_steps, peak, warmup)

    MasterAdamW.step, MasterAdamW.restore_masters, loop.learning_rate_at = step, restore, rate  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        MasterAdamW.step, MasterAdamW.restore_masters, loop.learning_rate_at = (  # type: ignore[method-assign]
            plain_step,
            plain_restore,
            plain_rate,
        )


def replies_figures(
    folder: Path, view: dict[str, Any], contexts: Sequence[Context], way: Way, seed: int, device: Device
) -> dict[str, Any]:
    """What judges and content figures say of replies to the contexts, drawn by the defaults."""
    speaker = Speaker(folder, **view, device=device)
    config = dataclasses.replace(DEFAULT, max_tokens=MAX_TOKENS)
    texts = [reply.text for reply in speaker.replies([context.history for context in contexts], config, seed)]
    real = [context.reply for context in contexts]
    reader = Reader(
        "data/base_model",
        block_size=view["block_size"],
        token_types=False,
        separator=view["separator"],
        device=device,
    )
    readings = reader.read({"owner": real, "model": texts}, contexts)
    names = [f"{number:05}" for number in range(len(contexts))]
    won = wins(real, texts, names, seed, (readings["owner"], readings["model"]))
    histories = [[text for _, text in context.history] for context in contexts]
    common = common_words(
        [context.reply for context in contexts_of(read_table(way.folder / "data/examples", "examples"), "train")]
    )
    return {
        **{name: value for name, value in told_apart(won, seed).items() if not name.endswith("_ci")},
        "f1": float(np.mean([token_f1(*pair) for pair in zip(texts, real, strict=True)])),
        "fit": fit(readings["model"], readings["owner"]),
        "context_words": context_words(texts, histories, common),
    }


if __name__ == "__main__":
    run(main)
