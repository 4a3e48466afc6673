"""The run of the original (docs/original.md), on less."""

import shlex
from pathlib import Path

import pytest
import torch
from helpers.clones import metrics, own_copy
from helpers.commands import call
from helpers.pages import commands_of
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from jaegpt.params import Params
from jaegpt.yaml12 import load_yaml


@pytest.fixture(scope="module")
def project(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`."""
    return own_copy(shared, tmp_path_factory.mktemp("clone") / "jaegpt")


def test_the_run_of_the_original_runs_with_a_random_model_of_its_shape(project: Path, tmp_path: Path) -> None:
    (command,) = (line for line in commands_of("docs/original.md") if line.startswith("dvc exp run"))
    tokenizer = AutoTokenizer.from_pretrained(project / "data/base_model")
    shape = GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=tokenizer.eos_token_id)
    assert (shape.n_layer, shape.n_head, shape.n_embd, shape.n_positions) == (12, 12, 768, 1024), "GPT-2 small's"
    torch.manual_seed(1)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path / "random")
    tokenizer.save_pretrained(tmp_path / "random")
    words = shlex.split(command.replace("microsoft/DialoGPT-small", str(tmp_path / "random")))
    # A step an epoch, and a few examples to be measured on, once an epoch.
    smaller = ("dataset.train_fraction=0.002", "dataset.valid_fraction=0.002", "train.evaluations=1")
    shorter = [*(word for setting in smaller for word in ("-S", setting)), "evaluate"]
    try:
        call(project, *words, *shorter)
        params = Params(project / "params.yaml")
        train = params.content["train"]
        assert (train["learning_rate"], train["warmup"], train["epochs"], train["token_types"]) == (5e-5, 0, 2, True)
        assert metrics(project, "train")["epochs"] == 2
        assert metrics(project, "evaluate")["candidates"] == 4
        config = load_yaml((project / "models/jaegpt/config.json").read_text(encoding="utf-8"))
        assert (config["n_layer"], config["n_embd"]) == (12, 768)
    finally:
        call(project, "git", "checkout", "-q", "params.yaml", "dvc.lock", "metrics", "plots")
