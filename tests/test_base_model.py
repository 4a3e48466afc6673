"""Resolving base models: `tiny` to the byte, local folders, and clear refusals. (No test downloads anything.)"""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from helpers.clones import set_params
from helpers.models import save_tiny
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    MambaConfig,
    T5Config,
    T5ForConditionalGeneration,
)  # fmt: skip

from jaegpt.base_model import save_base_model
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.training.model_folder import load_base
from stages import base_model


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_tiny_is_the_same_to_the_byte_every_time(tmp_path: Path) -> None:
    first, second = digests(save_tiny(tmp_path / "a")), digests(save_tiny(tmp_path / "b"))
    assert first == second
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(first)


def test_tiny_reads_any_text_back(tmp_path: Path) -> None:
    encoder = Encoder(save_tiny(tmp_path / "tiny"))
    text = "héllo 안녕 ❤️\n\t<|endoftext|>"
    (ids,) = encoder.tokenize([text])
    assert len(ids) == len(text.encode())
    assert encoder.decode(ids) == text


def test_a_local_folder_is_copied_with_its_licence(tmp_path: Path) -> None:
    source, target = save_tiny(tmp_path / "source"), tmp_path / "target"
    (source / "LICENSE").write_text("free", encoding="utf-8")
    target.mkdir()
    save_base_model(str(source), target)
    assert (target / "LICENSE").read_text(encoding="utf-8") == "free"
    assert (target / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert (
        AutoTokenizer.from_pretrained(target)("hi").input_ids == AutoTokenizer.from_pretrained(source)("hi").input_ids
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_folder_keeps_its_own_precision_and_is_computed_with_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    source = save_tiny(tmp_path / "source")
    lm = AutoModelForCausalLM.from_pretrained(source).to(dtype)
    lm.save_pretrained(source)
    save_base_model(str(source), tmp_path / "copy")
    with safe_open(tmp_path / "copy/model.safetensors", framework="pt") as stored:
        kept = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in kept.values()} == {dtype}
    loaded = load_base(tmp_path / "copy", 0, token_types=False).lm.state_dict()
    assert {tensor.dtype for tensor in loaded.values() if tensor.is_floating_point()} == {torch.float32}
    assert all(torch.equal(tensor.float(), loaded[name]) for name, tensor in kept.items())


def test_what_is_not_here_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match=r"cannot load 'no-such/model'.*smollm2-135m \(embedded.*local folder"):
        save_base_model("no-such/model", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(JaegptError, match=r"holds no config.json"):
        save_base_model(str(tmp_path / "empty"), tmp_path / "empty")


def test_a_broken_folder_is_one_clear_line(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "source")
    config = (source / "config.json").read_text(encoding="utf-8")
    for changed in (
        config.replace('"n_embd": 32', '"n_embd": 64'),  # weights of other shapes: RuntimeError
        config.replace("{", '{"quantization_config": {"quant_method": "awq"},', 1),  # wants a package: ImportError
    ):
        assert changed != config
        (source / "config.json").write_text(changed, encoding="utf-8")
        with pytest.raises(JaegptError, match=r"cannot load .*source|source/config.json: .*do not belong together"):
            save_base_model(str(source), tmp_path)
    (source / "config.json").write_text(config, encoding="utf-8")
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(JaegptError, match=r"pytorch_model\.bin: pickled weights, which can hold code, are not read"):
        save_base_model(str(source), tmp_path)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    source, target = save_tiny(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(source)
    with pytest.raises(JaegptError, match="has 258 tokens, its embedding only 257"):
        save_base_model(str(source), target)
    model = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(258)
    model.save_pretrained(source)
    save_base_model(str(source), target)
    assert (target / "config.json").is_file()


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "source")
    config = T5Config(vocab_size=257, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(source)
    with pytest.raises(JaegptError, match=r"cannot load|encoder-decoder"):
        save_base_model(str(source), tmp_path)


def refusing_folders(tmp_path: Path) -> dict[str, Path]:
    """Base models that can be loaded but not trained as params.yaml asks, by what is said of them."""
    mamba = MambaConfig(vocab_size=257, hidden_size=32, num_hidden_layers=1, state_size=4)
    bloom = BloomConfig(vocab_size=257, hidden_size=32, n_layer=1, n_head=4)
    folders = {}
    for config, said in (
        (mamba, r"carry a state .* Take Pythia \(GPT-NeoX\) in its place"),
        (bloom, "type bloom cannot be trained packed"),
    ):
        folders[said] = save_tiny(tmp_path / config.model_type)
        (folders[said] / "config.json").unlink()
        AutoModelForCausalLM.from_config(config).save_pretrained(folders[said])
    folders["text twice"] = save_tiny(tmp_path / "twice")
    template = "{% for m in messages %}{{ m.content * 2 }}{% endfor %}"
    (folders["text twice"] / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folders


def test_the_stage_refuses_what_cannot_be_trained_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parent.parent / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for said, folder in refusing_folders(tmp_path).items():
        set_params(tmp_path, model=str(folder))
        with pytest.raises(JaegptError, match=said):
            base_model.main()
        assert not list((tmp_path / "data").iterdir())
    set_params(tmp_path, model="tiny", train__lora_rank=2, train__token_types=True)
    base_model.main()
    assert (tmp_path / "data/base_model/config.json").is_file()
    assert digests(tmp_path / "data/base_model") == digests(save_tiny(tmp_path / "tiny")), (
        "the check leaves nothing behind"
    )


def test_dvc_looks_at_the_base_model_before_any_data_stage() -> None:
    with Repo(str(Path(__file__).parent.parent)) as repo:
        for target in ("dvc.yaml", "evaluate"):
            steps = plan_repro(get_active_graph(repo.index.graph), collect_stages(repo, [target]))
            order = [stage.name for stage in steps if stage.name != "sample_export"]
            assert order[:2] == ["base_model", "extract"]
            assert order.index("encode") > 1
