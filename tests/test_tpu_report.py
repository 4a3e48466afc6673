"""The TPU report: its arithmetic by hand, slices and programs that are refused, and the real compiler."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.chats import chat_tables
from helpers.forking import forked_python
from helpers.models import save_tiny
from helpers.paths import ROOT

from jaegpt.dialogue.encode_table import encode_examples
from jaegpt.dialogue.encoding import Encoder
from jaegpt.tpu import compile as tpu_compile
from jaegpt.tpu import lower as tpu_lower
from jaegpt.tpu import report as tpu_report
from jaegpt.tpu.report import CHIPS, Chip, TpuConfig, entry, roofline_step_s, why_not
from stages import tpu_report as stage

KEYS = [
    "compiles", "devices", "hbm_needed_bytes", "hbm_available_bytes", "flops", "bytes_accessed", "roofline_step_s",
    "examples_per_second", "minutes_per_epoch",
]  # fmt: skip
# Read: 1,024 * 4 in HBM by the fusion, 256 * 4 by the slice on its way to the chip's own memory. Written: 1,024 * 2.
MODULE = """HloModule step, is_scheduled=true

%fused (p: f32[1024]) -> bf16[1024] {
  %p = f32[1024]{0} parameter(0)
  ROOT %c = bf16[1024]{0} convert(%p)
}

ENTRY %main (a: f32[1024], b: f32[1024]) -> bf16[1024] {
  %a = f32[1024]{0:T(1024)} parameter(0)
  %b = f32[1024]{0:T(1024)} parameter(1)
  %start = ((f32[1024]{0:T(1024)}), f32[256]{0:T(256)S(1)}, s32[]{:S(2)}) slice-start(%b), slice={[0:256]}
  %done = f32[256]{0:T(256)S(1)} slice-done(%start)
  %near = f32[256]{0:T(256)S(1)} fusion(%done), kind=kLoop, calls=%fused
  ROOT %out = bf16[1024]{0:T(1024)(2,1)} fusion(%a, %near), kind=kLoop, calls=%fused
}
"""


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the report starts is forked from a process that has loaded torch."""
    monkeypatch.setattr(tpu_report.sys, "executable", forked_python())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a run of `tiny` on a few chats."""
    folder = tmp_path_factory.mktemp("run")
    base = save_tiny(folder / "tiny")
    (folder / "tokens").mkdir()
    tokens = encode_examples(chat_tables(2)[1], Encoder(base))
    pq.write_table(tokens, folder / "tokens/part-00000.parquet")
    return {
        "seed": 1, "block_size": 1024, "base_model": str(base), "tokens": str(folder / "tokens"), "segments": "",
        "train": {
            "epochs": 2, "batch_size": 8, "pack_width": 0, "precision": "bf16", "token_types": False, "accumulation": 1,
            "mc_share": 1, "lora_rank": 0,
        },
    }  # fmt: skip


def test_roofline_by_hand() -> None:
    chip = Chip(flops=100e12, bandwidth=1e12)
    assert roofline_step_s(5e11, 2e9, chip) == pytest.approx(0.005), "5e11 / 100e12 is longer than 2e9 / 1e12"
    assert roofline_step_s(1e11, 2e9, chip) == pytest.approx(0.002), "2e9 / 1e12 is longer than 1e11 / 100e12"
    assert roofline_step_s(1e11, 2e9, chip, cores=2) == pytest.approx(0.004), "two devices share the chip"


def test_an_entry_by_hand() -> None:
    found = {"devices": 4, "hbm_needed_bytes": 3, "hbm_available_bytes": 9, "flops": 394e9, "bytes_accessed": 819e7}
    result = entry("v5e:2x2", found, batch_size=8, num_examples=20)
    assert list(result) == KEYS
    assert result["roofline_step_s"] == pytest.approx(0.01), "819e7 / 819e9"
    assert result["examples_per_second"] == pytest.approx(800)
    assert result["minutes_per_epoch"] == pytest.approx(0.03 / 60), "20 examples are 3 steps"
    two_cores = entry("v2:2x2", {**found, "devices": 8}, batch_size=8, num_examples=20)
    assert two_cores["roofline_step_s"] == pytest.approx(2 * 819e7 / CHIPS["v2"].bandwidth)


def test_a_refused_slice_keeps_the_keys() -> None:
    result = entry("v9x:2x2", {"message": "no such TPU"}, batch_size=8, num_examples=20)
    assert sorted(result) == sorted([*KEYS, "message"])
    assert (result["compiles"], result["message"], result["devices"]) == (False, "no such TPU", None)
    too_large = {"message": "out of memory", "devices": 1, "hbm_available_bytes": 9}
    result = entry("v5e:1x1", too_large, batch_size=8, num_examples=20)
    assert (result["compiles"], result["devices"], result["hbm_available_bytes"]) == (False, 1, 9)
    assert result["examples_per_second"] is None
    assert entry("v5e:1x1", {}, 8, 20)["message"] == "the compiler gave no answer"


def test_traffic_with_hbm_leaves_the_chips_own_memory_out() -> None:
    assert tpu_compile.hbm_traffic(MODULE) == 256 * 4 + 1024 * 4 + 1024 * 2


@pytest.mark.parametrize("topologies", [[], ["v5e:2x2", "v5e:2x2"]])
def test_a_list_without_sense_is_refused(topologies: list[str]) -> None:
    with pytest.raises(ValueError, match="topologies must name at least one slice"):
        TpuConfig(topologies=topologies)


def test_without_the_compiler_the_stage_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    present = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else present(name))
    monkeypatch.chdir(tmp_path)  # there are no tokens here: none are read
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    stage.main()
    content = json.loads((tmp_path / "metrics/tpu.json").read_text(encoding="utf-8"))
    assert list(content) == ["v5e:1x1", "v5e:2x2", "v5e:2x4", "v6e:2x2"]
    for found in content.values():
        assert sorted(found) == sorted([*KEYS, "message"])
        assert found["compiles"] is None
        assert "libtpu" in found["message"]
        assert "`make tpu`" in found["message"]
    assert "skipped" in capsys.readouterr().out


def test_a_compiler_that_dies_is_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tpu_report.sys, "executable", "/bin/false")
    report = tpu_report.tpu_report(["v5e:1x1", "v6e:2x2"], {"train": {"batch_size": 8}}, 20, tmp_path)
    for found in report.values():
        assert found["compiles"] is False
        assert found["message"] == "jaegpt.tpu.compile: it said nothing (exit code 1)"


def test_a_step_that_cannot_be_lowered_says_why() -> None:
    found = tpu_report._ask(tpu_lower, "not JSON", "out")
    assert "jaegpt.tpu.lower: " in found["message"]
    assert "JSONDecodeError" in found["message"] or "torch_xla" in found["message"]


@pytest.mark.skipif(importlib.util.find_spec("torch_xla") is None, reason="torch_xla exists for Linux on x86-64 only")
def test_the_lowered_step_spreads_its_rows_and_holds_the_whole_update(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "4.mlir"
    assert tpu_report._ask(tpu_lower, json.dumps(settings), str(path), CPU_NUM_DEVICES="4", PJRT_DEVICE="CPU") == {}
    program = path.read_text(encoding="utf-8")
    signature = program[program.index("@main(") : program.index("{\n", program.index("@main("))]
    arguments, _, results = signature.partition("->")
    assert 8 <= arguments.count("{devices=[4,1") <= 10, "the batch, less what the step has no use for"
    # 28 weights of the decoder, 2 of the head: in bf16, their masters, and two moments and a step count for each.
    # Beside these the two losses, in one tensor, and the gradient's norm.
    assert results.count("xbf16>") == 30
    assert results.count("f32>") == 30 * 4 + 2


@pytest.mark.skipif(importlib.util.find_spec("torch_xla") is None, reason="torch_xla exists for Linux on x86-64 only")
def test_a_step_in_parts_is_lowered_whole(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "1.mlir"
    settings = {**settings, "train": {**settings["train"], "accumulation": 2}}
    assert tpu_report._ask(tpu_lower, json.dumps(settings), str(path), CPU_NUM_DEVICES="4", PJRT_DEVICE="CPU") == {}
    program = path.read_text(encoding="utf-8")
    arguments = program[program.index("@main(") : program.index("->", program.index("@main("))]
    assert 16 <= arguments.count("{devices=[4,1") <= 20, "the batches of both parts"


@pytest.mark.skipif(why_not() is not None, reason=f"{why_not()}")
def test_the_real_compiler(settings: dict[str, Any], tmp_path: Path) -> None:
    report = tpu_report.tpu_report(["v5e:1x1", "v9x:2x2"], settings, 30, tmp_path)
    found, refused = report["v5e:1x1"], report["v9x:2x2"]
    assert list(found) == KEYS
    assert found["compiles"]
    assert found["devices"] == 1
    assert 15e9 < found["hbm_available_bytes"] < 17e9
    assert 1e5 < found["hbm_needed_bytes"] < 1e9
    assert found["flops"] > 1e6
    assert found["bytes_accessed"] > 1e6
    assert not refused["compiles"]
    assert "Invalid TPU external name" in refused["message"]
