"""A run that is killed goes on where it was, and ends in the same bytes; it never takes up another run's state."""

import json
import random
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import EACH_STEP, random_examples, save_tiny, tiny_heads
from helpers.training_runs import train
from safetensors.torch import load_file

from jaegpt.errors import JaegptError
from jaegpt.training.checkpoints import VERSION, Scratch, run_key

NUM_STEPS = 14


class Runs:
    """Training runs in processes of their own, with a scratch of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights.safetensors"
        self.tiny = str(save_tiny(folder / "tiny"))
        self.environment = {"XDG_CACHE_HOME": str(folder / "cache"), "JAEGPT_DEVICE": "cpu"}

    def start(self, minutes: str = EACH_STEP, fresh: bool = False, **settings: Any) -> subprocess.CompletedProcess[str]:
        environment = self.environment | {"JAEGPT_CHECKPOINT_MINUTES": minutes}
        return train(self.weights, {"tiny": self.tiny, **settings}, fresh, **environment)

    def finish(self, **settings: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
        """Figures, final weights and messages of a run that ends well."""
        done = self.start(**settings)
        assert done.returncode == 0, done.stderr[-3000:]
        messages, figures = done.stdout.rsplit("\n", 2)[:2] if done.stdout.count("\n") > 1 else ("", done.stdout)
        weights = {name: weight for name, weight in load_file(self.weights).items() if "gradient." not in name}
        return json.loads(figures), weights, messages

    def checkpoints(self) -> list[Path]:
        return list((self.folder / "cache" / "jaegpt" / "runs").glob("*"))


def assert_same_bytes(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    runs = Runs(tmp_path_factory.mktemp("uninterrupted"))
    results = {
        precision: runs.finish(minutes="0", fresh=True, config={"precision": precision})[:2]
        for precision in ("fp32", "bf16")
    }
    assert results["fp32"][0]["steps"] == NUM_STEPS
    assert not runs.checkpoints()
    return results


@pytest.mark.parametrize(("precision", "kills"), [("fp32", 3), ("bf16", 1)])
def test_killed_it_ends_in_the_same_bytes(precision: str, kills: int, uninterrupted: Any, tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    config = {"precision": precision}
    where = random.Random(precision)
    for _ in range(kills):
        killed = runs.start(config=config, signal_at={where.randrange(2, 5): signal.SIGKILL})
        assert killed.returncode == -signal.SIGKILL
        assert len(runs.checkpoints()) == 1
    figures, weights, _ = runs.finish(config=config)
    expected_figures, expected_weights = uninterrupted[precision]
    assert figures["resumed_from_step"] >= 2 * kills, "each run came at least two steps further"
    assert_same_bytes(weights, expected_weights)
    assert figures["losses"] == expected_figures["losses"]
    assert figures["valid"] == expected_figures["valid"]
    assert figures["examples"] == expected_figures["examples"] == 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_at_hand_and_says_how_to_go_on(
    number: signal.Signals, uninterrupted: Any, tmp_path: Path
) -> None:
    runs = Runs(tmp_path)
    stopped = runs.start("1000", signal_at={4: number})
    assert stopped.returncode == 1
    assert f"error: train: stopped by {number.name} after step 5; `dvc repro` goes on from there." in stopped.stderr
    assert "Traceback" not in stopped.stderr
    figures, weights, _ = runs.finish(minutes="1000")
    assert figures["resumed_from_step"] == 5
    assert_same_bytes(weights, uninterrupted["fp32"][1])


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_the_run_going(uninterrupted: Any, tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.start(signal_at={3: signal.SIGKILL})
    (before,) = runs.checkpoints()
    content = before.read_bytes()
    full = {"file_limit": len(content) // 2}
    stopped = runs.start(**full, signal_at={2: signal.SIGTERM})
    assert "stopped by SIGTERM after step 6; `dvc repro` goes on from the checkpoint before it." in stopped.stderr
    figures, weights, messages = runs.finish(**full)
    assert "no checkpoint written" in messages
    assert figures["resumed_from_step"] == 3
    assert_same_bytes(weights, uninterrupted["fp32"][1])
    assert runs.checkpoints() == [before]
    assert before.read_bytes() == content


def test_a_checkpoint_that_cannot_be_used_is_named_and_the_run_starts_again(
    uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs(tmp_path)
    runs.start(signal_at={3: signal.SIGKILL})
    (checkpoint,) = runs.checkpoints()
    monkeypatch.setenv("XDG_CACHE_HOME", runs.environment["XDG_CACHE_HOME"])
    scratch, whole = Scratch(checkpoint.stem), checkpoint.read_bytes()
    state = scratch.load()
    assert state is not None
    assert state["step"] == 3
    assert stat.S_IMODE(checkpoint.stat().st_mode) == 0o600
    assert stat.S_IMODE(checkpoint.parent.stat().st_mode) == 0o700
    other = Scratch("of-another-run")
    shutil.copy(checkpoint, other.path)
    assert other.load() is None
    assert "another run's" in capsys.readouterr().out
    other.path.unlink()
    flips = random.Random(0)
    damages = [b"", whole[:-1000], whole[1:], whole[:60], whole + b"\0", b"\0" * len(whole)]
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[flips.randrange(len(whole))] ^= 1 << flips.randrange(8)
        damages.append(bytes(flipped))
    for damaged in damages:
        checkpoint.write_bytes(damaged)
        assert scratch.load() is None
        assert f"{checkpoint} is " in capsys.readouterr().out
    checkpoint.unlink()
    checkpoint.mkdir()
    assert scratch.load() is None
    assert f"{checkpoint} cannot be read (Is a directory)" in capsys.readouterr().out
    checkpoint.rmdir()
    monkeypatch.setattr("jaegpt.training.checkpoints.VERSION", VERSION + 1)
    assert scratch.save({"step": 3})
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", runs.environment["XDG_CACHE_HOME"])
    assert scratch.load() is None
    assert f"{checkpoint} is of version {VERSION + 1}" in capsys.readouterr().out
    checkpoint.write_bytes(damages[-1])
    figures, weights, messages = runs.finish()
    assert f"{checkpoint} is damaged" in messages
    assert figures["resumed_from_step"] == 0
    assert_same_bytes(weights, uninterrupted["fp32"][1])


def test_other_settings_never_take_up_an_old_state(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.start(signal_at={3: signal.SIGKILL})
    assert len(runs.checkpoints()) == 1
    figures, _, _ = runs.finish(config={"learning_rate": 2e-2})
    assert figures["resumed_from_step"] == 0


def test_the_key_covers_everything_that_determines_the_result(tmp_path: Path) -> None:
    model, examples, settings = tiny_heads(save_tiny(tmp_path / "tiny")), random_examples(5), {"seed": 1, "w_mc": 0.5}
    key = run_key(model, settings, examples, "cpu")
    others = [
        run_key(model, settings | {"w_mc": 0.6}, examples, "cpu"),
        run_key(model, settings, examples[:-1], "cpu"),
        run_key(model, settings, random_examples(5, seed=9), "cpu"),
        run_key(model, settings, examples, "8 threads"),
    ]
    with torch.no_grad():
        model.score.bias += 1
    others.append(run_key(model, settings, examples, "cpu"))
    assert len({key, *others}) == 6


def test_a_finished_run_removes_its_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scratch = Scratch("abc")
    assert scratch.save({"step": 3})
    assert scratch.path == tmp_path / "jaegpt" / "runs" / "abc.pt"
    assert scratch.load() == {"step": 3}
    scratch.path.with_name(".abc.pt.tmp").write_bytes(b"of a run killed while it saved")
    scratch.remove()
    scratch.remove()
    assert list(scratch.path.parent.iterdir()) == []


def test_the_machine_says_how_often_checkpoints_are_written(
    uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(tmp_path)
    for minutes in ("", "5"):  # by the clock, not by steps: none is due yet
        runs.start(minutes, signal_at={9: signal.SIGKILL})
        assert runs.checkpoints() == []
    stopped = runs.start("0", signal_at={4: signal.SIGTERM})
    assert "after step 5; nothing was saved, so a new run starts from the beginning." in stopped.stderr
    assert runs.checkpoints() == []
    for wrong in ("often", "-1", "nan", "inf"):
        monkeypatch.setenv("JAEGPT_CHECKPOINT_MINUTES", wrong)
        with pytest.raises(JaegptError, match=f"JAEGPT_CHECKPOINT_MINUTES must be a number of minutes.*'{wrong}'"):
            Scratch("abc")
