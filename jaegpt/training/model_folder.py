"""The model folder: what training leaves, what evaluation and chat load, and what plain transformers can read."""

import jaegpt.environment  # noqa: F401

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from jaegpt.base_model import copy_tokenizer
from jaegpt.errors import JaegptError
from jaegpt.files import write_text
from jaegpt.model_files import check_model_folder, check_numbers, loading
from jaegpt.training.heads import DoubleHeads, round_weights

HEAD_FILE = "classification_head.safetensors"
CARD_FILE = "README.md"
ORIGINAL = {"learn": "replies", "separator": "space"}  # how a folder was trained that does not say
_REMEDY = "Run `dvc repro --force train`."


def load_base(folder: str | Path, seed: int, token_types: bool) -> DoubleHeads:
    """The untouched base model in float32 under a new classification head, drawn from `seed`.

    Raises:
        JaegptError: the folder does not hold a causal decoder.
    """
    return DoubleHeads(load_lm(folder), torch.Generator().manual_seed(seed), token_types)


def load_tuned(folder: str | Path, token_types: bool) -> DoubleHeads:
    """The model that training left in `folder`, in float32."""
    head = Path(folder) / HEAD_FILE
    if not head.is_file():
        raise JaegptError(f"{folder}: no {HEAD_FILE} here, so this is not a model of jaegpt. Run `dvc repro`.")
    model = DoubleHeads(load_lm(folder), torch.Generator(), token_types)
    with loading(folder, _REMEDY):
        model.score.load_state_dict(load_file(head))
    return model


def save_model(
    model: DoubleHeads,
    base: str | Path,
    folder: Path,
    card: str,
    view: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write decoder, classification head, tokenizer, the base model's licence and the model card into `folder`.

    Args:
        dtype: of the decoder's weights there: the precision that the run computed in, as replies and figures do, so
            that a folder is no larger than what is ever read of it.
        view: the parameters that say how histories were shown to the model (num_history, block_size, token_types,
            learn, separator). They become `jaegpt` in its config.json, so that chat shows it later histories in the
            same way. What is as in ORIGINAL is not written, as in folders of before there was a choice.
    """
    model.lm.config.jaegpt = {key: value for key, value in view.items() if ORIGINAL.get(key) != value}
    model.lm.config._name_or_path = ""  # a folder of this machine
    round_weights(model.cpu().lm, dtype)
    model.lm.save_pretrained(folder)
    save_file(model.score.state_dict(), folder / HEAD_FILE)
    copy_tokenizer(Path(base), folder)
    write_text(folder / CARD_FILE, card)


def load_lm(folder: str | Path) -> Any:
    """The causal decoder in `folder`, in float32.

    Raises:
        JaegptError: there is none, or it is damaged, lacks weights, brings code along, or needs something elsewhere.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if not (Path(folder) / "config.json").is_file():
        raise JaegptError(f"{folder}: no config.json here. Run `dvc repro`.")
    check_model_folder(folder)
    logging.disable_progress_bar()
    with loading(folder, _REMEDY):
        lm, info = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):  # transformers fills the gaps with random numbers
        raise JaegptError(
            f"{folder}: {len(missing):,} weights are missing, the first is {missing[0]}. It may be half copied. "
            "Run `dvc repro --force base_model train`."
        )
    check_numbers(folder, lm, 0)
    return lm
