"""Decoders that cannot be trained packed are found out before any work; those that can pass."""

from pathlib import Path

import pytest
import torch
import transformers as t
from helpers.models import save_tiny

from jaegpt.errors import JaegptError
from jaegpt.training import lora as adapters
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.limits import check_block
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing_check import check_base, check_decoder

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def double_heads(config: t.PretrainedConfig) -> DoubleHeads:
    torch.manual_seed(0)
    return DoubleHeads(t.AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "config",
    [
        t.LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2),
        t.Qwen2Config(**SMALL, intermediate_size=48, num_key_value_heads=2),
        t.GPTNeoXConfig(**SMALL, intermediate_size=48),
        t.PhiConfig(**SMALL, intermediate_size=48),
        t.CohereConfig(**SMALL, intermediate_size=48, logit_scale=0.5),
        t.CohereConfig(**SMALL, intermediate_size=48, logit_scale=0.5, initializer_range=1e-3),
        t.Gemma2Config(**SMALL, intermediate_size=48, num_key_value_heads=2, head_dim=8, initializer_range=1e-3),
    ],
    ids=lambda config: config.model_type,
)
def test_families_that_can(config: t.PretrainedConfig) -> None:
    model = double_heads(config)
    check_decoder(model)
    assert not model.dense


def test_one_that_needs_a_dense_mask_is_set_to_use_it() -> None:
    model = double_heads(t.GPTJConfig(vocab_size=97, n_embd=32, n_layer=2, n_head=4, rotary_dim=4))
    check_decoder(model)
    assert model.dense
    assert model.lm.config.jaegpt_attention == "dense"


@pytest.mark.parametrize(
    "config",
    [
        t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        t.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2),
        t.FalconConfig(**SMALL, alibi=True),
        t.GPTNeoConfig(
            vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_families_that_cannot(config: t.PretrainedConfig) -> None:
    model = double_heads(config)
    with pytest.raises(
        JaegptError,
        match=rf"type {config.model_type}.* cannot be trained packed .*Take .* in its place \(docs/families",
    ):
        check_decoder(model)
    assert not model.dense


ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LIMITED = [
    (t.MistralConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=16), 16, "only 16 back"),
    (
        t.Gemma3Config(
            text_config={**SMALL, "intermediate_size": 48, "head_dim": 8, "sliding_window": 16},
            vision_config={"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1},
        ),
        16,
        "only 16 back",
    ),
    (
        t.Phi3Config(
            **SMALL, intermediate_size=48, max_position_embeddings=512, original_max_position_embeddings=64,
            pad_token_id=0, rope_parameters=ROPE,
        ),
        64,
        r"more than 64 tokens in another way \(LongRoPE\)",
    ),
]  # fmt: skip


def test_the_block_must_be_seen_whole(tmp_path: Path) -> None:
    check_block(save_tiny(tmp_path / "tiny"), 1024)
    with pytest.raises(JaegptError, match="block_size: 1,025 tokens, but the model has 1,024 positions"):
        check_block(tmp_path / "tiny", 1025)
    for config, limit, why in LIMITED:
        double_heads(config).lm.save_pretrained(tmp_path / "model")
        check_block(tmp_path / "model", limit)
        with pytest.raises(JaegptError, match=why):
            check_block(tmp_path / "model", limit + 1)


def test_token_types_need_gpt2(tmp_path: Path) -> None:
    check_decoder(load_base(save_tiny(tmp_path / "tiny"), 0, token_types=True))
    with pytest.raises(JaegptError, match=r"train.token_types: needs a GPT-2 family model, found llama"):
        DoubleHeads(
            t.LlamaForCausalLM(t.LlamaConfig(**SMALL, intermediate_size=48)), torch.Generator(), token_types=True
        )


def test_a_trunk_or_head_that_the_scores_do_not_fit_is_refused() -> None:
    model = double_heads(t.LlamaConfig(**SMALL, intermediate_size=48))
    model.score = torch.nn.Linear(7, 1)  # as when the head's width was read from the configuration
    with pytest.raises(JaegptError, match=r"type llama cannot be trained packed \(RuntimeError: mat1"):
        check_decoder(model)


def test_a_router_of_its_own_kind_is_refused_with_adapters_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = t.PhimoeConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, num_local_experts=4)
    double_heads(config).lm.save_pretrained(tmp_path)
    check_base(tmp_path, token_types=False, lora_rank=4)
    monkeypatch.setattr(
        adapters, "_linear_layers", lambda lm: [n for n, m in lm.named_modules() if isinstance(m, torch.nn.Linear)]
    )
    check_base(tmp_path, token_types=False, lora_rank=0)
    with pytest.raises(JaegptError, match="type phimoe cannot be trained packed"):
        check_base(tmp_path, token_types=False, lora_rank=4)
