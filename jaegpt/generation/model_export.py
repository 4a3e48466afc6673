"""The fine-tuned model's folder for other programs, with the settings that `calibrate` found for such."""

import json
import shutil
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.files import write_json, writing_folder
from jaegpt.generation.settings import FOUND, found_settings
from jaegpt.model_files import check_model_folder, read_json

NAME = "generation_config.json"


def handed_on(folder: Path, found: Path = FOUND) -> dict[str, Any]:
    """What generation_config.json says beside a copy of the model in `folder`.

    The folder's own says which tokens begin and end a text; without that a program would not know where a reply ends.
    What `calibrate` found says how to draw; a stage may not write it into the folder, which is another stage's output.

    Raises:
        JaegptError: one of the two files is damaged.
    """
    content = read_json(folder / NAME) if (folder / NAME).is_file() else {}
    config = read_json(folder / "config.json")
    content = {key: config[key] for key in ("bos_token_id", "eos_token_id") if config.get(key) is not None} | content
    if found_settings(found) is None:
        return content
    # transformers would make the file again out of config.json where this mark stands.
    content.pop("_from_model_config", None)
    return {**content, **json.loads(found.read_text(encoding="utf-8"))}


def drawing(settings: dict[str, Any]) -> dict[str, Any]:
    """How a generation_config.json says to draw, by transformers' names and with its defaults; temperature 0 takes the
    likeliest token. Nothing of one that does not say whether it draws."""
    if "do_sample" not in settings:
        return {}
    if not settings["do_sample"]:
        return {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": 0.0}
    return {name: value if (given := settings.get(name)) is None else given for name, value in defaults.items()}


def export_folder(folder: Path, target: Path, found: Path = FOUND) -> Path:
    """Copy the model in `folder` into the new folder `target`, to be read by transformers, vLLM and others.

    Raises:
        JaegptError: there is no model, or `target` exists or cannot be written.
    """
    if not (folder / "config.json").is_file():
        raise JaegptError(f"{folder}: no trained model yet. Run `dvc repro`.")
    if target.exists():
        raise JaegptError(f"--folder: {target} exists and is not replaced. Give the name of a new folder.")
    check_model_folder(folder)
    content = handed_on(folder, found)
    with writing_folder(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        write_json(temporary / NAME, content)
    return target
