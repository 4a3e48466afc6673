"""The model card that travels with the weights: what it is, what it was made from, and a warning."""

from collections.abc import Mapping
from typing import Any


def model_card(
    base: str, settings: Mapping[str, Any], figures: Mapping[str, Any], num_train: int, num_valid: int
) -> str:
    """Markdown. Numbers and settings only: no message, no name."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    return f"""# A model of one person's way of chatting

Base model: {base}. Fine-tuned with jaegpt on {num_train:,} replies of one person, with {num_valid:,} held out.

**This is a model of a person, not the person.** It says things the person never said, and it may repeat things they
did say: messages of the training data, and of the people they chatted with, can be drawn out of it. Keep the weights
as private as the chats themselves, and do not let others take its words for the person's.

| setting | value |
|---|---|
{rows}

Trained for {figures["steps"]:,} steps in {figures["precision"]} on {figures["device"]}. The file
`classification_head.safetensors` scores candidate replies; the rest is a plain causal language model that
`AutoModelForCausalLM.from_pretrained` loads.
"""
