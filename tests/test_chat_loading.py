"""Model folders that cannot be read: one clear line each."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.chat_models import VIEW, save_base, save_tuned, speaker
from helpers.clones import set_params
from safetensors.torch import load_file, save_file

from jaegpt.chat.commands import load_speakers, trained_view
from jaegpt.errors import JaegptError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def tuned_folder(base: Path) -> Path:
    return save_tuned(base.parent / "tuned", base)


def broken(folder: Path, good: Path) -> Path:
    shutil.copytree(good, folder)
    return folder


def test_model_folders_that_cannot_be_read_are_one_clear_line(tuned_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match=r"no trained model yet\. Run `dvc repro`"):
        speaker(tmp_path / "nowhere")

    folder = broken(tmp_path / "head", tuned_folder)
    save_file({"weight": torch.zeros(1, 99), "bias": torch.zeros(1)}, folder / "classification_head.safetensors")
    with pytest.raises(JaegptError, match=r"cannot be loaded .*size mismatch.*Run `dvc repro --force train`"):
        speaker(folder)

    folder = broken(tmp_path / "truncated", tuned_folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(JaegptError, match=r"cannot be loaded .*half copied"):
        speaker(folder)

    folder = broken(tmp_path / "missing", tuned_folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "attn" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JaegptError, match=f"1 weights are missing, the first is {name}"):
        speaker(folder)

    folder = broken(tmp_path / "config", tuned_folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "model_type": "from_the_future"}))
    with pytest.raises(JaegptError, match="cannot be loaded"):
        speaker(folder)

    folder = broken(tmp_path / "tokenizer", tuned_folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JaegptError, match=r"no tokenizer.json here"):
        speaker(folder)


def test_the_chat_gives_the_model_what_it_was_trained_on(
    tuned_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {"num_history": 9, "block_size": VIEW["block_size"], "token_types": True}
    assert trained_view(wanted, tmp_path) == wanted, "no model, nothing is known of it"
    assert trained_view(wanted, tuned_folder) == VIEW
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("num_history is 9 in params.yaml, but the model was trained with 4")
    assert said[1].startswith("token_types is True in params.yaml, but the model was trained with False")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_chat_computes_in_the_precision_that_fidelity_measures_in(
    precision: str, tuned_folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tuned_folder, tmp_path / "models/jaegpt")
    shutil.copytree(base, tmp_path / "data/base_model")
    shutil.copy(Path(__file__).parent.parent / "params.yaml", tmp_path)
    set_params(tmp_path, train__precision=precision, session__separator="space")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAEGPT_DEVICE", "cpu")
    speakers, _, _ = load_speakers()
    assert len(speakers) == 2
    for one in speakers.values():
        assert one.device.precision == precision
        assert {str(weight.dtype) for weight in one.model.parameters()} == {
            {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[precision]
        }
