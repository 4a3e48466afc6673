"""Model folders and settings that the tests of chat share."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from helpers.models import CPU, save_tiny
from jaegpt.generation.settings import GenerateConfig
from jaegpt.generation.speaker import Speaker
from jaegpt.training.model_folder import load_base, save_model

CONFIG = GenerateConfig(
    top_p=0.9, top_k=100, temperature=1.0, no_repeat_ngram=3, max_tokens=20, candidates=1, rerank="head"
)
VIEW = {"num_history": 4, "block_size": 128, "token_types": False}  # that tuned models were trained with
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def config(**changes: Any) -> GenerateConfig:
    """CONFIG with some values changed."""
    return dataclasses.replace(CONFIG, **changes)


def save_base(folder: Path) -> Path:
    """`tiny` with weights ten times as large: its replies differ from one history to the next."""
    save_tiny(folder)
    model = load_base(folder, 0, token_types=False)
    with torch.no_grad():
        for weight in model.lm.parameters():
            if weight.dim() == 2:
                weight.mul_(10)
    model.lm.save_pretrained(folder)
    return folder


def save_tuned(folder: Path, base: Path, seed: int = 1) -> Path:
    """A model folder as training leaves it: weights moved a little, and a classification head that has an opinion."""
    model = load_base(base, seed, token_types=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.lm.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
        model.score.weight.mul_(50)
    folder.mkdir(parents=True)
    save_model(model, base, folder, "A model card.", VIEW)
    return folder


def save_chat_base(folder: Path, tiny: Path) -> Path:
    """`tiny` with ChatML's control tokens and a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    model = load_base(tiny, 0, token_types=False).lm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def speaker(folder: Path, **view: Any) -> Speaker:
    """A Speaker in float32 on the CPU, so that batches of any shape give the same digits to six places."""
    return Speaker(folder, device=CPU, **view)
