"""Section `generate`: `auto` is what calibrate found, a given value overrides it, and other programs read the rest."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from transformers import GenerationConfig
from transformers.generation.logits_process import MinPLogitsWarper

from jaegpt.errors import JaegptError
from jaegpt.files import write_json
from jaegpt.generation import sampling
from jaegpt.generation.sampling import sample
from jaegpt.generation.settings import DEFAULT, GenerateConfig, GenerateSettings, found_settings, generation_config
from jaegpt.params import Params

AUTO: dict[str, Any] = {field.name: "auto" for field in dataclasses.fields(GenerateSettings)}
CHOSEN = GenerateConfig(
    top_p=0.9, top_k=0, min_p=0.05, temperature=0.9, guidance=1.2, no_repeat_ngram=3, max_tokens=33, candidates=4,
    rerank="fit",
)  # fmt: skip


def settings(**given: Any) -> GenerateSettings:
    return GenerateSettings(**{**AUTO, **given})


def test_auto_is_what_was_found_and_a_number_overrides_it(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    assert found_settings(path) is None
    assert settings().resolved(None) == DEFAULT
    write_json(path, generation_config(CHOSEN, DEFAULT))
    found = found_settings(path)
    assert settings().resolved(found) == CHOSEN
    assert settings(temperature=0.5, top_k=7).resolved(found) == dataclasses.replace(CHOSEN, temperature=0.5, top_k=7)
    alone = dataclasses.replace(CHOSEN, rerank="none", candidates=1)
    assert settings(rerank="none").resolved(found) == alone, "one reply is drawn where nothing may choose"
    assert settings(rerank="head").resolved(None).candidates == 4, "a choice has something to choose from"
    with pytest.raises(JaegptError, match=r"^generate\.rerank is none, so nothing chooses among 5 candidates"):
        settings(candidates=5).resolved(None)


def test_params_say_auto_or_a_value(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert Params(ROOT / "params.yaml").section("generate", GenerateSettings).resolved(None) == DEFAULT

    def read(old: str, new: str) -> GenerateSettings:
        assert old in text
        (tmp_path / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")
        return Params(tmp_path / "params.yaml").section("generate", GenerateSettings)

    assert read("  guidance: auto", "  guidance: 2").guidance == 2.0
    assert read("  rerank: auto", "  rerank: head").rerank == "head"
    for old, new, said in (
        ("top_p: auto", "top_p: often", "`generate.top_p` must be a number or auto, found str 'often'"),
        ("top_p: auto", "top_p: 2", "generate.top_p is a probability"),
        ("guidance: auto", "guidance: -1", "generate.guidance must be from 0 to 10, found -1. 1 turns it off"),
        ("min_p: auto", "min_p: 2", "generate.min_p must be from 0 to 1, found 2"),
        ("rerank: auto", "rerank: luck", "`generate.rerank` must be one of none, head, fit or auto, found str 'luck'"),
    ):
        with pytest.raises(JaegptError) as caught:
            read(old, new)
        assert said in str(caught.value)


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    whole = generation_config(CHOSEN, DEFAULT)
    own = whole["jaegpt"]
    wrong: list[dict[str, Any]] = [{"top_p": "x"}, {"top_k": 1.5}, {"guidance": True}, {"rerank": "luck"}, {"more": 1}]
    contents = ["", "[]", "{}", '{"jaegpt": 3}', json.dumps(whole)[:-9]]
    contents += [json.dumps({"jaegpt": {**own, **change}}) for change in [*wrong, {"min_p": 9}]]
    contents += [json.dumps({"jaegpt": {name: value for name, value in own.items() if name != "min_p"}})]
    for content in contents:
        path.write_text(content, encoding="utf-8")
        with pytest.raises(JaegptError) as caught:
            found_settings(path)
        assert str(caught.value).startswith(f"{path}: does not hold the settings that `calibrate` writes (")
        assert str(caught.value).endswith("Run `dvc repro --force calibrate`.")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [0.7, 0])
def test_transformers_reads_the_same_settings(tmp_path: Path, temperature: float) -> None:
    plain = dataclasses.replace(DEFAULT, temperature=temperature, min_p=0.02, top_k=50)
    content = generation_config(CHOSEN, plain)
    known = set(GenerationConfig().to_dict())
    assert set(content) - known == {"jaegpt"}, "keys that transformers knows"
    write_json(tmp_path / "generation_config.json", content)
    read = GenerationConfig.from_pretrained(tmp_path)
    read.validate(strict=True)
    assert (read.do_sample, read.max_new_tokens, read.no_repeat_ngram_size) == (temperature > 0, 60, 3)
    if temperature:
        assert (read.temperature, read.top_p, read.top_k, read.min_p) == (0.7, 0.98, 50, 0.02)
    assert GenerateConfig(**content["jaegpt"]) == CHOSEN


@pytest.mark.parametrize("min_p", [0.02, 0.3, 1])
def test_min_p_keeps_what_its_definition_and_transformers_keep(min_p: float) -> None:
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(1)) * 2
    shares = (logits / 1.5).softmax(-1)
    kept = shares >= min_p * shares.max(-1, keepdim=True).values
    expected = shares * kept / (shares * kept).sum(-1, keepdim=True)
    warped = MinPLogitsWarper(min_p)(torch.zeros(3, 1, dtype=torch.long), logits / 1.5).softmax(-1)
    assert torch.allclose(warped, expected, atol=1e-6)
    steps = 20_000  # every draw from 0 to 1 in equal steps, so the share of a token is its probability
    draws = ((torch.arange(steps) + 0.5) / steps).repeat(3)
    rows = logits.repeat_interleave(steps, 0)
    tokens = sample(rows, draws, top_p=1, top_k=0, temperature=1.5, min_p=min_p).view(3, steps)
    found = torch.stack([torch.bincount(row, minlength=200) for row in tokens]) / steps
    assert torch.allclose(found, expected, atol=1.5 / steps)
    assert 0 < int(kept.sum()) < 600


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1])
def test_sorting_the_likeliest_only_changes_nothing(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(500, 200, generator=torch.Generator().manual_seed(1))
    logits[::2] *= 4  # of these rows a few tokens have nearly all the probability, of the others many share it
    draws = torch.rand(500, generator=torch.Generator().manual_seed(2))

    def drawn(num_sorted: int) -> list[int]:
        monkeypatch.setattr(sampling, "SORTED", num_sorted)
        tokens: list[int] = sample(logits, draws, top_p=top_p, top_k=0, temperature=0.9, min_p=0.001).tolist()
        return tokens

    whole = drawn(200)
    assert drawn(20) == whole
    assert len(set(whole)) > 50
