"""`make bench-gpu`: what it counts without a card, and that its cases of replies run."""

import torch
from torch import nn

from benchmarks.gpu_cases import GROUPS
from benchmarks.gpu_parts import HEADS, Launched, launches
from benchmarks.gpu_talk import talk

CPU = torch.device("cpu")


def test_operations_are_counted_and_views_are_not() -> None:
    layer, rows = nn.Linear(3, 4), torch.ones(2, 3)
    with Launched() as launched:
        loss = nn.functional.gelu(layer(rows)).view(8).sum()
    assert launched.count == 3, "addmm, gelu, sum"
    with Launched() as launched:
        loss.backward()
    assert launched.count == 4, "ones_like, gelu_backward, mm for the weight, sum for the bias"


def test_a_packed_step_launches_less_than_a_padded_one_and_a_token_less_than_both() -> None:
    lines = list(launches(CPU, tiny=True))
    assert [line["case"] for line in lines] == [f"launches {shape} b8" for shape in HEADS]
    for line in lines:
        assert 30 < line["token"] < line["packed"] < line["padded"]


def test_replies_are_timed_by_plain_and_recorded_steps() -> None:
    lines = list(talk("gpt2", CPU, tiny=True))
    assert [line["case"] for line in lines] == [
        f"gpt2 talk b{count} {variant}" for count in (1, 32) for variant in ("plain", "recorded")
    ]
    assert [line["recordings"] for line in lines] == [0, 1, 0, 6], "32 rows narrow to 16, 8, 4, 2 and 1"
    assert all(line["tokens/s"] > 0 and line["step_ms"] > 0 for line in lines)
    assert {group.shape for group in GROUPS if group.mode == "talk"} == {"gpt2", "135m", "1.5b"}
