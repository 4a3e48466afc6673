"""LoRA (Hu et al. 2021) through peft: small trained matrices beside frozen ones, for base models too large to move."""

import jaegpt.environment  # noqa: F401

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers.pytorch_utils import Conv1D

from jaegpt.errors import JaegptError
from jaegpt.training.heads import DoubleHeads, text_trunk

ALPHA_PER_RANK = 2  # the adapters' output is scaled by alpha / rank


def add_adapters(model: DoubleHeads, rank: int, seed: int) -> PeftModel:
    """Freeze the decoder and give each of its linear layers an adapter of this rank; they start without effect.

    The model is changed in place; `merged` needs the returned object. The classification head is trained as always.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws the adapters' first weights from torch's own generator
        return get_peft_model(model.lm, _config(rank, _linear_layers(model.lm)))


def merged(adapters: PeftModel, base: Any) -> Any:
    """The decoder `base`, freshly loaded in float32, with the trained adapters added into its weights.

    Not the decoder that was trained: its frozen weights may have been rounded to bf16.
    """
    weights = {name: weight.float().cpu() for name, weight in get_peft_model_state_dict(adapters).items()}
    fresh = get_peft_model(base, adapters.peft_config["default"])
    set_peft_model_state_dict(fresh, weights)
    return fresh.merge_and_unload()


def _linear_layers(lm: Any) -> list[str]:
    """The names of the decoder's linear layers, without its head.

    Subclasses of them do not count: the routers of mixtures of experts are some, and return more than a product that
    an adapter's output could be added to.
    """
    trunk = text_trunk(lm)
    start = next(name for name, module in lm.named_modules() if module is trunk)
    names = [name for name, module in trunk.named_modules(prefix=start) if type(module) in (nn.Linear, Conv1D)]
    if not names:
        raise JaegptError("train.lora_rank: this base model has no linear layers for adapters. Set it to 0.")
    return names


def _config(rank: int, layers: list[str]) -> LoraConfig:
    alpha = ALPHA_PER_RANK * rank
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=layers)
