"""LoRA (Hu et al. 2021) through peft: small trained matrices beside frozen ones, for base models too large to move."""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from jaegpt.training.heads import DoubleHeads

ALPHA_PER_RANK = 2  # the adapters' output is scaled by alpha / rank


def add_adapters(model: DoubleHeads, rank: int, seed: int) -> PeftModel:
    """Freeze the decoder and give each of its linear layers an adapter of this rank; they start without effect.

    The model is changed in place; the returned object is what `merged` wants back. The classification head is trained
    as always.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws the adapters' first weights from torch's own generator
        return get_peft_model(model.lm, _config(rank))


def merged(adapters: PeftModel, base: Any) -> Any:
    """The decoder `base`, freshly loaded in float32, with the trained adapters added into its weights.

    Not the decoder that was trained: its frozen weights may have been rounded to bf16.
    """
    weights = {name: weight.float().cpu() for name, weight in get_peft_model_state_dict(adapters).items()}
    fresh = get_peft_model(base, adapters.peft_config["default"])
    set_peft_model_state_dict(fresh, weights)
    return fresh.merge_and_unload()


def _config(rank: int) -> LoraConfig:
    alpha = ALPHA_PER_RANK * rank
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules="all-linear")
