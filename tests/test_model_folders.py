"""Model folders from anywhere: nothing in them runs or reads from elsewhere, and damage is one clear line."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.chat_models import CONFIG, VIEW, save_chat_base, save_tuned, speaker
from helpers.clones import set_params
from helpers.commands import environment
from helpers.models import save_tiny
from helpers.paths import ROOT
from safetensors.torch import load_file, save_file

from jaegpt.base_model import save_base_model
from jaegpt.chat.commands import trained_view
from jaegpt.dialogue.bounded import MOST_S
from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.generation.gguf import export_gguf
from jaegpt.training.model_folder import load_base, load_tuned

CODE = "from pathlib import Path\nPath({!r}).write_text('ran')\nfrom transformers import PretrainedConfig as Evil\n"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of this project, with a chat template."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "chat").mkdir()
    return save_tuned(folder / "tuned", save_chat_base(folder / "chat", save_tiny(folder / "tiny")))


@pytest.fixture
def folder(tuned: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tuned, tmp_path / "model"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")


def chat(folder: Path) -> None:
    trained_view(VIEW, folder)
    speaker(folder, num_history=4, block_size=128).replies([[(False, "hi")]], CONFIG, 1)


def base_model(folder: Path) -> None:
    target = folder.with_name("base_model")
    target.mkdir()
    save_base_model(str(folder), target)


WAYS: dict[str, Callable[[Path], Any]] = {
    "chat": chat,
    "evaluate": lambda folder: load_tuned(folder, token_types=False),
    "train": lambda folder: load_base(folder, 0, token_types=False),
    "base_model": base_model,
    "export": lambda folder: export_gguf(folder, folder.with_name("model.gguf")),
}


def test_no_call_that_loads_a_model_may_run_its_code_or_unpickle_it() -> None:
    checked = 0
    for path in [path for name in ("jaegpt", "stages", "benchmarks") for path in (ROOT / name).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            where = f"{path}:{node.lineno}"
            if node.func.attr in ("from_pretrained", "from_config"):
                safe = "**reading" in ast.unparse(node) or given.get("trust_remote_code") == "False"
                assert safe, where
                checked += 1
            if ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                assert given.get("weights_only") == "True", where
    assert checked >= 8
    source = (ROOT / "jaegpt/base_model.py").read_text(encoding="utf-8")
    assert '"trust_remote_code": False}' in source, "what `**reading` stands for"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_folder_with_code_is_refused_by_name(way: str, name: str, folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(CODE.format(str(ran)), encoding="utf-8")
    names = ["evil.Evil", None] if name.startswith("tokenizer") else "evil.Evil"
    change(folder / name, auto_map={"AutoConfig": names, "AutoModelForCausalLM": names, "AutoTokenizer": names})
    change(folder / "config.json", model_type="evil")
    with pytest.raises(JaegptError, match=f"{folder / name}: `auto_map` names code") as found:
        WAYS[way](folder)
    assert "\n" not in str(found.value)
    assert not ran.exists()


def test_a_piped_yes_runs_nothing(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(CODE.format(str(ran)), encoding="utf-8")
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, session__separator="space", dataset__learn="replies")
    (tmp_path / "models").mkdir()
    shutil.copytree(folder, tmp_path / "models/jaegpt")
    shutil.copytree(folder, tmp_path / "data/base_model")
    for command in (["chat", "--once", "hi"], ["export", "--gguf", "out.gguf"]):
        done = subprocess.run(
            ["jaegpt", *command],
            cwd=tmp_path, env={**environment("jaegpt"), "PYTHONPATH": str(ROOT)}, input="y\ny\n", capture_output=True,
            encoding="utf-8", timeout=300,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("error: models/jaegpt/config.json: `auto_map` names code"), done.stderr
        assert "[y/N]" not in done.stdout + done.stderr
        assert not ran.exists()


class Evil:
    """Its pickle makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("way", WAYS)
def test_pickled_weights_are_refused(way: str, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "classification_head.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(str(tmp_path / "ran"))))
    with pytest.raises(JaegptError, match=r"pytorch_model.bin: pickled weights|this is not a model of jaegpt"):
        WAYS[way](folder)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_fetches_no_model_from_elsewhere(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere/model", "peft_type": "LORA"}')
    for way, load in WAYS.items():
        with pytest.raises(JaegptError, match=r"adapter_config.json: an adapter, whose weights"):
            load(folder)
        assert not folder.with_name("base_model").exists() or way


def _weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a million layers": lambda folder: change(folder / "config.json", n_layer=10**6),
    "layers as a text": lambda folder: change(folder / "config.json", n_layer="two"),
    "a negative size": lambda folder: change(folder / "config.json", n_embd=-32),
    "a huge size": lambda folder: change(folder / "config.json", n_embd=10**9),
    "a huge vocabulary": lambda folder: change(folder / "config.json", vocab_size=10**12),
    "positions without end": lambda folder: change(folder / "config.json", n_positions=10**12),
    "no heads": lambda folder: change(folder / "config.json", n_head=0),
    "negative heads": lambda folder: change(folder / "config.json", n_head=-2),
    "an unknown type": lambda folder: change(folder / "config.json", model_type="from_the_future"),
    "a type that is a number": lambda folder: change(folder / "config.json", model_type=5),
    "an unknown activation": lambda folder: change(folder / "config.json", activation_function="nope"),
    "code from a kernel": lambda folder: change(folder / "config.json", attn_implementation="evil/kernel"),
    "half a config": lambda folder: (folder / "config.json").write_text('{"model_type": "gp'),
    "an empty config": lambda folder: (folder / "config.json").write_bytes(b""),
    "a list as config": lambda folder: (folder / "config.json").write_text("[]"),
    "brackets": lambda folder: (folder / "config.json").write_text("[" * 100_000),
    "half the weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:5000]
    ),
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights of another shape": lambda folder: _weights(folder, lambda t: t.update({min(t): torch.zeros(3, 3)})),
    "weights that are no numbers": lambda folder: _weights(folder, lambda t: [w.fill_(torch.nan) for w in t.values()]),
    "a pipe as weights": lambda folder: _pipe(folder / "model.safetensors"),
    "a pipe as config": lambda folder: _pipe(folder / "config.json"),
    "a link to nothing": lambda folder: _nowhere(folder / "model.safetensors"),
    "a million labels": lambda folder: change(folder / "config.json", num_labels=10**8),
    "a width without end": lambda folder: change(folder / "config.json", n_inner=10**9),
    "weights elsewhere": lambda folder: change(folder / "config.json", transformers_weights="x.safetensors.index.json"),
    "an index of pickles": lambda folder: (folder / "x.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.bin"}}'
    ),
    "an index to elsewhere": lambda folder: (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../other.safetensors"}}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_line_in_little_time(damage: str, folder: Path) -> None:
    DAMAGES[damage](folder)
    for load in (chat, base_model):
        began = time.monotonic()
        with pytest.raises(JaegptError) as found:
            load(folder)
        assert "\n" not in str(found.value)
        assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": "1.0"}', '{"version": "1.0", "model": {"type": "BPE", "vocab": {}}}']
)
def test_a_damaged_tokenizer_is_one_clear_line(content: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(JaegptError, match=r"tokenizer.json"):
        Encoder(folder)


def test_a_tokenizer_that_makes_texts_grow_without_end_is_refused(folder: Path) -> None:
    step = {"type": "Replace", "pattern": {"String": "h"}, "content": "h" * 10}
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Sequence", "normalizers": [step] * 12}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(JaegptError, match="can make a text 1,000,000,000,000 times as long"):
        Encoder(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 2**21])
def test_a_template_that_is_no_text_or_too_long_is_one_clear_line(content: bytes, folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(JaegptError, match=r"chat_template\.jinja"):
        Encoder(folder)


def test_another_models_tokenizer_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"] |= {f"word{index}": 1000 + index for index in range(50)}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    for load in (chat, base_model):
        with pytest.raises(JaegptError, match="do not belong together"):
            load(folder)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(10**12) %}x{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10**10**10 }}",
        "{% set n = 10 %}{{ n**n**n }}",
        "{{ 'x' * 10**12 }}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{{ 'x'.center(10**10) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].content.x }}",
        "{% for",
        "{% include 'elsewhere' %}",
    ],
)
def test_a_template_that_runs_wild_is_one_clear_line(
    template: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaegpt.dialogue.bounded.MOST_S", MOST_S / 5)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(JaegptError, match="model: its chat template") as found:
        encode_history(Encoder(folder), [(False, "a"), (True, "b"), (False, "c")])
    assert "\n" not in str(found.value)
