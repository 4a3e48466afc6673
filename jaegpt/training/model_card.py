"""The model card that travels with the weights: what it is, what it was made from, its figures, and a warning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NOTICE = """\
**This is a model of a person, not the person.** It says things the person never said, and it may repeat things they
did say: messages of the training data, and of the people they chatted with, can be drawn out of it. Keep the weights
as private as the chats themselves, and do not let others take its words for the person's."""


def model_card(
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
    valid: Mapping[str, float],
    num_train: int,
    num_valid: int,
) -> str:
    """Markdown. Numbers and settings only: no message, no name, and nothing of where a base model lies on this machine.

    Args:
        figures: those of metrics/train.json.
        valid: the last row of plots/valid.csv; empty where nothing was held out.
    """
    # A model of the hub is called OWNER/NAME or NAME, and no folder here is. Anything else is a path, and private.
    name = str(settings["model"])
    local = Path(name).expanduser().exists() or name.count("/") > 1 or name.startswith(("/", ".", "~"))
    base = "a local model" if local else name
    measured = {key: f"{value:.4f}" for key, value in valid.items() if key != "step"} or {
        "none": "nothing was held out"
    }
    return f"""# A model of one person's way of chatting

Base model: {base}. Fine-tuned with jaegpt on {num_train:,} replies of one person; {num_valid:,} were held out.

{NOTICE}

Figures at the end of training, on the held-out replies that its curves are drawn from:

| figure | value |
|---|---|
{_rows(measured)}

| setting | value |
|---|---|
{_rows({**settings, "model": base})}

Trained for {figures["steps"]:,} steps in {figures["precision"]} on {figures["device"]}. The file
`classification_head.safetensors` scores candidate replies; the rest is a plain causal language model that
`AutoModelForCausalLM.from_pretrained` loads.
"""


def _rows(values: Mapping[str, Any]) -> str:
    return "\n".join(f"| {key} | {value} |" for key, value in values.items())


def speed(figures: Mapping[str, Any]) -> str:
    """metrics/train.json in one line; the rate and its seconds are those of training alone."""
    rate = figures["examples_per_second"]
    return (
        f"{figures['steps']:,} steps, {figures['examples']:,} examples at {rate:.2f} per second in "
        f"{figures['examples'] / rate:,.1f} s of training; {figures['wall_s']:,.1f} s with validation and checkpoints"
    )
