"""Tokenizers for what people wrote: copies of a model's own in which no text becomes a control token.

A tokenizer finds its added tokens (`<|im_end|>`, `<think>`) in any text before its model sees it. So a text is given to
a copy without them. And many put a space before whatever they are given, as if it were a whole text. Here texts
stand inside a conversation, so the copy adds none, and the encoder says where there is one.
"""

import hashlib
import json
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE


def text_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that has no added tokens, and puts no space before a text."""
    around = json.loads(Tokenizer(BPE()).to_str())  # the vocabulary may be large, so it is not written out
    for name in ("normalizer", "pre_tokenizer"):
        around[name] = _without_prefix(_state(getattr(tokenizer, name)))
    parts = Tokenizer.from_str(json.dumps(around))
    copy = Tokenizer(tokenizer.model)
    if parts.normalizer is not None:
        copy.normalizer = parts.normalizer
    if parts.pre_tokenizer is not None:
        copy.pre_tokenizer = parts.pre_tokenizer
    # SentencePiece models hold special tokens in their own vocabulary, where a text would reach them all the same.
    added = tokenizer.get_added_tokens_decoder()
    special = {number: token.content for number, token in added.items() if token.special}
    spelled = _encoded(copy, list(special.values()))
    reachable = {text for (number, text), ids in zip(special.items(), spelled, strict=True) if ids == [number]}
    return _unspellable(copy, reachable) if reachable else copy


def control_tokens(tokenizer: Tokenizer, texts: Tokenizer) -> frozenset[int]:
    """The tokens that no text becomes: added ones, but for those ("\\n\\n" in some) that plain text gives too.

    Args:
        texts: the tokenizer's `text_tokenizer`.
    """
    added = tokenizer.get_added_tokens_decoder()
    spelled = _encoded(texts, [token.content for token in added.values()])
    return frozenset(number for number, ids in zip(added, spelled, strict=True) if ids != [number])


def leading_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer itself puts before a text, such as Llama's <|begin_of_text|>; for most of GPT-2's kind: ()."""
    bare = tokenizer.encode("x", add_special_tokens=False).ids
    whole = tokenizer.encode("x", add_special_tokens=True).ids
    starts = [start for start in range(len(whole)) if whole[start : start + len(bare)] == bare]
    return tuple(whole[: starts[0]]) if starts else ()


def splits_at_spaces(texts: Tokenizer) -> bool:
    """Whether a token never reaches over a single space between two other characters, so that words can be encoded
    one by one: "so what" = "so" + " what". It is so where text is first split as GPT-2 splits it, and nothing before
    or after looks further.

    Args:
        texts: a `text_tokenizer`.
    """
    split = _state(texts.pre_tokenizer) or {}
    return split.get("type") == "ByteLevel" and split["use_regex"] and texts.normalizer is None


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoded.ids for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _state(part: Any) -> dict[str, Any] | None:
    """What a part of a tokenizer is made of, as tokenizer.json writes it."""
    return None if part is None else json.loads(part.__getstate__())


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that puts nothing before a text; None where nothing remains of it."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return {**part, "add_prefix_space": False}
    if part["type"] == "Sequence":
        name = "normalizers" if "normalizers" in part else "pretokenizers"
        return {**part, name: [kept for each in part[name] if (kept := _without_prefix(each)) is not None]}
    return part


def _unspellable(tokenizer: Tokenizer, names: set[str]) -> Tokenizer:
    """A tokenizer whose model holds some of its special tokens (SentencePiece's do) under names that nobody writes."""
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    hidden = {name: "\0" + hashlib.sha256(name.encode()).hexdigest() for name in names}
    if isinstance(model["vocab"], list):  # Unigram: [piece, score]
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden.get(piece, piece): number for piece, number in model["vocab"].items()}
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    if model.get("merges"):
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & names]
    return Tokenizer.from_str(json.dumps(content))
