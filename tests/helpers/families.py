"""Small random models of many architectures: packed losses and gradients against the plain model's, as a table.

`make families` writes docs/families.md from it.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import transformers as t
from torch.nn.functional import cross_entropy

from helpers.models import random_examples
from helpers.paths import ROOT
from jaegpt.errors import JaegptError
from jaegpt.training.heads import DoubleHeads, TensorBatch, decoder_layers, set_attention, to_tensors
from jaegpt.training.packing import Example, Plan, plan_epoch
from jaegpt.training.packing_check import check_decoder

EQUAL = 1e-5
SMALL = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2}
HEADS = {**LLAMA, "head_dim": 8}
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2, "n_positions": 1024}
QUIET = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
}  # fmt: skip
SIGHT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
LATENT = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
MOE = {name: LATENT[name] for name in ("n_routed_experts", "num_experts_per_tok", "n_group", "topk_group")}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
HYBRID = {**LLAMA, **STATES, "logits_scaling": 4.0, "num_local_experts": 0, "shared_intermediate_size": 48}


def _granite(**settings: Any) -> dict[str, Any]:
    return {**LLAMA, "logits_scaling": 4.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5, **settings}


# Each row of the table: what people call the family, and a small configuration of it.
FAMILIES: dict[str, t.PretrainedConfig] = {
    "Apertus": t.ApertusConfig(**LLAMA),
    "Arcee": t.ArceeConfig(**LLAMA),
    "BioGPT": t.BioGptConfig(
        **SMALL, intermediate_size=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layerdrop=0.0
    ),
    "BitNet": t.BitNetConfig(**LLAMA),
    "BLOOM": t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
    "CodeGen": t.CodeGenConfig(**GPT2, **QUIET, rotary_dim=4),
    "Cohere Command R": t.CohereConfig(**LLAMA, logit_scale=0.5),
    "Cohere Command R7B, A": t.Cohere2Config(**HEADS, logit_scale=0.5),
    "DeepSeek V2": t.DeepseekV2Config(**{**LLAMA, "num_key_value_heads": 4}, **LATENT, topk_method="greedy"),
    "DeepSeek V3, R1": t.DeepseekV3Config(**{**LLAMA, "num_key_value_heads": 4}, **LATENT),
    "ERNIE 4.5": t.Ernie4_5Config(**HEADS),
    "EXAONE 4": t.Exaone4Config(**HEADS),
    "Falcon 1 with ALiBi (RW)": t.FalconConfig(**SMALL, alibi=True),
    "Falcon 1, 2 (rotary)": t.FalconConfig(**SMALL, alibi=False, new_decoder_architecture=True, num_kv_heads=2),
    "Falcon H1": t.FalconH1Config(**LLAMA, **STATES, mamba_d_ssm=64, lm_head_multiplier=0.5),
    "Gemma 1": t.GemmaConfig(**HEADS),
    "Gemma 2": t.Gemma2Config(**HEADS, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "Gemma 3 270m, 1B": t.Gemma3TextConfig(**HEADS),
    "Gemma 3 4B and larger (text)": t.Gemma3Config(
        text_config={**HEADS, "sliding_window": 128}, vision_config=SIGHT, initializer_range=0.2
    ),
    "Gemma 4 (text)": t.Gemma4Config(
        text_config={**HEADS, "global_head_dim": 8, "hidden_size_per_layer_input": 0, "final_logit_softcapping": 3.0},
        vision_config=None, audio_config=None,
    ),
    "GLM-4": t.GlmConfig(**HEADS),
    "GLM-4 0414": t.Glm4Config(**HEADS),
    "GLM-4.5": t.Glm4MoeConfig(**HEADS, **MOE, moe_intermediate_size=16, first_k_dense_replace=1),
    "GPT-2, DialoGPT": t.GPT2Config(**GPT2, **QUIET),
    "GPT-BigCode, StarCoder 1": t.GPTBigCodeConfig(**GPT2, **QUIET),
    "GPT-J": t.GPTJConfig(**GPT2, **QUIET, rotary_dim=4),
    "GPT-Neo": t.GPTNeoConfig(
        vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        initializer_range=0.2, resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
    ),
    "GPT-NeoX, Pythia": t.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "GPT-OSS": t.GptOssConfig(**HEADS, num_local_experts=4, num_experts_per_tok=2),
    "Granite 3, 4 micro": t.GraniteConfig(**_granite(embedding_multiplier=2.0)),
    "Granite 3 MoE": t.GraniteMoeConfig(**_granite(num_local_experts=4)),
    "Granite 4 (attention alone)": t.GraniteMoeHybridConfig(**HYBRID, layer_types=["attention"] * 2),
    "Granite 4 H": t.GraniteMoeHybridConfig(**HYBRID, layer_types=["mamba", "attention"]),
    "Helium": t.HeliumConfig(**HEADS),
    "Hunyuan (dense)": t.HunYuanDenseV1Config(**HEADS),
    "Jais 2": t.Jais2Config(**LLAMA),
    "Jamba": t.JambaConfig(**LLAMA, num_experts=2),
    "LFM2": t.Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]),
    "Llama 1 to 3, TinyLlama, SmolLM 1 and 2, Yi": t.LlamaConfig(**LLAMA),
    "Llama 4": t.Llama4TextConfig(**HEADS, intermediate_size_mlp=48, num_local_experts=2, num_experts_per_tok=1),
    "Mamba": t.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
    "Mamba 2": t.Mamba2Config(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=4, n_groups=1
    ),
    "MiniMax Text": t.MiniMaxConfig(**HEADS, num_local_experts=4, layer_types=["linear_attention", "full_attention"]),
    "Mistral": t.MistralConfig(**LLAMA, sliding_window=512),
    "Mixtral": t.MixtralConfig(**LLAMA, num_local_experts=4),
    "MPT": t.MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4, initializer_range=0.2),
    "nanochat": t.NanoChatConfig(**LLAMA),
    "Nemotron": t.NemotronConfig(**LLAMA),
    "Nemotron H": t.NemotronHConfig(
        **{**LLAMA, "num_hidden_layers": 2}, layers_block_type=["mamba", "attention"], mamba_num_heads=8,
        mamba_head_dim=8, ssm_state_size=8, n_groups=2, head_dim=8,
    ),
    "OLMo": t.OlmoConfig(**LLAMA),
    "OLMo 2": t.Olmo2Config(**LLAMA),
    "OLMo 3": t.Olmo3Config(**LLAMA),
    "OLMoE": t.OlmoeConfig(**LLAMA, num_experts=4, num_experts_per_tok=2),
    "OPT": t.OPTConfig(
        vocab_size=97, hidden_size=32, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, init_std=0.2, dropout=0.0
    ),
    "OPT-350m": t.OPTConfig(
        vocab_size=97, hidden_size=32, word_embed_proj_dim=16, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4,
        do_layer_norm_before=False, init_std=0.2, dropout=0.0,
    ),
    "Phi 1, 2": t.PhiConfig(**LLAMA),
    "Phi 3, Phi 4": t.Phi3Config(
        **LLAMA, max_position_embeddings=512, original_max_position_embeddings=128, rope_parameters=LONG
    ),
    "Phi 3.5 MoE": t.PhimoeConfig(**LLAMA, num_local_experts=4),
    "Qwen 2, 2.5": t.Qwen2Config(**LLAMA),
    "Qwen 2 MoE": t.Qwen2MoeConfig(**LLAMA, **EXPERTS, shared_expert_intermediate_size=16),
    "Qwen 3": t.Qwen3Config(**HEADS),
    "Qwen 3 MoE": t.Qwen3MoeConfig(**HEADS, **EXPERTS),
    "Qwen 3 Next": t.Qwen3NextConfig(**HEADS, **EXPERTS, **LINEAR, shared_expert_intermediate_size=16),
    "Qwen 3.5": t.Qwen3_5TextConfig(**HEADS, **LINEAR),
    "RecurrentGemma": t.RecurrentGemmaConfig(**LLAMA, lru_width=32),
    "RWKV 4": t.RwkvConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
    "Seed-OSS": t.SeedOssConfig(**HEADS),
    "SmolLM 3": t.SmolLM3Config(**LLAMA),
    "StableLM": t.StableLmConfig(**LLAMA),
    "StarCoder 2": t.Starcoder2Config(**LLAMA, residual_dropout=0.0, embedding_dropout=0.0),
    "XGLM": t.XGLMConfig(
        vocab_size=97, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, init_std=0.2, dropout=0.0,
        attention_dropout=0.0, layerdrop=0.0,
    ),
}  # fmt: skip


def double_heads(config: t.PretrainedConfig) -> DoubleHeads:
    """A random model, the same each time, without dropout."""
    torch.manual_seed(0)
    model = DoubleHeads(t.AutoModelForCausalLM.from_config(copy.deepcopy(config)), torch.Generator().manual_seed(0))
    return model.eval()


def packed(examples: list[Example], fixed_shapes: bool, rows: int = 1) -> TensorBatch:
    """All examples as one step."""
    plan = plan_epoch([len(example) for example in examples], len(examples), rows, np.random.default_rng(0))
    (batch,) = Plan(examples, plan).parts(0)
    return to_tensors(batch, torch.device("cpu"), torch.float32, fixed_shapes)


def plain(model: DoubleHeads, examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Both losses and each example's scores, one candidate at a time."""
    tokens, choices, all_scores = [], [], []
    for example in examples:
        scores = []
        for candidate in example.candidates:
            ids = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
            hidden = model.lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
            scores.append(model.score(hidden[0, -1])[0])
        logits = model.lm(input_ids=ids, use_cache=False).logits[0, len(example.history) - 1 : -1]
        tokens.append(cross_entropy(logits, torch.from_numpy(candidate), reduction="none"))
        all_scores.append(torch.stack(scores))
        choices.append(cross_entropy(all_scores[-1], torch.tensor(len(scores) - 1)))
    return torch.cat(tokens).mean(), torch.stack(choices).mean(), all_scores


@dataclass(frozen=True)
class Found:
    """What a family does: cells of the table, and where it is trained the largest differences from the plain model."""

    trained: str
    remark: str = ""
    differences: dict[str, float] = field(default_factory=dict)


def measured(name: str) -> Found:
    """Check a family as the stage base_model does; where it passes, compare it with the plain model."""
    model = double_heads(FAMILIES[name])
    try:
        check_decoder(model)
    except JaegptError as error:
        reason, instead = str(error).split("packed (", 1)[1].split("). Take ", 1)
        return Found("no", f"{reason}. Take {instead.split(' in its place')[0]}.")
    differences = compared(model, random_examples(3, num_distractors=2))
    return Found("yes, slower" if model.dense else "yes", "over a dense mask" if model.dense else "", differences)


def compared(model: DoubleHeads, examples: list[Example]) -> dict[str, float]:
    """The largest differences of losses, scores and gradients from the plain model's, run one candidate at a time: in
    one row and in two, lined up and with a dense mask. As shares, of the whole gradient's norm for gradients."""
    one_by_one = copy.deepcopy(model)
    set_attention(one_by_one.lm, "eager")
    lm, mc, scores = plain(one_by_one, examples)
    expected = _gradients(one_by_one, lm + mc)
    norm = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    # Packed scores come in another order of the examples.
    in_order, apart = torch.cat(scores).detach().sort().values, {"loss": [], "scores": [], "gradient": []}
    for fixed_shapes, rows in ((False, 1), (False, 2), (True, 2)):
        batch = packed(examples, fixed_shapes, rows)
        found = model(batch, 1.0, 1.0)
        gradients = _gradients(model, found.lm + found.mc)
        assert set(gradients) == set(expected)
        with torch.no_grad():
            given = model.scores(model.trunk(batch), batch)[batch.score_at >= 0].sort().values
        apart["loss"] += [abs(found.lm.item() / lm.item() - 1), abs(found.mc.item() / mc.item() - 1)]
        apart["scores"].append(((given - in_order).norm() / in_order.norm()).item())
        apart["gradient"] += [((value - expected[name]).norm() / norm).item() for name, value in gradients.items()]
    assert len(apart["gradient"]) > 3 * 8
    return {name: max(values) for name, values in apart.items()}


def compiled(name: str) -> float:
    """How far a trained family's losses and gradients come from those of its plain layers, as `compared`, when its
    layers are compiled as on CUDA: over a dense mask.

    Raises:
        torch._dynamo.exc.TorchDynamoException: a layer is not one program (a value that is asked for in the middle).
    """
    batch, found = packed(random_examples(3, num_distractors=2), fixed_shapes=True, rows=2), []
    for compiles in (False, True):
        torch._dynamo.reset()
        model = double_heads(FAMILIES[name])
        check_decoder(model)
        for layer in decoder_layers(model.lm) if compiles else []:
            layer.compile(dynamic=False, fullgraph=True)
        losses = model(batch, 1.0, 1.0)
        gradients = _gradients(model, losses.lm + losses.mc)
        found.append((torch.stack([losses.lm, losses.mc]).detach(), gradients))
    (plain_losses, expected), (losses_found, gradients) = found
    norm = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    assert set(gradients) == set(expected)
    apart = max(((value - expected[weight]).norm() / norm).item() for weight, value in gradients.items())
    return max(apart, (losses_found / plain_losses - 1).abs().max().item())


def _gradients(model: DoubleHeads, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


TABLE = ROOT / "docs" / "families.md"
_TEXT = """# Families of base models

Which architectures can be trained packed, by the type in a model's `config.json`. `make families` writes this page, and
a test compares it with what it measures: a small random model of each, its losses, scores and gradients against those
of the plain model that reads one candidate at a time, equal to 1e-5. No downloaded weights were used.

A *slower* family has attention that jaegpt cannot line up by example: it runs over a mask as wide as a row. The stage
`base_model` finds that out, says so, and notes it in the copy of the model's `config.json`. Families that fail are
refused there, before any data stage. What is not in the table is tried in the same way, and trained or refused by the
result. Models of text and pictures are trained on text alone.

On CUDA the decoder's layers are compiled. `make families` compiles each that is trained, for the CPU, and stops where
the compiler does not take a layer whole, or losses or gradients are not those of the plain layers to 1e-5.

| family | model_type | trained | |
|---|---|---|---|
"""


def row(name: str, found: Found) -> str:
    """A line of the table."""
    return f"| {name} | {FAMILIES[name].model_type} | {found.trained} | {found.remark} |"


def main() -> None:
    """Measure all families and write the page."""
    rows = []
    for name in FAMILIES:
        found = measured(name)
        assert max(found.differences.values(), default=0.0) < EQUAL, (name, found)
        if found.trained != "no":
            assert (apart := compiled(name)) < EQUAL, (name, apart)
        rows.append(row(name, found))
        print(rows[-1], flush=True)
    TABLE.write_text(_TEXT + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
