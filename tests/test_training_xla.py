"""PyTorch/XLA, on the CPU: the same losses with one device and with eight, and one program a kind of step."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.models import save_tiny
from helpers.training_runs import train
from safetensors.torch import load_file

from jaegpt.errors import JaegptError
from jaegpt.training import devices
from jaegpt.training.devices import choose_device

UNOPTIMIZED = "--xla_backend_optimization_level=0"
TESTS = Path(__file__).parent
needs_xla = pytest.mark.skipif(importlib.util.find_spec("torch_xla") is None, reason="no torch_xla on this platform")


def train_on(
    folder: Path, device: str, num_devices: int = 1, expect: int = 0, fresh: bool = False, **settings: Any
) -> dict[str, Any]:
    """Train `tiny` without dropout, which each device draws its own way; figures, final weights and messages."""
    if not (folder / "tiny").exists():
        save_tiny(folder / "tiny")
    environment = {
        "JAEGPT_DEVICE": device,
        "PJRT_DEVICE": "CPU",
        # LLVM, the last compiler, takes half of a short run's time to make it quick; bf16 is slow without.
        "XLA_FLAGS": "" if settings.get("config", {}).get("precision") == "bf16" else UNOPTIMIZED,
        "CPU_NUM_DEVICES": str(num_devices),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    settings = {"tiny": str(folder / "tiny"), "dropout": False, **settings}
    done = train(folder / "weights", settings, fresh, **environment)
    assert done.returncode == expect, done.stderr[-3000:]
    if expect:
        return {}
    weights = {name: tensor for name, tensor in load_file(folder / "weights").items() if "gradient." not in name}
    return json.loads(done.stdout.strip().rsplit("\n", 1)[-1]) | {"weights": weights, "said": done.stdout + done.stderr}


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_on(tmp_path_factory.mktemp("cpu"), "cpu", fresh=True, config={"learning_rate": 1e-3})


@needs_xla
@pytest.mark.parametrize("num_devices", [1, 8])
def test_xla_trains_as_the_cpu_does_and_compiles_each_step_once(num_devices: int, on_cpu: Any, tmp_path: Path) -> None:
    on_xla = train_on(tmp_path, "xla", num_devices, config={"learning_rate": 1e-3})
    assert (on_xla["device"], on_xla["devices"], on_xla["precision"]) == ("xla", num_devices, "fp32")
    assert on_xla["steps"] == len(on_xla["losses"]) == 14
    assert on_xla["losses"] == pytest.approx(on_cpu["losses"], abs=1e-4)
    for found, expected in zip(on_xla["valid"], on_cpu["valid"], strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    for found, expected in zip(on_xla["gradients"], on_cpu["gradients"], strict=True):
        assert found == pytest.approx(expected, rel=1e-2)
    assert on_xla["compilations"] == 3, "the training step, the validation step, the comparison of gradients"
    assert "compiled the" not in on_xla["said"]
    assert all(weight.device.type == "cpu" for weight in on_xla["weights"].values())


@needs_xla
def test_segments_and_examples_in_one_step_are_one_program(tmp_path: Path) -> None:
    runs = [train_on(tmp_path / name, name, 4, segments=170, config={"learning_rate": 1e-3}) for name in ("cpu", "xla")]
    assert runs[0]["steps"] == runs[1]["steps"] > 14
    assert runs[1]["losses"] == pytest.approx(runs[0]["losses"], abs=1e-4)
    assert runs[1]["compilations"] == 3
    assert "compiled the" not in runs[1]["said"]


@needs_xla
def test_as_a_tpu_runs_it_in_bf16_with_dropout_each_step_is_compiled_once(tmp_path: Path) -> None:
    on_xla = train_on(
        tmp_path, "xla", 8, dropout=True, config={"learning_rate": 3e-3, "precision": "bf16", "epochs": 2}
    )
    assert on_xla["precision"] == "bf16"
    assert on_xla["compilations"] == 3
    assert "compiled the" not in on_xla["said"]
    losses = on_xla["losses"]
    assert sum(losses[-4:]) < sum(losses[:4]) - 0.2


STEPS_OF_TWO_SHAPES = """
import jaegpt.environment
from helpers.models import random_examples
from jaegpt.training.devices import choose_device
from jaegpt.training.packing import Plan
from jaegpt.training.runtime_choice import runtime_of

device = choose_device("fp32")
for count in (2, 2, 6):
    examples = random_examples(count)
    runtime = runtime_of(device)
    batch = runtime.place_batch(*Plan.once(examples, 8).parts(0))
    alive = batch.ids.float().exp().sum()
    runtime.end_step("step", batch)
    print("width", batch.ids.shape[1])
"""


@needs_xla
def test_a_second_compilation_is_a_warning_that_names_the_shape() -> None:
    environment = {
        **os.environ, "JAEGPT_DEVICE": "xla", "PJRT_DEVICE": "CPU",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }  # fmt: skip
    command = [sys.executable, "-c", STEPS_OF_TWO_SHAPES]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second, warning, third = done.stdout.splitlines()
    assert first == second
    assert warning.startswith(
        f"warning: XLA compiled the step again, which takes as long as many steps, for ids [1, {third.split()[1]}]"
    )


@needs_xla
def test_a_killed_run_on_xla_goes_on(on_cpu: Any, tmp_path: Path) -> None:
    config = {"learning_rate": 1e-3}
    train_on(tmp_path, "xla", expect=1, config=config, signal_at={"5": signal.SIGTERM})
    resumed = train_on(tmp_path, "xla", config=config)
    assert 0 < resumed["resumed_from_step"] < 14
    assert resumed["losses"] == pytest.approx(on_cpu["losses"], abs=1e-4)


@needs_xla
def test_what_xla_would_compile_again_each_time_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAEGPT_DEVICE", "xla")
    monkeypatch.setenv("PJRT_DEVICE", "CPU")
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    device = choose_device("auto", eager=True)
    assert device.kind == device.torch_device.type == "cpu"
    assert "in place of XLA" in device.reason


@pytest.mark.parametrize("eager", [False, True])
def test_xla_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    monkeypatch.setenv("JAEGPT_DEVICE", "xla")
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JaegptError, match="torch_xla is not installed"):
        choose_device("auto", eager)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    with pytest.raises(JaegptError, match=r"no TPU chip on this machine.*PJRT_DEVICE=CPU"):
        choose_device("auto", eager)
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    with pytest.raises(JaegptError, match="no TPU chip on this machine"):
        choose_device("auto", eager)


def test_tpu_chips_are_distinguished_from_other_devices_of_their_maker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, vendor, device in (("0", "0x1ae0", "0x0063"), ("1", "0x1ae0", "0x0042"), ("2", "0x8086", "0x0063")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "device").write_text(f"{device}\n")
    monkeypatch.setattr(devices, "PCI_DEVICES", tmp_path)
    assert devices.num_tpu_chips() == 1
