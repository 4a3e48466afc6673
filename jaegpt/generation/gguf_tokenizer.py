"""What a GGUF file says about the tokenizer, so that llama.cpp splits a text into the very tokens of training.

Above all the kind of its splitting, which a model folder holds as expressions and llama.cpp knows by names. It is taken
from the tokenizer that the model was trained with, not from what the base model's maker says of it.
"""

import itertools
import json
import re
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer

from jaegpt.dialogue.chat_template import compiled, read_template, render
from jaegpt.dialogue.encoding import Encoder
from jaegpt.model_files import read_json

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Words that end where a capital follows a small letter.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CAMEL = [rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"]
_SLASH = _REST.replace(r"+[\r\n]*", r"+[\r\n/]*", 1)
_BYTES = ("ByteLevel", False)
# How a text is split before it becomes tokens, and whether a whole part that is a token stays whole whatever the
# merges say: by llama.cpp's name (llama-vocab.cpp) for it.
SPLITS: dict[tuple[tuple[tuple[str, Any], ...], bool], str] = {
    ((("ByteLevel", True),), False): "gpt-2",
    ((("Digits", True), ("ByteLevel", True)), False): "smollm",
    ((("Split", _WORDS + _REST), _BYTES), False): "qwen2",
    ((("Split", _WORDS + "{1,3}" + _REST), _BYTES), False): "smaug-bpe",
    ((("Split", _WORDS + "{1,3}" + _REST), _BYTES), True): "llama-bpe",
    ((("Split", "|".join([*_CAMEL, r"\p{N}"]) + _SLASH), _BYTES), True): "tekken",
    ((("Split", "|".join([*(f"{word}{_SHORT}" for word in _CAMEL), r"\p{N}{1,3}"]) + _SLASH), _BYTES), False): "gpt-4o",
}
# SentencePiece's: spaces become this, and a text is not split before.
SPACE = "\u2581"
_TO_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# Gemma's, which finds no space left.
_AT_SPACE = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_PREFIX = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, _TO_SPACE]}


def unknown_tokenizer(folder: Path) -> str | None:
    """What of the tokenizer in `folder` llama.cpp would do in another way; None where there is nothing."""
    content = read_json(folder / "tokenizer.json")
    model, normalizer = content["model"], content.get("normalizer")
    if _strips(folder, content):
        return "its tokenizer drops white space of the chat template (added_tokens)"
    if _is_sentencepiece(content):
        return None if _is_by_piece(model) else "its tokenizer joins pieces in an order (merges)"
    if model.get("type") != "BPE" or (content.get("decoder") or {}).get("type") != "ByteLevel":
        return "its tokenizer is no byte-level BPE"
    # NFC changes only letters that are typed as two characters, and llama.cpp's own converter leaves it out as well.
    if normalizer not in (None, {"type": "NFC"}):
        return "its tokenizer changes texts (normalizer)"
    if _split(content) not in SPLITS:
        return "its tokenizer splits texts in a way (pre_tokenizer)"
    return None


def _strips(folder: Path, content: dict[str, Any]) -> bool:
    """Whether control tokens swallow white space beside them, as Phi-3's do, that llama.cpp would read."""
    template = folder / "chat_template.jinja"
    plain = [added | {"lstrip": False, "rstrip": False} for added in content["added_tokens"]]
    if plain == content["added_tokens"] or not template.is_file():
        return False
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    text = render(compiled(read_template(template)), messages, True, _named(folder))
    ways = (content, content | {"added_tokens": plain})
    ids = [Tokenizer.from_str(json.dumps(way)).encode(text, add_special_tokens=False).ids for way in ways]
    return ids[0] != ids[1]


def _is_sentencepiece(content: dict[str, Any]) -> bool:
    """Whether it is a BPE of characters, with bytes for those it does not know, as SentencePiece makes."""
    model = content["model"]
    return (
        model.get("type") == "BPE"
        and model.get("byte_fallback", False)
        and not model.get("ignore_merges", False)
        and content.get("normalizer") in (_TO_SPACE, _PREFIX)
        and content.get("pre_tokenizer") in (None, _AT_SPACE)
    )


def _is_by_piece(model: dict[str, Any]) -> bool:
    """Whether the order of merges is one of the pieces that they make, as llama.cpp knows it: all that make a piece
    stand together, and every two pieces that make one are joined.

    Gemma's runs of one character stand all together, the longest first: both ways make one piece of a run.
    """
    pairs = _pairs(model)
    made = [left + right for left, right in pairs]
    together = [set(group) for _, group in itertools.groupby(made, lambda piece: piece if len(set(piece)) > 1 else "")]
    known, vocab = set(pairs), model["vocab"]
    return sum(map(len, together)) == len(set(made)) and all(
        (piece[:cut], piece[cut:]) in known
        for piece in set(made)
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    )


def _pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges, which older files write as one string each."""
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return [(left, right) for left, right in pairs]


def _split(content: dict[str, Any]) -> tuple[tuple[tuple[str, Any], ...], bool]:
    """A key of SPLITS: the parts of the splitting, each with what tells it from others of its kind."""
    whole = content.get("pre_tokenizer") or {}
    parts = whole["pretokenizers"] if whole.get("type") == "Sequence" else [whole]
    return tuple((part.get("type", ""), _kind(part)) for part in parts), content["model"].get("ignore_merges", False)


def _kind(part: dict[str, Any]) -> Any:
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return part.get("use_regex", True)
        case {"type": "Digits", "individual_digits": bool(each)}:
            return each
        # The patterns match everything, so leaving out what lies between the matches leaves out nothing.
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": str(pattern)}} | {
            "type": "Split",
            "behavior": "Removed",
            "invert": True,
            "pattern": {"Regex": str(pattern)},
        }:
            return pattern
    return None


def write_tokenizer(writer: GGUFWriter, folder: Path, encoder: Encoder, num_rows: int) -> None:
    """Tokens, merges, and which token ends a turn; the chat template, made where the folder has none.

    Args:
        num_rows: of the embedding, which may have more than there are tokens.
    """
    content = read_json(folder / "tokenizer.json")
    model, pieces = content["model"], _is_sentencepiece(content)
    texts: dict[int, str] = {number: token for token, number in model["vocab"].items()}
    kinds = {
        number: TokenType.BYTE if pieces and re.fullmatch("<0x[0-9A-F]{2}>", token) else TokenType.NORMAL
        for number, token in texts.items()
    }
    for added in content["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    writer.add_tokenizer_model("llama" if pieces else "gpt2")  # llama.cpp's names for SentencePiece, and bytes
    writer.add_tokenizer_pre("default" if pieces else SPLITS[_split(content)])
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(num_rows)])
    writer.add_token_types([kinds.get(number, TokenType.UNUSED) for number in range(num_rows)])
    if pieces:  # the sooner a piece is made, the higher its score
        made = dict.fromkeys(left + right for left, right in _pairs(model))
        scores = {model["vocab"][piece]: -float(rank) for rank, piece in enumerate(made)}
        writer.add_token_scores([scores.get(number, 0.0) for number in range(num_rows)])
    else:
        # llama.cpp reads no tokenizer without merges, as `tiny` has one. This one joins what no text consists of.
        writer.add_token_merges([" ".join(pair) for pair in _pairs(model)] or ["[PAD] [PAD]"])
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
    writer.add_add_space_prefix(content.get("normalizer") == _PREFIX)
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
