"""What is handed to other programs says how to draw: a folder for transformers, and a GGUF file for llama.cpp."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from helpers.chat_models import save_base, save_tuned
from test_chat_gguf import folder as llama  # noqa: F401
from test_generate_settings import CHOSEN
from transformers import AutoModelForCausalLM

from jaegpt.errors import JaegptError
from jaegpt.files import write_json
from jaegpt.generation.gguf import export_gguf
from jaegpt.generation.model_export import drawing, export_folder
from jaegpt.generation.settings import DEFAULT, found_settings, generation_config


@pytest.fixture
def found(tmp_path: Path) -> Path:
    path = tmp_path / "generation_config.json"
    write_json(path, generation_config(CHOSEN, dataclasses.replace(DEFAULT, min_p=0.02, max_tokens=9)))
    return path


def test_transformers_draws_as_calibrate_found_and_stops_where_a_reply_ends(tmp_path: Path, found: Path) -> None:
    tuned = save_tuned(tmp_path / "tuned", save_base(tmp_path / "base"))
    copy = export_folder(tuned, tmp_path / "out/copy", found)
    assert {path.name for path in copy.iterdir()} == {path.name for path in tuned.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(copy)
    read = model.generation_config
    assert (read.do_sample, read.temperature, read.top_p, read.top_k, read.min_p) == (True, 0.95, 0.98, 0, 0.02)
    assert (read.max_new_tokens, read.no_repeat_ngram_size) == (9, 3)
    assert read.eos_token_id == AutoModelForCausalLM.from_pretrained(tuned).generation_config.eos_token_id == 256
    assert model.generate(torch.tensor([[1, 2]])).shape[1] <= 2 + 9
    assert found_settings(copy / "generation_config.json") == dataclasses.asdict(CHOSEN)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (copy / name).read_bytes() == (tuned / name).read_bytes()

    with pytest.raises(JaegptError, match=r"copy exists and is not replaced"):
        export_folder(tuned, copy, found)
    with pytest.raises(JaegptError, match="no trained model yet"):
        export_folder(tmp_path / "nowhere", tmp_path / "other", found)
    found.write_text("{}", encoding="utf-8")
    with pytest.raises(JaegptError, match="does not hold the settings"):
        export_folder(tuned, tmp_path / "other", found)
    assert not (tmp_path / "other").exists()


def test_before_calibrate_has_run_the_folder_is_copied_with_its_ends(tmp_path: Path) -> None:
    tuned = save_tuned(tmp_path / "tuned", save_base(tmp_path / "base"))
    (tuned / "generation_config.json").unlink()
    copy = export_folder(tuned, tmp_path / "copy", tmp_path / "nothing.json")
    content = json.loads((copy / "generation_config.json").read_text(encoding="utf-8"))
    assert content == {"bos_token_id": 256, "eos_token_id": 256}


def test_llama_cpps_defaults_are_what_was_found(llama: Path, tmp_path: Path, found: Path) -> None:  # noqa: F811
    fields = GGUFReader(export_gguf(llama, tmp_path / "found.gguf", found)).fields
    sampling = {
        name.removeprefix("general.sampling."): field.contents()
        for name, field in fields.items()
        if name.startswith("general.sampling.")
    }
    assert sampling == pytest.approx({"temp": 0.95, "top_k": 0, "top_p": 0.98, "min_p": 0.02})
    plain = GGUFReader(export_gguf(llama, tmp_path / "plain.gguf", tmp_path / "nothing.json")).fields
    assert not [name for name in plain if name.startswith("general.sampling.")]


def test_what_a_generation_config_leaves_out_is_as_transformers_takes_it() -> None:
    from transformers import GenerationConfig

    assert drawing({}) == drawing({"temperature": 0.6}) == {}
    assert drawing({"do_sample": False, "temperature": 0.6})["temperature"] == 0
    gemma = {"do_sample": True, "top_k": 64, "top_p": 0.95}
    assert drawing(gemma) == {"temperature": 1.0, "top_p": 0.95, "top_k": 64, "min_p": 0.0}
    usual = GenerationConfig._get_default_generation_params()
    assert drawing({"do_sample": True}) == {
        name: usual.get(name) or 0.0 for name in ("temperature", "top_p", "top_k", "min_p")
    }
