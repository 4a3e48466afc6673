"""The fine-tuned model as a GGUF file, for llama.cpp and Ollama.

The families here are those whose every weight and number the tests compare, and that llama.cpp itself was seen to
compute alike (benchmarks/llama_cpp.py). For others there is llama.cpp's own converter, which the package `gguf` does
not carry.
"""

import jaegpt.environment  # noqa: F401

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from jaegpt.generation.model_export import drawing, handed_on
from jaegpt.generation.settings import FOUND
from jaegpt.model_files import check_model_folder

Precision = Literal["f16", "q8_0"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class _Family:
    """How llama.cpp computes the models of one `model_type`.

    Attributes:
        always: what it does whatever the file says, by the names in config.json; or how that follows from the rest.
        ropes: kinds of rotary positions that it knows.
        partial: whether it can rotate a part of each head.
        neighbours: whether it rotates the numbers (0, 1), (2, 3), ... of a head together, where transformers rotates
            (0, n/2), (1, n/2 + 1), ...
        windows: whether it keeps to the window that config.json gives to some layers.
        norm_offset: what the model adds to the weights of its norms, and llama.cpp does not.
    """

    arch: MODEL_ARCH
    always: Mapping[str, Any | Callable[[Any], Any]]
    ropes: tuple[str, ...] = ("default",)
    partial: bool = False
    neighbours: bool = False
    windows: bool = False
    norm_offset: float = 0.0


def _every(period: int, usual: Any, last: Any) -> Callable[[Any], list[Any]]:
    """What stands for each layer where every `period`-th is another: (4, 1, 0) -> 1 1 1 0 1 1 1 0 ..."""
    return lambda config: [usual if layer % period else last for layer in range(1, config.num_hidden_layers + 1)]


_FAMILIES = {
    "gpt2": _Family(
        MODEL_ARCH.GPT2,
        {
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        },
    ),
    "llama": _Family(
        MODEL_ARCH.LLAMA, {"hidden_act": "silu", "mlp_bias": False}, ropes=("default", "llama3"), neighbours=True
    ),
    "mistral": _Family(MODEL_ARCH.LLAMA, {"hidden_act": "silu"}, neighbours=True),
    "smollm3": _Family(
        MODEL_ARCH.SMOLLM3,
        {
            "hidden_act": "silu",
            "mlp_bias": False,
            "attention_bias": False,
            "use_sliding_window": False,
            "no_rope_layers": _every(4, 1, 0),
        },
        neighbours=True,
    ),
    "qwen2": _Family(MODEL_ARCH.QWEN2, {"hidden_act": "silu", "use_sliding_window": False}),
    "qwen3": _Family(MODEL_ARCH.QWEN3, {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False}),
    "phi3": _Family(
        MODEL_ARCH.PHI3, {"hidden_act": "silu", "head_dim": None}, ropes=("default", "longrope"), partial=True
    ),
    "gemma3_text": _Family(
        MODEL_ARCH.GEMMA3,
        {
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "use_bidirectional_attention": False,
            "query_pre_attn_scalar": lambda config: config.head_dim,
            "layer_types": _every(6, "sliding_attention", "full_attention"),
        },
        windows=True,
        norm_offset=1.0,
    ),
}
_LOCAL_THETA = 10_000.0  # of Gemma 3's layers with a window, for llama.cpp
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
    family = _FAMILIES[config.model_type]
    with writing_file(path) as temporary:
        writer = GGUFWriter(temporary, MODEL_ARCH_NAMES[family.arch])
        writer.add_name("jaegpt")
        if licence := _licence(folder):
            writer.add_license(licence)
        writer.add_file_type(_FILE_TYPES[precision])
        _write_sampling(writer, handed_on(folder, found))
        _write_sizes(writer, config)
        write_tokenizer(writer, folder, Encoder(folder), config.vocab_size)
        for name, weight in _weights(folder, config, family):
            _write_weight(writer, name, weight, precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _unknown(config: Any) -> str | None:
    """What of a model llama.cpp would compute in another way, or not at all; None where there is nothing."""
    family = _FAMILIES.get(config.model_type)
    if family is None:
        return f"a model of the family {config.model_type}"
    for name, value in family.always.items():
        wanted = value(config) if callable(value) else value
        if (getattr(config, name, wanted) or None) != (wanted or None):
            return f"a {config.model_type} with {name} {getattr(config, name)}"
    rope = _rope(config)
    if rope.get("rope_type", "default") not in family.ropes:
        return f"a {config.model_type} with rope_parameters of the type {rope.get('rope_type')}"
    if rope.get("partial_rotary_factor", 1) != 1 and not family.partial:
        return f"a {config.model_type} with partial_rotary_factor {rope.get('partial_rotary_factor')}"
    if _rope(config, "sliding_attention").get("rope_theta", _LOCAL_THETA) != _LOCAL_THETA and family.windows:
        return f"a {config.model_type} with another rope_theta than {_LOCAL_THETA:,} in layers with a window"
    return None


def _rope(config: Any, layers: str = "full_attention") -> dict[str, Any]:
    """How a model turns its heads by position; where layers of several kinds do it in their own ways, those of one."""
    rope = getattr(config, "rope_parameters", None) or {}
    return dict(rope.get(layers, rope))


def context_length(config: Any) -> int:
    """Tokens that a model reads as it was trained to, and llama.cpp computes as transformers does."""
    limits = [config.max_position_embeddings]
    # llama.cpp sees all tokens where it does not know of the window.
    if not _FAMILIES[config.model_type].windows and getattr(config, "use_sliding_window", True):
        limits.append(getattr(config, "sliding_window", None))
    if _rope(config).get("rope_type") == "longrope":  # from here on it turns heads in another way
        limits.append(_rope(config)["original_max_position_embeddings"])
    return min(limit for limit in limits if limit)


def _licence(folder: Path) -> str | None:
    """The SPDX name of the licence that lies beside the weights; None of one that is not known by its first lines."""
    text = " ".join(" ".join(file.read_text("utf-8", "replace") for file in licence_files(folder)).split())[:2000]
    if "Apache License Version 2.0" in text:
        return "apache-2.0"
    return "mit" if "MIT License" in text else None


def licence_files(folder: Path) -> list[Path]:
    """The base model's licence, as it was copied with the tokenizer."""
    return sorted(folder.glob("LICEN[CS]E*"))


def _write_sampling(writer: GGUFWriter, settings: dict[str, Any]) -> None:
    """How to draw, from a generation_config.json. Where that says nothing, llama.cpp's own defaults hold."""
    if said := drawing(settings):
        writer.add_sampling_temp(said["temperature"])
        writer.add_sampling_top_k(said["top_k"])
        writer.add_sampling_top_p(said["top_p"])
        writer.add_sampling_min_p(said["min_p"])


def _write_sizes(writer: GGUFWriter, config: Any) -> None:
    """transformers gives every family's sizes under these names, whatever its config.json calls them."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    rope = _rope(config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_rope_dimension_count(_rotated(config))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if _FAMILIES[config.model_type].windows:
        writer.add_sliding_window(config.sliding_window)
    if rope["rope_type"] == "longrope":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(_slower(config)[1])


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rotated(config: Any) -> int:
    """Numbers of a head that turn with the position."""
    return int(_head_size(config) * _rope(config).get("partial_rotary_factor", 1))


def _weights(folder: Path, config: Any, family: _Family) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each weight in float32 under llama.cpp's name, and in its layout."""
    names = get_tensor_name_map(family.arch, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:  # numpy knows no bfloat16
            for name in sorted(file.keys()):
                weight = file.get_tensor(name).to(torch.float32).numpy()
                known = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if known is None:
                    raise JaegptError(f"{path}: {name} is no weight of a {config.model_type} that llama.cpp knows.")
                projection = name.split(".")[-2]
                if family.neighbours and projection in heads:
                    weight = _interleave(weight, heads[projection])
                if name.endswith("norm.weight"):
                    weight = weight + np.float32(family.norm_offset)
                if config.model_type == "gpt2" and ".c_" in name and weight.ndim == 2:
                    weight = weight.T  # GPT-2 keeps its matrices as [in, out]
                yield known, weight
    match _rope(config).get("rope_type"):
        case "llama3":
            yield "rope_freqs.weight", _slower(config)[0]
        case "longrope":
            length = _rope(config)["original_max_position_embeddings"]
            yield "rope_factors_short.weight", _slower(config, length)[0]
            yield "rope_factors_long.weight", _slower(config, length + 1)[0]


def _slower(config: Any, length: int | None = None) -> tuple[np.ndarray[Any, Any], float]:
    """By how much each pair of a head turns more slowly than its rope_theta says, in a text of so many tokens:
    [rotated / 2]; and by what queries and keys are multiplied.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = _rope(config)
    slow, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"), seq_len=length)
    rotated = _rotated(config)
    plain = rope["rope_theta"] ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    return (plain / slow.double()).float().numpy(), factor


def _interleave(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key projection in the order of neighbours, see `_Family`: rows 0 1 2 3 become 0 2 1 3."""
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
