"""What a model folder may hold: it comes from anywhere, so it is checked before any library reads it.

A folder brings numbers and texts. Nothing in it is run (`auto_map`, `custom_generate`, pickled weights), makes anything
be read from elsewhere (adapters, indices, kernels), or makes memory or time run out before its faults show.
"""

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError

MOST_JSON_BYTES = 512 * 2**20  # the largest tokenizers take 40 MB
_MOST_CONFIG_BYTES = 16 * 2**20
_MOST_HEADER_BYTES = 100 * 2**20  # safetensors' own limit
_MOST_POSITIONS = 2**24
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "decoder_layers")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
_HEADS = ("n_head", "num_attention_heads", "num_key_value_heads", "head_dim")
_SIZES = ("vocab_size", "hidden_size", "n_embd", "d_model")  # each is a side of some weight
# These need not be a weight's side (experts have widths of their own), but are of the same order.
_WIDTHS = (
    "intermediate_size", "moe_intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "num_labels",
    "num_experts", "num_local_experts", "n_routed_experts",
)  # fmt: skip
_WIDEST = 64  # times the longest side
_MOST_GROWTH = 1000.0  # SentencePiece's mark for a space takes the place of one character, byte by byte of three


def check_model_folder(folder: str | Path) -> None:
    """Check what is in a model folder; what is missing is reported by what loads it.

    Raises:
        JaegptError: it holds code, pickled weights, a reference to elsewhere, something that is no file, or a
            config.json that does not belong to its weights.
    """
    folder = Path(folder)
    for path in sorted(folder.iterdir()):
        # Opening a pipe waits for ever. Links are followed: the hub's cache consists of them.
        if not path.is_file() and not path.is_dir():
            raise JaegptError(f"{path}: no file, but a pipe, a device or a link to nothing. Copy the model again.")
    config = read_json(folder / "config.json", _MOST_CONFIG_BYTES)
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).exists():
            _refuse_code(read_json(folder / name, _MOST_CONFIG_BYTES), folder / name)
    if (folder / "adapter_config.json").exists():
        raise JaegptError(
            f"{folder / 'adapter_config.json'}: an adapter, whose weights are added to those of a model elsewhere. "
            "Merge it into its base model (peft: merge_and_unload), and give the merged model's folder."
        )
    for path in sorted(folder.glob("*.index.json")):
        _check_index(path)
    shapes = [shape for path in sorted(folder.glob("*.safetensors")) for shape in _header(path).values()]
    if not shapes:
        pickled = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickled:
            raise JaegptError(
                f"{pickled[0]}: pickled weights, which can hold code, are not read. Save the model as safetensors "
                "(transformers: save_pretrained)."
            )
        raise JaegptError(f"{folder}: no weights here (*.safetensors). Copy the model again, or run `dvc repro`.")
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        _check_numbers(part, shapes, folder / "config.json")


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """A JSON object.

    Raises:
        JaegptError: there is none, or something else.
    """
    if not path.is_file():
        raise JaegptError(f"{path.parent}: no {path.name} here. Copy the model again, or run `dvc repro`.")
    if path.stat().st_size > most_bytes:
        raise JaegptError(f"{path}: larger than {most_bytes / 1e6:,.0f} MB, more than any such file needs.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise JaegptError(
            f"{path}: not readable as JSON ({why}); half copied? Copy the model again, or run "
            "`dvc repro --force train`."
        ) from None
    if not isinstance(content, dict):
        raise JaegptError(f"{path}: must hold a JSON object, found a {type(content).__name__}. Copy the model again.")
    return content


def check_tokenizer(path: Path) -> None:
    """Check a tokenizer.json: replacements one after another can make any text grow without end.

    Raises:
        JaegptError: it is no JSON object, or its replacements do.
    """
    content = read_json(path)
    for part in ("normalizer", "decoder"):
        growth = math.prod(_growths(content.get(part)))
        if growth > _MOST_GROWTH:
            raise JaegptError(
                f"{path}: its {part} can make a text {growth:,.0f} times as long. Choose another base model."
            )


def _growths(part: Any) -> Iterator[float]:
    """By how much each replacement in a part of a tokenizer can lengthen a text."""
    if isinstance(part, list):
        for one in part:
            yield from _growths(one)
    elif isinstance(part, dict):
        if part.get("type") == "Replace":
            pattern = part.get("pattern")
            shortest = len(str(pattern["String"])) if isinstance(pattern, dict) and "String" in pattern else 1
            yield max(1.0, len(str(part.get("content", ""))) / max(shortest, 1))
        for value in part.values():
            yield from _growths(value)


@contextmanager
def loading(folder: str | Path, remedy: str) -> Iterator[None]:
    """One clear line for whatever a library raises over a folder's files: each has errors of its own kinds for it."""
    try:
        yield
    except JaegptError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise JaegptError(
            f"{folder}: this model cannot be loaded ({why}). It may be of another version or half copied. {remedy}"
        ) from error


def check_numbers(folder: str | Path, model: Any, num_tokens: int) -> None:
    """A loaded model against its tokenizer, and its weights for what is no number.

    Args:
        num_tokens: of the tokenizer, one more than its highest id; 0 where there is none.

    Raises:
        JaegptError: they do not belong together, or a weight is not finite.
    """
    rows = model.get_input_embeddings().num_embeddings
    if num_tokens > rows:
        raise JaegptError(
            f"{folder}: its tokenizer has {num_tokens:,} tokens, its embedding only {rows:,}. The two do not belong "
            "together; copy the model again."
        )
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise JaegptError(f"{folder}: {name} holds numbers that are not finite. Copy the model again.")


def _refuse_code(content: Mapping[str, Any], path: Path) -> None:
    for key, value in content.items():
        if key in ("auto_map", "custom_generate", "custom_pipelines") and value:
            raise JaegptError(
                f"{path}: `{key}` names code that came with the model, and code of a model is never run. Give a model "
                f"of a kind that transformers has itself; if this is one, remove `{key}` from that file."
            )
        if key == "transformers_weights" and value:
            raise JaegptError(f"{path}: `{key}` names other weights ({str(value)[:80]!r}). Remove it from that file.")
        if key.endswith("attn_implementation") and "/" in str(value):
            raise JaegptError(f"{path}: `{key}` would fetch code ({value}). Remove it from that file.")
        if isinstance(value, dict):
            _refuse_code(value, path)


def _check_index(path: Path) -> None:
    """A model in several files names them in an index; they lie beside it."""
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict):
        raise JaegptError(f"{path}: has no `weight_map`. Copy the model again.")
    for name in sorted({str(name) for name in names.values()}):
        if os.path.basename(name) != name or not name.endswith(".safetensors") or not (path.parent / name).is_file():
            raise JaegptError(
                f"{path}: names {name!r}, which is no safetensors file of this folder. Copy the model again."
            )


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a safetensors file; the tensors themselves are not read."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MOST_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        if max(ends, default=0) != size - 8 - length:
            raise ValueError("it ends too early or too late")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        struct.error,
    ) as error:
        why = " ".join(str(error).split())[:120]
        raise JaegptError(
            f"{path}: this model cannot be loaded ({why}): damaged, or half copied. Copy the model again, or run "
            "`dvc repro --force train`."
        ) from None
    return shapes


def _check_numbers(config: Mapping[str, Any], shapes: list[tuple[int, ...]], path: Path) -> None:
    """The sizes in a config.json against the weights: transformers builds the model before it compares them."""
    sides = {side for shape in shapes for side in shape}
    limits = {
        **dict.fromkeys(_LAYERS, len(shapes)),
        **dict.fromkeys(_POSITIONS, _MOST_POSITIONS),
        **dict.fromkeys(_WIDTHS, _WIDEST * max(sides, default=1)),
    }
    for key in (*_LAYERS, *_POSITIONS, *_HEADS, *_SIZES, *_WIDTHS):
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise JaegptError(f"{path}: `{key}` must be a whole number above 0, found {str(value)[:40]!r}.")
        if value > limits.get(key, math.inf) or (key in _SIZES and value not in sides):
            raise JaegptError(
                f"{path}: `{key}` is {value}, which the weights beside it ({len(shapes):,} tensors) do not bear out. "
                "The two files do not belong together; copy the model again."
            )
