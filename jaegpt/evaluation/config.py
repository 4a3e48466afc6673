"""Section `fidelity` of params.yaml."""

from dataclasses import dataclass

from jaegpt.evaluation.intervals import MIN_CONTEXTS

MAX_CANARIES = 8  # per number of copies: 4 numbers x 8 canaries take the 32 places of exposure.py


@dataclass(frozen=True, kw_only=True)
class FidelityConfig:
    """Section `fidelity` of params.yaml.

    contexts: validation contexts to generate replies for and judge them on.
    calibrate_contexts: further ones that stage calibrate tries ways to draw on; 0: it tries none.
    canaries: invented exchanges for each number of copies (0, 1, 4, 16) that a copy of the model is trained on, to see
        how well it remembers them; 0 trains no copy.
    """

    contexts: int
    calibrate_contexts: int
    canaries: int

    def __post_init__(self) -> None:
        if self.contexts < MIN_CONTEXTS:
            raise ValueError(f"contexts must be at least {MIN_CONTEXTS}, found {self.contexts}.")
        if self.calibrate_contexts < 0:
            raise ValueError(
                f"calibrate_contexts cannot be negative, found {self.calibrate_contexts}. 0 tries nothing."
            )
        if not 0 <= self.canaries <= MAX_CANARIES:
            raise ValueError(f"canaries must be from 0 to {MAX_CANARIES}, found {self.canaries}.")
