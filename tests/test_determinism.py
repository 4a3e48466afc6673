"""JAEGPT_DETERMINISTIC=1: asked of torch and of CUDA in time, and the same run gives the same bytes."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.models import TRAIN_CONFIG, random_examples, save_tiny, tiny_heads
from helpers.paths import ROOT

from jaegpt.errors import JaegptError
from jaegpt.training.config import Task
from jaegpt.training.cuda import CudaRuntime
from jaegpt.training.cuda_adamw import may_compile
from jaegpt.training.devices import choose_device
from jaegpt.training.loop import train


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("asked", "setting"), [("1", ":4096:8"), ("0", "None"), ("", "None")])
def test_cuda_is_told_before_torch_is_imported(asked: str, setting: str) -> None:
    program = (
        "import sys, os, jaegpt.environment; "
        "assert 'torch' not in sys.modules; print(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAEGPT_DETERMINISTIC": asked}
    environment.pop("CUBLAS_WORKSPACE_CONFIG", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == setting


def test_it_is_asked_of_torch_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAEGPT_DEVICE", "cpu")
    monkeypatch.delenv("JAEGPT_COMPILE", raising=False)
    monkeypatch.setenv("JAEGPT_DETERMINISTIC", "0")
    assert "deterministic" not in choose_device("fp32").reason
    assert not torch.are_deterministic_algorithms_enabled()
    assert may_compile()
    monkeypatch.setenv("JAEGPT_DETERMINISTIC", "1")
    assert choose_device("fp32").reason.endswith("; deterministic, as JAEGPT_DETERMINISTIC asks")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not may_compile(), "the compiler chooses kernels by timing them"
    monkeypatch.setenv("JAEGPT_DETERMINISTIC", "yes")
    with pytest.raises(JaegptError, match="JAEGPT_DETERMINISTIC must be 0 or 1, found 'yes'"):
        choose_device("fp32")


@pytest.mark.parametrize("as_on_cuda", [False, True])
def test_the_same_run_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_on_cuda: bool) -> None:
    """On a GPU where there is one; elsewhere the step that is recorded there is run on the CPU as it is."""
    if not (as_on_cuda and torch.cuda.is_available()):
        monkeypatch.setenv("JAEGPT_DEVICE", "cpu")
    monkeypatch.setenv("JAEGPT_DETERMINISTIC", "1")
    tiny = save_tiny(tmp_path / "tiny")
    task = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(40), valid=random_examples(9, seed=4))
    config, device = dataclasses.replace(TRAIN_CONFIG, epochs=1), choose_device("fp32")
    if as_on_cuda:
        for module in ("loop", "validation"):
            monkeypatch.setattr(f"jaegpt.training.{module}.runtime_of", CudaRuntime)
    runs = []
    for _ in range(2):
        model = tiny_heads(tiny)
        log = train(model, task, config, device)
        runs.append((log.train, log.valid, [weight.detach().cpu() for weight in model.parameters()]))
    (first_train, first_valid, first), (second_train, second_valid, second) = runs
    assert first_train == second_train
    assert first_valid == second_valid
    assert len(first) > 20
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
