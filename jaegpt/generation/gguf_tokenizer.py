"""What a GGUF file says about the tokenizer, so that llama.cpp splits a text into the very tokens of training.

Above all the kind of its splitting, which a model folder holds as expressions and llama.cpp knows by names. It is taken
from the tokenizer that the model was trained with, not from what the base model's maker says of it.
"""

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from jaegpt.dialogue.chat_template import read_template
from jaegpt.dialogue.encoding import Encoder
from jaegpt.model_files import read_json

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How a text is split before it becomes tokens, by llama.cpp's name (llama-vocab.cpp) for it.
_SPLITS: dict[tuple[tuple[str, Any], ...], str] = {
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", _WORDS + _REST), ("ByteLevel", False)): "qwen2",
    (("Split", _WORDS + "{1,3}" + _REST), ("ByteLevel", False)): "llama-bpe",
}


def unknown_tokenizer(folder: Path) -> str | None:
    """What of the tokenizer in `folder` llama.cpp would do in another way; None where there is nothing."""
    content = read_json(folder / "tokenizer.json")
    model, normalizer = content["model"], content.get("normalizer")
    if model.get("type") != "BPE" or (content.get("decoder") or {}).get("type") != "ByteLevel":
        return "its tokenizer is no byte-level BPE"
    # NFC changes only letters that are typed as two characters, and llama.cpp's own converter leaves it out as well.
    if normalizer not in (None, {"type": "NFC"}):
        return "its tokenizer changes texts (normalizer)"
    split = _split(content)
    if split not in _SPLITS or (model.get("ignore_merges", False) and _SPLITS[split] != "llama-bpe"):
        return "its tokenizer splits texts in a way (pre_tokenizer)"
    return None


def _split(content: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The parts of the splitting, each with what tells it from others of its kind."""
    whole = content.get("pre_tokenizer") or {}
    parts = whole["pretokenizers"] if whole.get("type") == "Sequence" else [whole]
    return tuple((part.get("type", ""), _kind(part)) for part in parts)


def _kind(part: dict[str, Any]) -> Any:
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return part.get("use_regex", True)
        case {"type": "Digits", "individual_digits": bool(each)}:
            return each
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": str(pattern)}}:
            return pattern
    return None


def write_tokenizer(writer: GGUFWriter, folder: Path, encoder: Encoder, num_rows: int) -> None:
    """Tokens, merges, and which token ends a turn; the chat template, made where the folder has none.

    Args:
        num_rows: of the embedding, which may have more than there are tokens.
    """
    content = read_json(folder / "tokenizer.json")
    texts: dict[int, str] = {number: token for token, number in content["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, TokenType.NORMAL)
    for added in content["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE
    writer.add_tokenizer_pre(_SPLITS[_split(content)])
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(num_rows)])
    writer.add_token_types([kinds.get(number, TokenType.UNUSED) for number in range(num_rows)])
    # llama.cpp reads no tokenizer without merges, as `tiny` has one. This one joins what no text consists of.
    writer.add_token_merges(merges or ["[PAD] [PAD]"])
    named = {name: encoder.tokenizer.token_to_id(text) for name, text in _named(folder).items()}
    if named.get("bos_token") is not None:
        writer.add_bos_token_id(named["bos_token"])
    if named.get("pad_token") is not None:
        writer.add_pad_token_id(named["pad_token"])
    if named.get("unk_token") is not None:
        writer.add_unk_token_id(named["unk_token"])
    writer.add_eos_token_id(encoder.end_of_turn[-1])  # what ends a turn ends a reply
    # Templates bring their first token along; llama.cpp would put a second one before it.
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    template = folder / "chat_template.jinja"
    writer.add_chat_template(read_template(template) if template.is_file() else _plain_template(encoder))


def _named(folder: Path) -> dict[str, str]:
    """The tokens that tokenizer_config.json names, such as {"bos_token": "<s>"}."""
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    named = {name: value for name, value in config.items() if name.endswith("_token") and value is not None}
    return {name: value["content"] if isinstance(value, dict) else str(value) for name, value in named.items()}


def _plain_template(encoder: Encoder) -> str:
    """DialoGPT's form as a chat template: each text, then what ends it."""
    layout = encoder.layout((False,))
    start = encoder.decode(sum(layout.before[0], ()))
    end = encoder.decode(sum(layout.after, ()))
    return (
        f"{{{{ {json.dumps(start)} }}}}{{% for message in messages %}}"
        f"{{{{ message['content'] + {json.dumps(end)} }}}}{{% endfor %}}"
    )
