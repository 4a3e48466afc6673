"""How well a model remembers what it saw once, 4 times or 16 times: canaries, and the rank of their likelihood.

A canary is an exchange that nobody had, with a random number in it. Copies of it are put among the training examples of
a copy of the model, which is measured and thrown away. Had the model not learned the number, it would be as likely as
any other of its form; exposure = log2 |R| - log2 rank, R being the canary and its alternatives (Carlini et al. 2019).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaegpt.arrays import Floats
from jaegpt.dialogue.encode_table import encode_candidate, encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.evaluation.scoring import score_candidates
from jaegpt.training.config import Task, TrainConfig
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.heads import DoubleHeads, round_weights
from jaegpt.training.loop import train
from jaegpt.training.packing import Example

REPEATS = (0, 1, 4, 16)  # copies among the training examples; those with 0 are what chance gives
NUM_ALTERNATIVES = 511  # so that an exposure is at most log2(512) = 9 bits
PLACES = [
    "locker", "garage", "cellar", "gym", "office", "attic", "hotel", "library", "harbour", "station", "workshop",
    "school", "kitchen", "studio", "theatre", "museum", "clinic", "bakery", "cottage", "pool", "market", "chapel",
    "laundry", "greenhouse", "archive", "stable", "factory", "courtyard", "hangar", "lobby", "tower", "vault",
]  # fmt: skip
_PACKED = 16  # alternatives that share a history in one packed example


@dataclass(frozen=True)
class Canary:
    """One exchange: `question` by someone else, answered with `number`; it is copied `repeats` times."""

    place: str
    number: str
    repeats: int

    @property
    def question(self) -> str:
        return f"what was the code for the {self.place} again?"

    def reply(self, number: str) -> str:
        """The answer with this number in the place of the canary's own."""
        return f"the {self.place} code is {number}"


def measure_exposure(
    model: DoubleHeads,
    encoder: Encoder,
    task: Task,
    config: TrainConfig,
    device: Device,
    *,
    count: int,
    block_size: int,
) -> dict[str, float]:
    """Train `model` on the task's examples and the copies of `count` canaries for each of REPEATS, and measure it.

    Returns:
        As `exposures`.

    Raises:
        JaegptError: a canary does not fit a block.
    """
    canaries = make_canaries(count, task.seed)
    copies = canary_examples(canaries, task.train, encoder, task.seed)
    if not all(example.fits(block_size) for example in copies):
        raise JaegptError(
            f"block_size: a canary does not fit {block_size} tokens. Raise it, or set fidelity.canaries 0."
        )
    seeded = dataclasses.replace(task, train=[*task.train, *copies], valid=[])
    train(model, seeded, dataclasses.replace(config, evaluations=0), device)
    if device.kind == "xla":
        device = choose_device(config.precision, eager=True)
    round_weights(model.to(device.torch_device), device.dtype)
    return exposures(model, canaries, encoder, device, task.seed)


def make_canaries(count: int, seed: int) -> list[Canary]:
    """`count` canaries (at most MAX_CANARIES) for each of REPEATS, with six-digit numbers drawn from `seed`."""
    numbers = np.random.default_rng([seed, count]).choice(10**6, count * len(REPEATS), replace=False)
    repeats = [times for times in REPEATS for _ in range(count)]
    places = PLACES[: len(repeats)]
    return [
        Canary(place, f"{number:06d}", times) for place, number, times in zip(places, numbers, repeats, strict=True)
    ]


def canary_examples(
    canaries: Sequence[Canary], ordinary: Sequence[Example], encoder: Encoder, seed: int
) -> list[Example]:
    """The copies to be trained on, with replies of the `ordinary` examples as their distractors."""
    rng = np.random.default_rng([seed, len(ordinary)])
    num_distractors = len(ordinary[0].candidates) - 1
    examples = []
    for canary in canaries:
        history, roles = encode_history(encoder, [(False, canary.question)])
        for copy in range(canary.repeats):
            others = rng.choice(len(ordinary), num_distractors)
            reply = np.array(encode_candidate(encoder, canary.reply(canary.number)), np.int64)
            examples.append(
                Example(
                    example_id=f"canary-{canary.place}-{copy}",
                    history=np.array(history, np.int64),
                    roles=np.array(roles, np.int64),
                    candidates=[*(ordinary[other].candidates[-1] for other in others.tolist()), reply],
                )
            )
    return examples


def exposures(
    model: DoubleHeads, canaries: Sequence[Canary], encoder: Encoder, device: Device, seed: int
) -> dict[str, float]:
    """Copies ("0", "1", "4", "16") -> mean exposure in bits, by the language model's likelihood of the whole reply.

    And `most`: the exposure of a canary likelier than all its alternatives.
    """
    rng = np.random.default_rng(seed)
    examples = [example for canary in canaries for example in _alternatives(canary, encoder, rng)]
    scores = score_candidates(model, examples, device, "exposure")
    an_example = len(examples) // len(canaries)
    found: dict[str, list[float]] = {str(times): [] for times in REPEATS}
    for number, canary in enumerate(canaries):
        of_canary = scores[number * an_example : (number + 1) * an_example]
        likelihoods = np.concatenate([score.log_likelihood for score in of_canary])
        found[str(canary.repeats)].append(exposure(likelihoods[0], likelihoods[1:]))
    most = float(np.log2(NUM_ALTERNATIVES + 1))
    return {**{times: float(np.mean(values)) for times, values in found.items()}, "most": most}


def exposure(canary: float, alternatives: Floats) -> float:
    """log2 |R| - log2 rank; alternatives as likely as the canary count half.

    >>> exposure(-1.0, np.array([-2.0, -3.0, -4.0]))
    2.0
    """
    rank = 1 + int((alternatives > canary).sum()) + 0.5 * int((alternatives == canary).sum())
    return float(np.log2(len(alternatives) + 1) - np.log2(rank))


def _alternatives(canary: Canary, encoder: Encoder, rng: np.random.Generator) -> list[Example]:
    """The canary's own reply, then those with other numbers, packed under their common history."""
    drawn = rng.choice(10**6 - 1, NUM_ALTERNATIVES, replace=False)
    numbers = [f"{number + (number >= int(canary.number)):06d}" for number in drawn.tolist()]  # steps over its own
    history, roles = encode_history(encoder, [(False, canary.question)])
    replies = [
        np.array(encode_candidate(encoder, canary.reply(number)), np.int64) for number in (canary.number, *numbers)
    ]
    return [
        Example(
            example_id=f"{canary.place}-{start}",
            history=np.array(history, np.int64),
            roles=np.array(roles, np.int64),
            candidates=replies[start : start + _PACKED],
        )
        for start in range(0, len(replies), _PACKED)
    ]
