"""The precisions that `train.precision` may name: in a module of its own, so that reading parameters loads no torch."""

from typing import Literal

Precision = Literal["auto", "bf16", "fp32"]
