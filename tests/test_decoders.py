"""Decoders that cannot be trained packed are found out before any work; those that can pass."""

from pathlib import Path

import pytest
import torch
import transformers as t
from models import save_tiny

from jaegpt.errors import JaegptError
from jaegpt.training.checkpoints import load_base
from jaegpt.training.decoders import check_decoder
from jaegpt.training.heads import DoubleHeads

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
    ],
    ids=lambda config: config.model_type,
)
def test_families_that_can(config: t.PretrainedConfig) -> None:
    check_decoder(double_heads(config), 128)


@pytest.mark.parametrize(
    "config",
    [
        t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        t.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2),
        t.GPTJConfig(vocab_size=97, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
        t.CohereConfig(**SMALL, intermediate_size=48, logit_scale=0.5),
    ],
    ids=lambda config: config.model_type,
)
def test_families_that_cannot(config: t.PretrainedConfig) -> None:
    with pytest.raises(JaegptError, match=rf"type {config.model_type} cannot be trained packed .*Choose one of"):
        check_decoder(double_heads(config), 64)


def test_the_block_must_be_seen_whole(tmp_path: Path) -> None:
    model = load_base(save_tiny(tmp_path / "tiny"), 0, token_types=False)
    check_decoder(model, 1024)
    with pytest.raises(JaegptError, match="block_size: 1,025 tokens, but the model has 1,024 positions"):
        check_decoder(model, 1025)
    mistral = t.MistralConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=16)
    with pytest.raises(JaegptError, match="sees only 16 back"):
        check_decoder(double_heads(mistral), 128)


def test_token_types_need_gpt2(tmp_path: Path) -> None:
    check_decoder(load_base(save_tiny(tmp_path / "tiny"), 0, token_types=True), 128)
    with pytest.raises(JaegptError, match=r"train.token_types: needs a GPT-2 family model, found llama"):
        DoubleHeads(
            t.LlamaForCausalLM(t.LlamaConfig(**SMALL, intermediate_size=48)), torch.Generator(), token_types=True
        )
