"""The TPU report: its arithmetic by hand, and what it says of slices that are none or do not compile."""

import pytest

from jaegpt.training import tpu_report as module
from jaegpt.training.tpu_report import CHIPS, TpuConfig, entry

FOUND = {
    "devices": 4, "argument_bytes": 1000, "temporary_bytes": 200, "code_bytes": 30, "flops": 197e12 * 0.5,
    "bytes_accessed": 800e9 * 0.25, "all_reduces": 2,
}  # fmt: skip


def test_the_roofline_is_the_slower_of_operations_and_bytes() -> None:
    bound_by_operations = entry(FOUND, CHIPS["v5e"], 4, batch_size=8, num_examples=480)
    assert bound_by_operations["roofline_step_s"] == pytest.approx(0.5)
    assert bound_by_operations["examples_per_second"] == pytest.approx(16)
    assert bound_by_operations["minutes_per_epoch"] == pytest.approx(0.5)
    assert bound_by_operations["hbm_needed_bytes"] == 1230
    assert bound_by_operations["hbm_available_bytes"] == 16 * 2**30
    bound_by_bytes = entry(FOUND | {"flops": 1.0}, CHIPS["v5e"], 4, batch_size=8, num_examples=480)
    assert bound_by_bytes["roofline_step_s"] == pytest.approx(0.25)


def test_what_does_not_compile_says_why() -> None:
    found = entry({"message": "too large"}, CHIPS["v6e"], 4, batch_size=8, num_examples=480)
    assert found == {"compiles": False, "message": "too large", "devices": 4}


@pytest.mark.parametrize("name", ["v9:2x2", "v5e", "v5e:2", "v5e:axb", "2x2"])
def test_slices_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no slice of v2, v3"):
        TpuConfig(topologies=["v5e:2x2", name])


def test_old_generations_have_two_devices_a_chip() -> None:
    assert module._num_devices("v2", "2x2") == 8
    assert module._num_devices("v4", "2x2x1") == 4
    assert module._num_devices("v5e", "2x4") == 8


def test_a_process_that_fails_leaves_its_last_line_as_the_message() -> None:
    found = module._call("tpu_lower", "not JSON", "out")
    assert "message" in found
    assert "tpu_lower" in found["message"]
