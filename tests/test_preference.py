"""The benchmark of a preference step: its loss and gradient against plain model calls, and a run of all of it."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.chats import chat_tables
from helpers.models import CPU, random_examples, save_tiny, tiny_heads
from helpers.paths import ROOT

from benchmarks import compare_preference
from benchmarks.compare_preference import log_likelihoods, preference_loss, scored
from jaegpt.dialogue.encode_table import encode_examples
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.evaluation.contexts import choose_contexts, write_replies
from jaegpt.evaluation.scoring import score_candidates
from jaegpt.files import write_json
from jaegpt.tables import part_name, write_part
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.model_folder import load_tuned, save_model
from jaegpt.training.packing import Example, Plan
from jaegpt.yaml12 import load_yaml

BETA = 0.3


def gradients(model: DoubleHeads, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def plain_likelihood(model: DoubleHeads, pair: Example, number: int) -> torch.Tensor:
    """Of one candidate, by a call of the decoder on history and candidate alone."""
    ids = torch.from_numpy(np.concatenate([pair.history, pair.candidates[number]]))
    log_probabilities = model.lm(input_ids=ids[None]).logits[0].log_softmax(-1)
    places = torch.arange(len(pair.history), len(ids))
    return log_probabilities[places - 1, ids[places]].sum()


def test_loss_and_gradient_of_packed_pairs_equal_one_candidate_at_a_time(tiny: Path) -> None:
    model, plain = tiny_heads(tiny).eval(), tiny_heads(tiny).eval()
    plain.lm.set_attn_implementation("eager")
    pairs = random_examples(13, num_distractors=1)
    plan = Plan.training(pairs, batch_size=5, pack_width=0, seed=1)
    assert sorted(len(plan.members(step)) for step in range(len(plan.steps))) == [4, 4, 5]  # so slots stay unused
    rng = np.random.default_rng(2)
    before = {pair.example_id: torch.from_numpy(rng.normal(-60, 9, 2).astype(np.float32)) for pair in pairs}
    for step in range(len(plan.steps)):
        members = plan.members(step)
        reference = torch.stack([before[pair.example_id] for pair in members])
        loss = preference_loss(log_likelihoods(model, plan, step, CPU), reference, BETA)
        found = gradients(model, loss)
        terms = []
        for pair in members:
            own, real = (plain_likelihood(plain, pair, number) - before[pair.example_id][number] for number in (0, 1))
            terms.append(torch.log1p(torch.exp(-BETA * (real - own))))
        expected_loss = sum(terms) / len(terms)
        assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
        expected = gradients(plain, expected_loss)
        assert found.keys() == expected.keys()
        assert len(found) > 10
        for name, gradient in found.items():
            assert (gradient - expected[name]).norm() <= 1e-5 * expected[name].norm(), name


def test_references_are_the_likelihoods_that_evaluation_finds(tiny: Path) -> None:
    model, pairs = tiny_heads(tiny).eval(), random_examples(13, num_distractors=1)
    plan = Plan.training(pairs, batch_size=5, pack_width=0, seed=1)
    scores = score_candidates(model, pairs, CPU, "")
    known = {pair.example_id: score.log_likelihood for pair, score in zip(pairs, scores, strict=True)}
    for step, found in enumerate(scored(model, plan, CPU)):
        assert not found.requires_grad
        expected = np.stack([known[pair.example_id] for pair in plan.members(step)])
        assert found.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `dvc repro` leaves one, of invented chats, with `tiny` under a new head as the model."""
    folder = tmp_path_factory.mktemp("project") / "jaegpt"
    base, model = save_tiny(folder / "data/base_model"), folder / "models/jaegpt"
    sessions, examples = chat_tables(num_history=1)
    tables = {"sessions": sessions, "examples": examples, "tokens": encode_examples(examples, Encoder(base))}
    for name, content in tables.items():
        (folder / "data" / name).mkdir()
        write_part(content, folder / "data" / name / part_name(0), name)
    contexts = choose_contexts(examples, 100, 1337)
    write_replies(folder / "data/replies_base", contexts, ["Yes."] * len(contexts))
    model.mkdir(parents=True)
    save_model(tiny_heads(base), base, model, "card", {"learn": "sessions"})
    params = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"model": "tiny", "block_size": 256}
    params["train"]["precision"], params["fidelity"]["contexts"], params["generate"]["max_tokens"] = "fp32", 100, 12
    write_json(folder / "params.yaml", params)
    return folder


def run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[str, dict[str, dict]]:
    """What the benchmark prints, and its lines of figures by their model."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["compare_preference", *arguments])
    compare_preference.main()
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith('{"model"')]
    return printed, {row.pop("model"): row for row in rows}


def held_out(printed: str, when: str) -> dict[str, float]:
    (line,) = [line for line in printed.splitlines() if line.startswith(f"held out, {when}: ")]
    return ast.literal_eval(line.split(": ", 1)[1])


def test_a_pass_teaches_to_prefer_the_real_reply_and_changes_the_replies(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / "models/jaegpt/model.safetensors").read_bytes()
    out = tmp_path / "out"
    printed, rows = run(
        project,
        monkeypatch,
        capsys,
        "--share",
        "0.4",
        "--rate",
        "5e-3",
        "--lm",
        "0.5",
        "--show",
        "2",
        "--out",
        str(out),
    )
    untouched, after = held_out(printed, "before"), held_out(printed, "after")
    assert untouched["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert (untouched["margin"], untouched["ranked_right"]) == (0, 0.5)
    assert after["loss"] < 0.5
    assert after["margin"] > 1
    assert after["ranked_right"] > 0.8
    assert after["margin"] == pytest.approx(after["real_gains"] - after["own_gains"], abs=1e-3)
    steps = [line for line in printed.splitlines() if line.startswith("step ")]
    assert len(steps) == compare_preference.LINES
    assert set(rows) == {"owner", *(f"{when} {draw}" for when in ("before", "after") for draw in (1337, 1338))}
    assert rows["after 1337"]["likelihood"] != rows["before 1337"]["likelihood"]
    assert rows["before 1338"]["likelihood"] != rows["before 1337"]["likelihood"]
    assert {"told_apart_reading_ci", "f1_ratio", "context_words_ratio", "leak_spans", "tokens"} <= set(
        rows["after 1337"]
    )
    assert rows["owner"]["tokens"] > 10
    shown = printed.split("after less before")[1]
    assert [shown.count(f"{name}: ") for name in ("said", "owner", "before 1337", "after 1337")] == [2, 2, 2, 2]
    saved = load_tuned(out, token_types=False).lm.state_dict()
    tuned = load_tuned(project / "models/jaegpt", token_types=False).lm.state_dict()
    assert any(not torch.equal(saved[name], tuned[name]) for name in tuned)
    assert (project / "models/jaegpt/model.safetensors").read_bytes() == before


def test_a_pass_that_moves_nothing_leaves_every_figure_as_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, rows = run(project, monkeypatch, capsys, "--share", "0.02", "--rate", "1e-30")
    assert held_out(printed, "after") == held_out(printed, "before")
    assert rows["after 1337"] == rows["before 1337"]
    assert rows["after 1338"] == rows["before 1338"]


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    with pytest.raises(JaegptError, match=rf"--share .* found {share}"):
        run(project, monkeypatch, capsys, "--share", share)
