"""Does one pass of DPO, of the real reply against the model's own, beat calibrated drawing?

Run where `dvc repro` has been run: python -m benchmarks.compare_preference [--share 0.5] [--rate 1e-5] [--show 50].
Prints the course of the pass, a line of JSON for each drawing before and after it, and tables of both. What --show
prints is private. Nothing of the project is changed.

DPO: Rafailov et al. 2023, arXiv 2305.18290. The pairs are of training examples; the model before the pass has written
the worse replies and is the reference. It is judged on fidelity's contexts, as calibrate judges, and how it ranks pairs
is measured on some of calibrate's contexts as well.
"""

import jaegpt.environment  # noqa: F401

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

import jaegpt.evaluation.contexts as ctx
from jaegpt.arrays import Floats
from jaegpt.dialogue.encode_table import encode_candidate
from jaegpt.dialogue.separators import Separator
from jaegpt.errors import JaegptError, run
from jaegpt.evaluation.baselines import other_replies, random_replies, split_others
from jaegpt.evaluation.calibrate import Owner, Said, try_setting
from jaegpt.evaluation.config import FidelityConfig
from jaegpt.evaluation.content import token_f1
from jaegpt.evaluation.intervals import bootstrap_rows, middle_95, rounded
from jaegpt.evaluation.judges import JUDGES, MIN_CONTEXTS
from jaegpt.evaluation.leak import Training
from jaegpt.evaluation.reading import Reader, Readings
from jaegpt.evaluation.scoring import targets
from jaegpt.files import writing_folder
from jaegpt.generation.settings import GenerateConfig, GenerateSettings, found_settings
from jaegpt.generation.speaker import Speaker
from jaegpt.params import Params
from jaegpt.tables import iterate_parts, read_table
from jaegpt.training.config import Learn, TrainConfig
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.heads import DoubleHeads, cross_entropy, round_weights, set_attention, to_tensors
from jaegpt.training.model_folder import load_tuned, save_model
from jaegpt.training.optimizer import MasterAdamW, learning_rate_at
from jaegpt.training.packing import Example, Plan, examples_from_table, subset

DRAWS = (1337, 1338)  # seeds of the drawings that are judged
HELD_OUT = 64  # validation examples whose pairs are ranked
LINES = 10  # of the pass's course
CHANCES = 20  # draws of the owner's replies to other contexts, so that the ratio to their F1 hangs on no single one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--share", type=float, default=0.5, help="of the training examples that is used (0.5)")
    parser.add_argument("--beta", type=float, default=0.1, help="what a nat of margin counts in the loss (0.1)")
    parser.add_argument("--rate", type=float, default=1e-5, help="the learning rate's peak (1e-5)")
    parser.add_argument("--lm", type=float, default=0.0, help="weight of the real reply's mean cross-entropy (0)")
    parser.add_argument("--show", type=int, default=0, help="contexts whose replies are printed (0)")
    parser.add_argument("--out", help="a new folder for the model after the pass")
    asked, params = parser.parse_args(), Params()
    if not 0 < asked.share <= 1:
        raise JaegptError(f"--share is a share of the training examples, above 0 and at most 1, found {asked.share:g}.")
    seed, config = params.value("seed"), params.section("train", TrainConfig)
    device = choose_device(config.precision, eager=True)
    view: dict[str, Any] = {
        "block_size": params.value("block_size"),
        "token_types": config.token_types,
        "separator": params.field("session.separator", Separator),
        "device": device,
    }
    table, tokens = read_table("data/examples", "examples"), read_table("data/tokens", "tokens")
    train, learned = ctx.contexts_of(table, "train"), examples_from_table(tokens, "train", view["block_size"])
    valid, unseen = ctx.contexts_of(table, "valid"), examples_from_table(tokens, "valid", view["block_size"])
    used = params.field("fidelity.contexts", FidelityConfig)
    contexts, aside = ctx.choose_contexts(table, used, seed), ctx.choose_contexts(table, HELD_OUT, seed, skip=used)
    if len(contexts) < MIN_CONTEXTS:
        raise JaegptError(f"fidelity.contexts: judges need {MIN_CONTEXTS}, found {len(contexts):,}. Ask for more.")

    drawing = params.section("generate", GenerateSettings).resolved(found_settings())
    speaker = ctx.open_speaker("models/jaegpt", [*train, *valid], **view, learn=params.field("dataset.learn", Learn))
    chosen, began = subset(learned, math.ceil(asked.share * len(learned)), seed), time.monotonic()
    print(f"a reply to each of {len(chosen):,} training examples; {device.reason}; {drawing}", flush=True)
    pairs, held_out = (drawn_pairs(speaker, *side, drawing, seed) for side in ((train, chosen), (aside, unseen)))
    if not pairs or not held_out:
        raise JaegptError("no pairs to learn from, or none beside fidelity's contexts. Lower fidelity.contexts.")
    print(f"{len(pairs):,} pairs, and {len(held_out):,} held out, in {time.monotonic() - began:.0f} s", flush=True)
    texts = {f"before {draw}": ctx.answer_contexts(speaker, contexts, drawing, draw) for draw in DRAWS}
    speaker.model = load_tuned("models/jaegpt", config.token_types)  # in float32, to be trained
    one_pass(speaker.model, pairs, held_out, asked, config, device, seed)
    if asked.out:
        with writing_folder(asked.out) as folder:
            save_model(speaker.model, "data/base_model", folder, "", getattr(speaker.model.lm.config, "jaegpt", {}))
    round_weights(speaker.model.to(device.torch_device), device.dtype)
    texts |= {f"after {draw}": ctx.answer_contexts(speaker, contexts, drawing, draw) for draw in DRAWS}
    del speaker

    everyone = {"owner": [context.reply for context in contexts], **texts}
    readings = Reader("data/base_model", **view).read(everyone, contexts)
    others = [reply for part in iterate_parts("data/sessions", "sessions") for reply in other_replies(part)]
    base, replies = ctx.read_replies("data/replies_base", contexts), [context.reply for context in train]
    said = Said(train=replies, others=split_others(others, valid)[0], base=base)
    owner = Owner.known(contexts, readings["owner"], said, seed)
    compare(everyone, readings, owner, Training(train), drawing)
    for context in ctx.drawn(contexts, asked.show, seed, "show"):
        print("\nsaid:", " ⏎ ".join(context.history[-1][1].splitlines()))
        for name in ("owner", f"before {DRAWS[0]}", f"after {DRAWS[0]}"):
            print(f"{name}:", " ⏎ ".join(everyone[name][contexts.index(context)].splitlines()))


def drawn_pairs(
    speaker: Speaker, contexts: Sequence[ctx.Context], examples: Sequence[Example], config: GenerateConfig, seed: int
) -> list[Example]:
    """The examples with two candidates: a reply that the model draws, and the real one.

    Left out: contexts without an example, and pairs that are equal or do not fit a block.
    """
    by_id = {example.example_id: example for example in examples}
    contexts = [context for context in contexts if context.example_id in by_id]
    pairs = []
    for context, text in zip(contexts, ctx.answer_contexts(speaker, contexts, config, seed), strict=True):
        example = by_id[context.example_id]
        own, real = np.array(encode_candidate(speaker.encoder, text)), example.candidates[-1]
        pairs.append(dataclasses.replace(example, candidates=[own, real]))
    return [pair for pair in pairs if pair.fits(speaker.block_size) and not np.array_equal(*pair.candidates)]


def one_pass(
    model: DoubleHeads, pairs: Sequence[Example], held_out: Sequence[Example], asked: argparse.Namespace,
    config: TrainConfig, device: Device, seed: int,
) -> None:  # fmt: skip
    """Train `model`, in float32 before and after; without dropout, so that likelihoods compare with the reference's."""
    attention = model.to(device.torch_device).eval().lm.config._attn_implementation
    optimizer = MasterAdamW(model, device.dtype, config.weight_decay, config.max_grad_norm)
    plan = Plan.training(pairs, batch_size=config.batch_size, pack_width=0, seed=seed)
    aside = Plan.once(held_out, config.batch_size)
    # References come from the very rows of the pass: in bf16, other neighbours would give other last digits.
    reference, aside_reference = scored(model, plan, device), scored(model, aside, device)
    print("held out, before:", figures(aside_reference, aside_reference, asked.beta))
    began, count, recent = time.monotonic(), len(plan.steps), []
    for step in tqdm(range(count), desc="preference", unit="step", disable=None):
        found = log_likelihoods(model, plan, step, device)
        loss = preference_loss(found, reference[step], asked.beta)
        if asked.lm:
            loss = loss - asked.lm * found[:, 1].sum() / sum(len(pair.candidates[-1]) for pair in plan.members(step))
        loss.backward()
        if not math.isfinite(optimizer.step(learning_rate_at(step, count, asked.rate, config.warmup))):
            raise JaegptError(f"step {step + 1:,}: the gradient is not finite. Lower --rate.")
        recent.append((found.detach(), reference[step]))
        if (step + 1) * LINES // count > step * LINES // count:  # means since the line before
            tqdm.write(f"step {step + 1:,} of {count:,}: {figures(*zip(*recent, strict=True), asked.beta)}")
            recent.clear()
    print(f"the pass took {time.monotonic() - began:.0f} s")
    print("held out, after:", figures(scored(model, aside, device), aside_reference, asked.beta), flush=True)
    optimizer.restore_masters()
    set_attention(model.lm, attention)  # packed rows have one of their own, which drawing does not know


@torch.no_grad()
def scored(model: DoubleHeads, plan: Plan[Example], device: Device) -> list[Tensor]:
    """[steps] log-likelihoods of each step's pairs."""
    return [log_likelihoods(model, plan, step, device) for step in tqdm(range(len(plan.steps)), disable=None)]


def log_likelihoods(model: DoubleHeads, plan: Plan[Example], step: int, device: Device) -> Tensor:
    """[pairs, 2] the sum over the tokens of each candidate of a step, which has one row; with gradients."""
    (packed,) = plan.parts(step)
    at, target, group = (torch.from_numpy(array).to(device.torch_device) for array in targets(packed))
    batch = to_tensors(packed, device.torch_device, device.dtype)._replace(label_at=at[None])
    tokens = -cross_entropy(model.logits(model.trunk(batch), batch), target[None], "none")  # [tokens]
    sums = tokens.new_zeros(packed.score_at.size).index_add(0, group, tokens)
    return sums.view(-1, 2)[: len(plan.members(step))]  # another step may have more pairs


def preference_loss(found: Tensor, reference: Tensor, beta: float) -> Tensor:
    """DPO's loss of log-likelihoods [pairs, 2] of the own and the real reply: the mean over pairs (equation 7)."""
    own, real = (found - reference).unbind(1)
    return -functional.logsigmoid(beta * (real - own)).mean()


def figures(found: Sequence[Tensor], reference: Sequence[Tensor], beta: float) -> dict[str, float]:
    """Means over all steps' pairs: margin and gains in nats, and shares, where a margin of 0 is ranked half right."""
    now, then = torch.cat(list(found)), torch.cat(list(reference))
    own, real = (now - then).unbind(1)
    parts = {
        "margin": real - own,
        "ranked_right": ((real - own).sign() + 1) / 2,
        "real_likelier": (now[:, 1] > now[:, 0]).float(),
        "real_gains": real,
        "own_gains": own,
    }
    means = {name: float(part.mean()) for name, part in parts.items()}
    return dict(rounded({"loss": float(preference_loss(now, then, beta)), **means}))


def compare(
    everyone: Mapping[str, Sequence[str]], readings: Mapping[str, Readings], owner: Owner, training: Training,
    config: GenerateConfig,
) -> None:  # fmt: skip
    """Print the figures of each drawing and of the owner, and what the pass has changed, drawings taken together."""

    def f1(replies: Sequence[str]) -> Floats:
        return np.array([token_f1(*pair) for pair in zip(replies, owner.replies, strict=True)])

    chance = np.mean([f1(random_replies(owner.contexts, owner.train, owner.seed + n)).mean() for n in range(CHANCES)])
    own_words, rows = owner.context_words(owner.replies), {}
    by_context: dict[str, dict[str, Any]] = {}  # drawing -> figure -> [contexts]
    for name, replies in everyone.items():
        row = dict(owner.figures)
        if name != "owner":
            tried = try_setting(config, replies, readings[name], owner)
            by_context[name] = {**{JUDGES[judge]: won for judge, won in tried.won.items()}, "f1": f1(replies)}
            row = {**tried.figures, "f1_ratio": float(tried.figures["f1"] / chance)}
            row["context_words_ratio"] = own_words and (row["context_words"] or 0) / own_words
            del row["settings"]
        for leak, test in {"leak": training.leaks, "leak_spans": training.shares_span}.items():
            row[leak] = sum(map(test, replies)) / len(replies)
        row["tokens"] = float(readings[name].num_tokens.mean())  # with what ends the turn; read up to half a block
        rows[name] = rounded(row)
        print(json.dumps({"model": name, **rows[name]}), flush=True)
    owners = rows.pop("owner")
    table = pd.DataFrame({**rows, "owner": owners}, dtype=object)
    print(table.where(table.notna(), "").to_string())
    changes = {}
    for figure in ("f1", *JUDGES.values()):
        before, after = (np.mean([by_context[f"{when} {n}"][figure] for n in DRAWS], 0) for when in ("before", "after"))
        low, high = middle_95((after - before)[bootstrap_rows(len(after), owner.seed)].mean(axis=1))
        changes[figure] = {"after less before": (after - before).mean(), "from": low, "to": high}
    print(pd.DataFrame(changes).T.round(4).to_string())


if __name__ == "__main__":
    run(main)
