"""The fine-tuned model as a GGUF file, for llama.cpp and Ollama.

The families here are those whose every weight and number the tests compare; GPT-2 and Llama were also run by llama.cpp
itself. For others there is llama.cpp's own converter, which the package `gguf` does not carry.
"""

import jaegpt.environment  # noqa: F401

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    get_tensor_name_map,
    quantize,
)
from safetensors import safe_open
from transformers import AutoConfig

from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.files import writing_file
from jaegpt.generation.gguf_tokenizer import unknown_tokenizer, write_tokenizer
from jaegpt.generation.model_export import handed_on
from jaegpt.generation.settings import FOUND
from jaegpt.model_files import check_model_folder

Precision = Literal["f16", "q8_0"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_FAMILIES = {
    "gpt2": MODEL_ARCH.GPT2,
    "llama": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
}
# What llama.cpp computes for a family whatever the file says, by the names in config.json.
_ALWAYS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    "llama": {"hidden_act": "silu", "mlp_bias": False},
    "qwen2": {"hidden_act": "silu", "use_sliding_window": False},
    "qwen3": {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False},
}
_FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
_BLOCK = 32  # numbers of a row that share a scale in q8_0


def export_gguf(folder: Path, path: Path, found: Path = FOUND, precision: Precision = "f16") -> Path:
    """Write `path` from the model in `folder`; an existing file is replaced.

    Args:
        found: what `calibrate` wrote; where it is, its settings for other programs stand in the file as llama.cpp's
            defaults.
        precision: of the matrices: float16, or 8 bits with a scale for every 32 numbers, half as large. Everything else
            is float32.

    Raises:
        JaegptError: there is no model, or it is of a family that is not written here, or it cannot be read or written.
    """
    with reading_model(folder, path):
        return _export(folder, path, found, precision)


@contextmanager
def reading_model(folder: Path, path: Path) -> Iterator[None]:
    """One clear line for whatever is wrong with the model in `folder`, which is to be written as `path`."""
    if not (folder / "config.json").is_file():
        raise JaegptError(f"{folder}: no trained model yet. Run `dvc repro`.")
    check_model_folder(folder)
    try:
        yield
    except JaegptError:
        raise
    except Exception as error:  # whatever the libraries trip over in a damaged folder
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise JaegptError(
            f"{folder} cannot be written as {path} ({why}). Where the model is of another version or half copied, run "
            "`dvc repro --force train`."
        ) from error


def read_config(folder: Path, path: Path) -> Any:
    """The configuration of a model that can be written as `path`.

    Raises:
        JaegptError: it is of a family, or has a tokenizer, that is not written here.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    reason = _unknown(config) or unknown_tokenizer(folder)
    if reason is not None:
        raise JaegptError(
            f"{folder}: {reason}, which this export does not write. llama.cpp's own converter writes most models: "
            f"python convert_hf_to_gguf.py {folder} --outfile {path}"
        )
    return config


def _export(folder: Path, path: Path, found: Path, precision: Precision) -> Path:
    config = read_config(folder, path)
    arch = _FAMILIES[config.model_type]
    with writing_file(path) as temporary:
        writer = GGUFWriter(temporary, MODEL_ARCH_NAMES[arch])
        writer.add_name("jaegpt")
        if licence := _licence(folder):
            writer.add_license(licence)
        writer.add_file_type(_FILE_TYPES[precision])
        _write_sampling(writer, handed_on(folder, found))
        _write_sizes(writer, config)
        write_tokenizer(writer, folder, Encoder(folder), config.vocab_size)
        for name, weight in _weights(folder, config, arch):
            _write_weight(writer, name, weight, precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _unknown(config: Any) -> str | None:
    """What of a model llama.cpp would compute in another way, or not at all; None where there is nothing."""
    if config.model_type not in _FAMILIES:
        return f"a model of the family {config.model_type}"
    for name, value in _ALWAYS[config.model_type].items():
        if getattr(config, name, value) != value:
            return f"a {config.model_type} with {name} {getattr(config, name)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in ("default", "llama3") or rope.get("partial_rotary_factor", 1) != 1:
        return f"a {config.model_type} with rope_parameters of the type {rope.get('rope_type')}"
    return None


def _licence(folder: Path) -> str | None:
    """The SPDX name of the licence that lies beside the weights; None of one that is not known by its first lines."""
    text = " ".join(" ".join(file.read_text("utf-8", "replace") for file in licence_files(folder)).split())[:2000]
    if "Apache License Version 2.0" in text:
        return "apache-2.0"
    return "mit" if "MIT License" in text else None


def licence_files(folder: Path) -> list[Path]:
    """The base model's licence, as it was copied with the tokenizer."""
    return sorted(folder.glob("LICEN[CS]E*"))


def _write_sampling(writer: GGUFWriter, settings: Mapping[str, Any]) -> None:
    """How to draw, from a generation_config.json. Where that says nothing, llama.cpp's own defaults hold."""
    if "do_sample" not in settings:
        return
    writer.add_sampling_temp(settings.get("temperature", 0.0))  # 0: the likeliest token
    writer.add_sampling_top_k(settings.get("top_k", 0))
    writer.add_sampling_top_p(settings.get("top_p", 1.0))
    writer.add_sampling_min_p(settings.get("min_p", 0.0))


def _write_sizes(writer: GGUFWriter, config: Any) -> None:
    """transformers gives every family's sizes under these names, whatever its config.json calls them."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    head = _head_size(config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _weights(folder: Path, config: Any, arch: MODEL_ARCH) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each weight in float32 under llama.cpp's name, and in its layout."""
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:  # numpy knows no bfloat16
            for name in sorted(file.keys()):
                weight = file.get_tensor(name).to(torch.float32).numpy()
                known = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if known is None:
                    raise JaegptError(f"{path}: {name} is no weight of a {config.model_type} that llama.cpp knows.")
                if config.model_type == "llama":
                    for projection, num_heads in heads.items():
                        if f".{projection}." in name:
                            weight = _interleave(weight, num_heads)
                if config.model_type == "gpt2" and ".c_" in name and weight.ndim == 2:
                    weight = weight.T  # GPT-2 keeps its matrices as [in, out]
                yield known, weight
    if getattr(config, "rope_parameters", None) and config.rope_parameters["rope_type"] == "llama3":
        yield "rope_freqs.weight", _slower(config)


def _slower(config: Any) -> np.ndarray[Any, Any]:
    """By how much Llama 3.1 turns each pair of a head more slowly than its rope_theta says: [head / 2]."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    slow, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    head = _head_size(config)
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    return (plain / slow.double()).float().numpy()


def _interleave(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours (0, 1), (2, 3), ... of a head,
    where transformers rotates (0, n/2), (1, n/2 + 1), ...: rows 0 1 2 3 become 0 2 1 3.
    """
    rows = len(weight)
    return weight.reshape(num_heads, 2, rows // num_heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _write_weight(writer: GGUFWriter, name: str, weight: np.ndarray[Any, Any], precision: Precision) -> None:
    # llama.cpp adds position embeddings to what is float32, and wants them so.
    if weight.ndim == 1 or name.startswith("position_embd"):
        writer.add_tensor(name, weight)
    elif precision == "q8_0" and weight.shape[-1] % _BLOCK == 0:
        writer.add_tensor(name, quantize(weight, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
    else:
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(weight, np.float16)
        if not np.isfinite(half).all():
            raise JaegptError(
                f"{name} holds numbers beyond 65,504, the largest of float16. llama.cpp's own converter writes "
                "bfloat16: convert_hf_to_gguf.py --outtype bf16."
            )
        writer.add_tensor(name, half)
