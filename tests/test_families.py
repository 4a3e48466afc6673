"""Small random models of other families: packed losses, scores and gradients against the plain model's."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from helpers.models import CPU, TRAIN_CONFIG, random_examples, save_tiny
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker
from jaegpt.training.config import Task
from jaegpt.training.heads import DoubleHeads, TensorBatch, to_tensors
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters, merged
from jaegpt.training.model_folder import load_base, load_lm, load_tuned, save_model
from jaegpt.training.packing import Example, Plan, plan_epoch
from jaegpt.training.packing_check import check_base, check_decoder

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2,
}  # fmt: skip
SIGHT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
FAMILIES = {
    "gemma3-composite": t.Gemma3Config(
        text_config={**SMALL, "head_dim": 8, "sliding_window": 128}, vision_config=SIGHT, initializer_range=0.2
    ),
    "gemma4-composite": t.Gemma4Config(
        text_config={**SMALL, "head_dim": 8, "global_head_dim": 8, "hidden_size_per_layer_input": 0},
        vision_config=None, audio_config=None,
    ),
    "opt-350m": t.OPTConfig(
        vocab_size=97, hidden_size=32, word_embed_proj_dim=16, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4,
        do_layer_norm_before=False, init_std=0.2, dropout=0.0,
    ),
    "phimoe": t.PhimoeConfig(**SMALL, num_local_experts=4),
    "phi3-longrope": t.Phi3Config(
        **SMALL, max_position_embeddings=512, original_max_position_embeddings=128,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        },
    ),
    "qwen3": t.Qwen3Config(**SMALL, head_dim=8),
    "smollm3": t.SmolLM3Config(**SMALL),
}  # fmt: skip


def double_heads(config: t.PretrainedConfig) -> DoubleHeads:
    torch.manual_seed(0)
    model = DoubleHeads(t.AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0))
    return model.eval()


def packed(examples: list[Example], fixed_shapes: bool) -> TensorBatch:
    plan = plan_epoch([len(example) for example in examples], len(examples), 1, np.random.default_rng(0))
    (batch,) = Plan(examples, plan).parts(0)
    return to_tensors(batch, torch.device("cpu"), torch.float32, fixed_shapes)


def plain(model: DoubleHeads, examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Both losses and each example's scores, one candidate at a time."""
    tokens, choices, all_scores = [], [], []
    for example in examples:
        scores = []
        for candidate in example.candidates:
            ids = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
            output = model.lm(input_ids=ids)
            hidden = model.lm.base_model(input_ids=ids).last_hidden_state
            scores.append(model.score(hidden[0, -1])[0])
        logits = output.logits[0, len(example.history) - 1 : -1]
        tokens.append(cross_entropy(logits, torch.from_numpy(candidate), reduction="none"))
        all_scores.append(torch.stack(scores))
        choices.append(cross_entropy(all_scores[-1], torch.tensor(len(scores) - 1)))
    return torch.cat(tokens).mean(), torch.stack(choices).mean(), all_scores


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_plain(family: str, rank: int) -> None:
    model = double_heads(FAMILIES[family])
    if rank:
        add_adapters(model, rank, 0)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:  # they start at 0, without effect
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    check_decoder(model)
    examples = random_examples(5)
    one_by_one = copy.deepcopy(model)
    one_by_one.lm.set_attn_implementation("eager")
    lm, mc, scores = plain(one_by_one, examples)
    (lm + mc).backward()
    expected = {name: weight.grad for name, weight in one_by_one.named_parameters() if weight.grad is not None}
    assert len(expected) > 8
    for fixed_shapes in (False, True):
        batch = packed(examples, fixed_shapes)
        found = model(batch, 1.0, 1.0)
        assert found.lm.item() == pytest.approx(lm.item(), rel=1e-5)
        assert found.mc.item() == pytest.approx(mc.item(), rel=1e-5)
        given = model.scores(model.trunk(batch), batch)[batch.score_at >= 0]
        assert sorted(given.tolist()) == pytest.approx(sorted(torch.cat(scores).tolist()), abs=1e-4)
        model.zero_grad()
        (found.lm + found.mc).backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        assert set(gradients) == set(expected)
        total = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
        for name, gradient in gradients.items():
            assert (gradient - expected[name]).norm() < 1e-4 * total, name


def test_adapters_are_on_plain_linear_layers_of_the_text_model_only() -> None:
    for family, layers in (("phimoe", 4), ("gemma3-composite", 7), ("qwen3", 7)):
        model = double_heads(FAMILIES[family])
        names = add_adapters(model, 2, 0).targeted_module_names
        assert len(names) == 2 * layers, names
        assert not [name for name in names if "router" in name or "vision" in name or "lm_head" in name]


@pytest.mark.parametrize("family", ["gemma3-composite", "opt-350m"])
def test_they_are_checked_and_speak_from_their_folder(family: str, tmp_path: Path) -> None:
    config = copy.deepcopy(FAMILIES[family])
    config.get_text_config().vocab_size = config.vocab_size = 257
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(save_tiny(tmp_path / "tiny")).save_pretrained(tmp_path / "model")
    check_base(tmp_path / "model", token_types=False, lora_rank=2)
    speaker = Speaker(tmp_path / "model", device=CPU)
    speaker.has_head = True
    settings = GenerateConfig(
        top_p=0.9, top_k=0, temperature=1.0, no_repeat_ngram=0, max_tokens=5, candidates=2, rerank="head"
    )
    (reply,) = speaker.replies([[(False, "hey")]], settings, seed=1)
    assert reply.score is not None
    assert load_base(tmp_path / "model", 0, token_types=False).score.weight.shape[1] == (
        16 if family == "opt-350m" else 32
    )


def test_a_model_without_sdpa_is_given_a_mask_that_it_takes() -> None:
    model = double_heads(FAMILIES["qwen3"])
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
    t.AutoModelForCausalLM.from_config(FAMILIES["gemma3-composite"]).save_pretrained(tmp_path / "base")
    model = load_base(tmp_path / "base", 0, token_types=False)
    before = {name: weight.clone() for name, weight in model.lm.named_parameters()}
    adapters = add_adapters(model, rank, 0) if rank else None
    task = Task(w_lm=1.0, w_mc=0.5, seed=1, train=random_examples(16), valid=[])
    config = dataclasses.replace(TRAIN_CONFIG, epochs=1, evaluations=0, lora_rank=rank)
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
