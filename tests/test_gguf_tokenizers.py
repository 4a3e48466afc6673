"""A GGUF file's tokenizer splits texts as the model's own does: by the right name, or by the right scores."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, TokenType
from helpers.chat_models import save_chat_base
from helpers.models import save_tiny
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.llama_cpp import CONTROLS, train_pieces
from jaegpt.errors import JaegptError
from jaegpt.generation.gguf import export_gguf
from jaegpt.model_files import read_json

# The patterns of these models' tokenizer.json, as they stand there.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN = LLAMA_3.replace("{1,3}", "")
PHI_4_MINI = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MISTRAL_NEMO = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "hahahaha so what, it's 2024",
    "  two  spaces\nand\n\n\nlines " + " " * 37,
    "ça va? 😀 שלום",
    "x",
    "<s> is no token",
]


def change_tokenizer(folder: Path, **parts: Any) -> Path:
    """The folder, with parts of its tokenizer.json in the place of those; `model` is what changes in the model."""
    content = read_json(folder / "tokenizer.json")
    content["model"] |= parts.pop("model", {})
    (folder / "tokenizer.json").write_text(json.dumps(content | parts), encoding="utf-8")
    return folder


def splitting(pattern: str, behaviour: str, whole: bool) -> dict[str, Any]:
    """The parts of a tokenizer.json that say how a text is split."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behaviour, "invert": behaviour == "Removed"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    sequence = {"type": "Sequence", "pretokenizers": [split, level]}
    return {"pre_tokenizer": sequence, "model": {"ignore_merges": whole}}


@pytest.mark.parametrize(
    ("pattern", "behaviour", "whole", "name"),
    [
        (LLAMA_3, "Isolated", True, "llama-bpe"),
        (LLAMA_3, "Isolated", False, "smaug-bpe"),
        (LLAMA_3, "Removed", False, "smaug-bpe"),
        (QWEN, "Isolated", False, "qwen2"),
        (PHI_4_MINI, "Removed", False, "gpt-4o"),
        (MISTRAL_NEMO, "Isolated", True, "tekken"),
        (QWEN, "Isolated", True, None),
        (LLAMA_3, "MergedWithNext", False, None),
        (r"\w+|\s+", "Isolated", False, None),
    ],
)
def test_a_splitting_is_known_by_llama_cpps_name(
    pattern: str, behaviour: str, whole: bool, name: str | None, tmp_path: Path
) -> None:
    folder = change_tokenizer(save_tiny(tmp_path / "tiny"), **splitting(pattern, behaviour, whole))
    if name is None:
        with pytest.raises(JaegptError, match=r"splits texts in a way \(pre_tokenizer\), which"):
            export_gguf(folder, tmp_path / "model.gguf")
        return
    fields = GGUFReader(export_gguf(folder, tmp_path / "model.gguf")).fields
    assert fields["tokenizer.ggml.pre"].contents() == name
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"


def test_white_space_that_control_tokens_swallow_is_refused_where_it_stands(tmp_path: Path) -> None:
    folder = save_chat_base(tmp_path / "chat", save_tiny(tmp_path / "tiny"))  # writes "<|im_end|>" and a line break
    added = read_json(folder / "tokenizer.json")["added_tokens"]
    for name, refused in (("<|im_end|>", True), ("<|im_start|>", False)):
        change_tokenizer(folder, added_tokens=[each | {"rstrip": each["content"] == name} for each in added])
        if refused:
            with pytest.raises(JaegptError, match=r"drops white space of the chat template \(added_tokens\), which"):
                export_gguf(folder, tmp_path / "model.gguf")
        else:
            assert export_gguf(folder, tmp_path / "model.gguf").is_file()


@pytest.mark.parametrize("pattern", [LLAMA_3, QWEN, PHI_4_MINI, MISTRAL_NEMO])
def test_removing_what_lies_between_matches_removes_nothing(pattern: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "tiny")
    splits = []
    for behaviour in ("Isolated", "Removed"):
        change_tokenizer(folder, **splitting(pattern, behaviour, False))
        before = Tokenizer.from_file(str(folder / "tokenizer.json")).pre_tokenizer
        splits.append([before.pre_tokenize_str(text) for text in TEXTS])
    assert splits[0] == splits[1]
    assert sum(map(len, splits[0])) > 2 * len(TEXTS)


def save_pieces(folder: Path, prefix: bool) -> Path:
    """A small Llama with a tokenizer of SentencePiece's kind."""
    tokenizer = train_pieces(prefix, [*TEXTS[:2], "haha", "what what", "so so it's", "hahaha"] * 3)
    names = dict(zip(("unk_token", "bos_token", "eos_token"), CONTROLS, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size() + 2, **sizes)
    AutoModelForCausalLM.from_config(config, trust_remote_code=False).save_pretrained(folder)
    return folder


def joined(text: str, tokens: list[str], scores: list[float]) -> list[int]:
    """SentencePiece's way, and llama.cpp's: join the neighbours that make the piece of the highest score."""
    numbers = {token: number for number, token in enumerate(tokens)}
    pieces = list(text.replace(" ", "\u2581"))
    while made := [
        (scores[numbers[left + right]], -place)
        for place, (left, right) in enumerate(itertools.pairwise(pieces))
        if left + right in numbers
    ]:
        place = -max(made)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    bytes_of = [[piece] if piece in numbers else [f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces]
    return [numbers[token] for each in bytes_of for token in each]


@pytest.mark.parametrize("prefix", [False, True])
def test_pieces_are_joined_by_score_as_by_merges(prefix: bool, tmp_path: Path) -> None:
    folder = save_pieces(tmp_path / "model", prefix)
    fields = GGUFReader(export_gguf(folder, tmp_path / "model.gguf")).fields
    said = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in fields.items()}
    assert (said["model"], said["pre"], said["add_space_prefix"], said["add_bos_token"]) == (
        "llama", "default", prefix, False,
    )  # fmt: skip
    tokens, scores, kinds = said["tokens"], said["scores"], said["token_type"]
    assert len(tokens) == len(scores) == len(kinds)
    assert [kinds[number] for number in (0, 2, 3, 258, 259)] == [
        TokenType.CONTROL, TokenType.CONTROL, TokenType.BYTE, TokenType.BYTE, TokenType.NORMAL,
    ]  # fmt: skip
    assert kinds[-2:] == [TokenType.UNUSED] * 2
    assert (said["unknown_token_id"], said["bos_token_id"], said["eos_token_id"]) == (0, 1, 2)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS[:-1]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert joined(" " * prefix + text, tokens, scores) == ids, text
    longest = max(tokenizer.encode("hahaha so", add_special_tokens=False).tokens, key=len)
    assert "hahaha" in longest, "pieces of more than two characters are made"


def test_pieces_that_scores_cannot_order_are_refused(tmp_path: Path) -> None:
    folder = save_pieces(tmp_path / "model", prefix=False)
    merges = read_json(folder / "tokenizer.json")["model"]["merges"]
    several = next(place for place in range(len(merges)) if "".join(merges[place]) == "".join(merges[place + 1]))
    for changed in (
        merges[:several] + merges[several + 1 :],  # two pieces that are not joined
        [merges[several], *merges[:several], *merges[several + 1 :]],  # one piece, sooner and later
    ):
        change_tokenizer(folder, model={"merges": changed})
        with pytest.raises(JaegptError, match=r"joins pieces in an order \(merges\), which"):
            export_gguf(folder, tmp_path / "model.gguf")
