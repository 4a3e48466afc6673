"""Small random models of other families: packed losses, scores and gradients against the plain model's."""

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from helpers.clones import set_params
from helpers.families import (
    EQUAL,
    FAMILIES,
    HEADS,
    TABLE,
    compared,
    compiled,
    double_heads,
    measured,
    packed,
    plain,
    row,
)  # fmt: skip
from helpers.models import CPU, TRAIN_CONFIG, random_examples, save_tiny
from helpers.paths import ROOT
from transformers import AutoTokenizer

import stages.base_model
from jaegpt.evaluation.scoring import score_candidates
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker
from jaegpt.training import packing_check
from jaegpt.training.config import Task
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters, merged
from jaegpt.training.model_folder import load_base, load_lm, load_tuned, save_model
from jaegpt.training.own_output import own_logits
from jaegpt.training.packing_check import check_base, check_decoder
from jaegpt.training.validation import measure

ONE_EPOCH = dataclasses.replace(TRAIN_CONFIG, epochs=1, evaluations=0)
COMPOSITE, OPT_350M = "Gemma 3 4B and larger (text)", "OPT-350m"
ADAPTED = (
    COMPOSITE, OPT_350M, "Gemma 4 (text)", "Phi 3.5 MoE", "Phi 3, Phi 4", "Qwen 3", "SmolLM 3", "Gemma 2",
    "Granite 3, 4 micro", "Cohere Command R", "DeepSeek V3, R1", "GPT-J", "Nemotron",
)  # fmt: skip
ROWS = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]


def test_the_table_has_every_family_and_every_refusal_with_a_reason() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in ROWS] == list(FAMILIES)
    refused = {line.split(" | ")[1] for line in ROWS if " | no | " in line}
    known = {kind.removesuffix(" with ALiBi") for kind in packing_check._KNOWN}
    assert {kind.removesuffix("_text") for kind in refused} == known
    assert len(refused) > 10


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_says_what_is_measured(family: str) -> None:
    found = measured(family)
    assert row(family, found) in ROWS, "`make families` writes it"
    if found.trained != "no":
        assert max(found.differences.values()) < EQUAL, found


@pytest.mark.parametrize("family", ADAPTED)
def test_packed_equals_plain_with_adapters(family: str) -> None:
    model = double_heads(FAMILIES[family])
    add_adapters(model, 4, 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # they start at 0, without effect
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    check_decoder(model)
    assert max(compared(model, random_examples(5)).values()) < EQUAL


def test_compiled_layers_of_a_dense_mask_give_what_plain_ones_give() -> None:
    assert compiled("GPT-J") < EQUAL


def test_a_cap_is_seen_on_small_logits_and_none_is_seen_where_there_is_none() -> None:
    """The default model's logits are its output embedding's, to the bit."""
    assert double_heads(t.Gemma2Config(**{**HEADS, "initializer_range": 1e-3})).own_output
    assert not double_heads(t.Gemma2Config(**HEADS, final_logit_softcapping=None)).own_output
    for family in ("Llama 1 to 3, TinyLlama, SmolLM 1 and 2, Yi", "GPT-2, DialoGPT", "Phi 1, 2", OPT_350M):
        model = double_heads(FAMILIES[family])
        assert not model.own_output
        batch = packed(random_examples(3), fixed_shapes=False)
        hidden = model.trunk(batch)
        at_labels = hidden.gather(1, batch.label_at[:, :, None].expand(-1, -1, hidden.shape[-1]))
        assert torch.equal(model.logits(hidden, batch), model.lm.get_output_embeddings()(at_labels))


def test_logits_scored_one_place_at_a_time_are_the_models_own() -> None:
    model = double_heads(FAMILIES["Gemma 2"])
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 97, (2, 7)))
    with torch.no_grad():
        hidden = model.lm.base_model(input_ids=ids).last_hidden_state
        trunk = model.lm.model
        found = own_logits(model.lm, hidden[:, [2, 5]])
        expected = model.lm(input_ids=ids, logits_to_keep=torch.tensor([2, 5])).logits
    assert model.lm.model is trunk
    assert torch.equal(found, expected)
    assert expected.abs().max() <= 3


def save_with_tiny_tokenizer(family: str, folder: Path) -> None:
    config = copy.deepcopy(FAMILIES[family])
    config.get_text_config().vocab_size = config.vocab_size = 257
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(save_tiny(folder / "tiny")).save_pretrained(folder / "model")


def test_a_dense_mask_is_chosen_once_and_stays_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_with_tiny_tokenizer("GPT-J", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    set_params(tmp_path, model=str(tmp_path / "model"))
    stages.base_model.main()
    assert "slower: attention over a dense mask" in capsys.readouterr().out
    base = tmp_path / "data/base_model"
    files = {path.name for path in base.iterdir()}
    assert files == {path.name for path in (tmp_path / "model").iterdir()}
    model = load_base(base, 0, token_types=False)
    assert model.dense
    before = model.lm.transformer.wte.weight.clone()
    train(model, Task(w_lm=1.0, w_mc=0.5, seed=1, train=random_examples(16), valid=random_examples(4)), ONE_EPOCH, CPU)
    assert not torch.equal(model.lm.transformer.wte.weight, before)
    (tmp_path / "tuned").mkdir()
    save_model(model, base, tmp_path / "tuned", "A card.", {"block_size": 128})
    tuned = load_tuned(tmp_path / "tuned", token_types=False).eval()
    assert tuned.dense
    check_decoder(tuned)
    examples = random_examples(3, num_distractors=2)
    one_row = copy.deepcopy(tuned)
    lm, mc, _ = plain(one_row, examples)
    ranked = score_candidates(tuned, examples, CPU, "test")
    numbers = sum(len(example.candidates[-1]) for example in examples)
    assert -sum(scores.log_likelihood[-1] for scores in ranked) / numbers == pytest.approx(lm.item(), rel=1e-5)
    assert mc.item() == pytest.approx(measure(tuned, examples, CPU).mc_loss, rel=1e-5)


def test_adapters_are_on_plain_linear_layers_of_the_text_model_only() -> None:
    for family, layers in (("Phi 3.5 MoE", 4), (COMPOSITE, 7), ("Qwen 3", 7)):
        model = double_heads(FAMILIES[family])
        names = add_adapters(model, 2, 0).targeted_module_names
        assert len(names) == 2 * layers, names
        assert not [name for name in names if "router" in name or "vision" in name or "lm_head" in name]


@pytest.mark.parametrize("family", [COMPOSITE, OPT_350M, "Gemma 2", "GPT-J"])
def test_they_are_checked_and_speak_from_their_folder(family: str, tmp_path: Path) -> None:
    save_with_tiny_tokenizer(family, tmp_path)
    check_base(tmp_path / "model", token_types=False, lora_rank=2)
    speaker = Speaker(tmp_path / "model", device=CPU)
    speaker.has_head = True
    settings = GenerateConfig(
        top_p=0.9, top_k=0, temperature=1.0, no_repeat_ngram=0, max_tokens=5, candidates=2, rerank="head"
    )
    (reply,) = speaker.replies([[(False, "hey")]], settings, seed=1)
    assert reply.score is not None
    assert load_base(tmp_path / "model", 0, token_types=False).score.weight.shape[1] == (
        16 if family == OPT_350M else 32
    )


def test_a_model_without_sdpa_is_given_a_mask_that_it_takes() -> None:
    model = double_heads(FAMILIES["Qwen 3"])
    examples = random_examples(3)
    batch = packed(examples, fixed_shapes=True)
    expected = model(batch, 1.0, 1.0)
    type(model.lm)._supports_sdpa = False
    try:
        found = model(batch, 1.0, 1.0)
        assert model.lm.config._attn_implementation == "eager"
    finally:
        type(model.lm)._supports_sdpa = True
    assert found.lm.item() == pytest.approx(expected.lm.item(), abs=1e-5)
    assert found.mc.item() == pytest.approx(expected.mc.item(), abs=1e-5)


def test_added_tokens_that_are_not_special_are_never_said(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(tmp_path / "model")
    model = load_base(base, 0, token_types=False).lm
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    one = Speaker(tmp_path / "model", device=CPU)
    thoughts = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    logits = torch.zeros(1, len(tokenizer))
    logits[:, thoughts] = 100.0
    settings = GenerateConfig(top_p=0.9, top_k=0, temperature=1.0, no_repeat_ngram=0, max_tokens=5, candidates=1)
    nothing = torch.zeros((1, 0), dtype=torch.long)
    drawn = {int(one._draw(settings, logits, nothing, torch.tensor([at]))) for at in np.linspace(0, 0.99, 50)}
    assert len(drawn) > 10
    assert not drawn & {*thoughts, one.encoder.end_of_turn[-1]}


@pytest.mark.parametrize("rank", [0, 2])
def test_a_composite_model_is_trained_saved_and_read_back(rank: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(FAMILIES[COMPOSITE]).save_pretrained(tmp_path / "base")
    model = load_base(tmp_path / "base", 0, token_types=False)
    before = {name: weight.clone() for name, weight in model.lm.named_parameters()}
    adapters = add_adapters(model, rank, 0) if rank else None
    task = Task(w_lm=1.0, w_mc=0.5, seed=1, train=random_examples(16), valid=[])
    config = dataclasses.replace(ONE_EPOCH, lora_rank=rank)
    log = train(model, task, config, CPU)
    assert log.figures["steps"] == 2
    if adapters:
        model.lm = merged(adapters, load_lm(tmp_path / "base"))
    model.eval()
    (tmp_path / "tuned").mkdir()
    save_model(model, tmp_path / "base", tmp_path / "tuned", "A card.", {"block_size": 128})
    read = load_tuned(tmp_path / "tuned", token_types=False).eval()
    batch = packed(random_examples(3), fixed_shapes=False)
    with torch.no_grad():
        assert read(batch, 1.0, 1.0).lm.item() == pytest.approx(model(batch, 1.0, 1.0).lm.item(), abs=1e-6)
    changed = {name for name, weight in read.lm.named_parameters() if not torch.equal(weight, before[name])}
    assert len(changed) >= 14
    assert not [name for name in changed if "vision" in name], "what sees is carried along as it was"
