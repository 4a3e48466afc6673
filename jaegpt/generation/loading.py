"""A model folder into memory, for generation; whatever is wrong with it is one clear line."""

import jaegpt.environment  # noqa: F401

from pathlib import Path

from jaegpt.errors import JaegptError
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads, round_weights
from jaegpt.training.model_folder import HEAD_FILE, load_base, load_tuned


def load_model(folder: Path, device: Device, token_types: bool) -> tuple[DoubleHeads, bool]:
    """The model in the device's precision, ready to speak, and whether the folder brought a classification head.

    Raises:
        JaegptError: there is no model, or it is not one that this version can read.
    """
    if not (folder / "config.json").is_file():
        raise JaegptError(f"{folder}: no trained model yet. Run `dvc repro`.")
    has_head = (folder / HEAD_FILE).is_file()
    # A base model's head is drawn at random and never asked.
    model = load_tuned(folder, token_types) if has_head else load_base(folder, 0, token_types)
    round_weights(model, device.dtype)
    return model.to(device.torch_device).eval(), has_head
