"""The encoder with tokenizers and templates in the shapes of other families, against the tokenizer's own encoding."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import encoding_reference
from test_encoding import CHATML, chat_folder, examples_table
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer

from jaegpt.dialogue.encode_table import encode_candidate, encode_examples, encode_history
from jaegpt.dialogue.encoding import Encoder, Turn

# What Qwen3 does: after the last question, an answer is shown with what was thought before it, be it nothing.
THINKING = (
    "{% set last = namespace(at=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.at = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > last.at %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content }}<|im_end|>{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# And SmolLM3: thoughts in every answer, a mode named in the system message.
MODES = (
    "{% set quiet = enable_thinking is defined and not enable_thinking %}<|im_start|>system\n"
    "{{ '/no_think' if quiet else '/think' }}<|im_end|>{{ '\n' }}"
    "{% set thought = '<think>\n\n</think>\n' if quiet else '' %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{{ thought }}{% endif %}"
    "{{ m.content }}<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + thought }}{% endif %}"
)
INST = (  # Llama 2
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}{% else %}"
    "{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CLOSED = INST.replace("' ' + m.content + ' ' +", "m.content +")  # Mistral v0.1
NAMED = (  # TinyLlama, Zephyr
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
COLON = (  # Vicuna
    "{% for m in messages %}{{ m.role | upper + ': ' + m.content + (eos_token if m.role == 'assistant' else ' ') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TURNS: list[Turn] = [(False, "hello there"), (True, "yes hello"), (False, "so")]
REPLY = "there you are"


def thinking_folder(tiny: Path, folder: Path, template: str) -> Path:
    """ChatML's tokens, and a pair for thoughts that is added but not special."""
    chat_folder(tiny, folder, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return folder


def legacy(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def metaspace(scheme: str) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)

    return change


PREFIXES = {"legacy": legacy, "first": metaspace("first"), "always": metaspace("always"), "never": metaspace("never")}


def sentencepiece_folder(folder: Path, prefix: str, template: str | None) -> Path:
    """A small tokenizer of Llama 2's kind: spaces are letters, and one is put before a text."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    PREFIXES[prefix](tokenizer)
    texts = [text for _, text in TURNS] + [REPLY, "USER: ASSISTANT: [INST] [/INST] <|user|>\n<|assistant|>\n x"]
    alphabet = sorted({letter for text in texts for letter in text} | {"▁"})
    trainer = BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet)
    space = " " if prefix == "never" else ""  # a prefix makes it; no token should reach over a word's beginning
    tokenizer.train_from_iterator([space + word for text in texts for word in text.split()] * 9, trainer)
    tokenizer.decoder = decoders.Metaspace()
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def row(encoder: Encoder) -> list[int]:
    """A training row, turn by turn; a table's and the chat's must be the same."""
    ids, roles = encoding_reference.history(encoder, TURNS)
    candidate = encoding_reference.candidate(encoder, REPLY)
    assert len(ids) == len(roles)
    assert (encode_history(encoder, TURNS), encode_candidate(encoder, REPLY)) == ((ids, roles), candidate)
    table = examples_table([{"history": TURNS, "reply": REPLY, "distractors": []}])
    encoded = encode_examples(table, encoder).to_pylist()[0]
    assert (encoded["history_ids"], encoded["history_roles"]) == (ids, roles)
    assert encoded["candidate_ids"] == [candidate]
    return [*ids, *candidate]


def rendered(encoder: Encoder, turns: list[Turn], prompt: bool = False) -> str:
    messages = [{"role": "assistant" if owner else "user", "content": text} for owner, text in turns]
    return encoder._render(messages, add_generation_prompt=prompt)


@pytest.mark.parametrize("template", [THINKING, MODES], ids=["qwen3", "smollm3"])
def test_no_room_is_left_for_a_thought(template: str, tiny: Path, tmp_path: Path) -> None:
    folder = thinking_folder(tiny, tmp_path, template)
    encoder = Encoder(folder)
    messages = [{"role": "assistant" if owner else "user", "content": text} for owner, text in [*TURNS, (True, REPLY)]]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = tokenizer.apply_chat_template(messages, enable_thinking=False, tokenize=True)["input_ids"]
    found = row(encoder)
    assert found == whole[: len(found)]
    assert encoder.decode(whole[len(found) :]) == "\n"
    prompt = encoder.decode(encode_history(encoder, TURNS)[0])
    assert "</think>" in prompt[-12:], "the thought is closed before the reply"
    assert prompt == rendered(encoder, TURNS, prompt=True)


def test_added_tokens_that_are_not_special_are_text_as_well(tiny: Path, tmp_path: Path) -> None:
    encoder = Encoder(thinking_folder(tiny, tmp_path, THINKING))
    think = {encoder.tokenizer.token_to_id(token) for token in ("<think>", "</think>")}
    text = "<think> hi </think>"
    (ids,) = encoder.tokenize([text])
    assert not encoder.controls & set(ids)
    assert encoder.decode(ids) == text
    assert think < encoder.controls
    assert sum(token in think for token in encode_history(encoder, [(False, text)])[0]) == 2, "the template's own"
    table = examples_table([{"history": [(False, text)], "reply": text, "distractors": []}])
    encoded = encode_examples(table, encoder).to_pylist()[0]
    assert encoded["history_ids"] == encode_history(encoder, [(False, text)])[0]
    assert encoded["candidate_ids"] == [encode_candidate(encoder, text)]


def test_an_added_word_that_the_model_makes_of_letters_stays_a_word(tiny: Path, tmp_path: Path) -> None:
    chat_folder(tiny, tmp_path, CHATML)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["ab"] = number = max(token["id"] for token in content["added_tokens"]) + 1
    content["model"]["merges"] = [["a", "b"]]
    content["added_tokens"].append({**content["added_tokens"][0], "id": number, "content": "ab", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    encoder = Encoder(tmp_path)
    assert encoder.tokenize(["ab"]) == [[number]]
    assert number not in encoder.controls


@pytest.mark.parametrize("kind", ["unigram", "merges"])
def test_control_tokens_that_the_model_itself_could_spell_stay_text(kind: str, tmp_path: Path) -> None:
    letters = ["▁", *"<s>/hi"]
    pieces = ["<unk>", "</s>", "</", *letters]
    if kind == "unigram":
        tokenizer = Tokenizer(Unigram([(piece, 0.0 if len(piece) > 1 else -2.0) for piece in pieces], unk_id=0))
    else:
        vocabulary = {piece: number for number, piece in enumerate([*pieces, "s>"])}
        merges = [("<", "/"), ("s", ">"), ("</", "s>")]
        tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    assert tokenizer.token_to_id("</s>") == 1
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
    encoder = Encoder(tmp_path)
    for text in ("</s>", "hi</s>hi"):
        (ids,) = encoder.tokenize([text])
        assert 1 not in ids
        assert encoder.tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text
    assert encode_candidate(encoder, "hi")[-1] == 1


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("template", [INST, CLOSED, NAMED, COLON], ids=["llama2", "mistral", "tinyllama", "vicuna"])
def test_a_row_is_the_tokenizers_own_encoding_of_the_whole_conversation(
    template: str, prefix: str, tmp_path: Path
) -> None:
    encoder = Encoder(sentencepiece_folder(tmp_path / "model", prefix, template))
    text = rendered(encoder, [*TURNS, (True, REPLY)])
    whole = encoder.tokenizer.encode(text, add_special_tokens=False)
    found = row(encoder)
    assert [encoder.tokenizer.id_to_token(token) for token in found] == whole.tokens[: len(found)]
    assert len(whole.ids) - len(found) <= 2, "what may follow is a line break"
    end = encoder.tokenizer.token_to_id("</s>")
    assert encoder.end_of_turn[-1] == end
    if template != INST:
        assert encoder.end_of_turn == (end,)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_without_a_template_a_history_begins_as_the_tokenizer_begins_a_text(prefix: str, tmp_path: Path) -> None:
    encoder = Encoder(sentencepiece_folder(tmp_path / "model", prefix, None))
    whole = encoder.tokenizer.encode("</s>".join([*(text for _, text in TURNS), REPLY]) + "</s>")
    assert whole.tokens[0] == "<s>"
    assert row(encoder) == whole.ids
    assert encode_history(encoder, [])[0] == whole.ids[:1]


def test_a_template_that_writes_the_beginning_itself_does_not_get_it_twice(tmp_path: Path) -> None:
    encoder = Encoder(sentencepiece_folder(tmp_path / "model", "first", "{{ bos_token }}" + NAMED))
    start = encoder.tokenizer.token_to_id("<s>")
    assert encode_history(encoder, TURNS)[0][0] == start
    assert encode_history(encoder, TURNS)[0].count(start) == 1


def test_tokens_that_take_the_space_after_them_are_met_as_they_are(tmp_path: Path) -> None:
    folder = sentencepiece_folder(tmp_path / "model", "legacy", NAMED)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))  # Phi-3's
    tokenizer.add_special_tokens([AddedToken(name, rstrip=True) for name in ("<|user|>", "<|assistant|>", "</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    encoder = Encoder(folder)
    text = rendered(encoder, [*TURNS, (True, REPLY)])
    found = row(encoder)
    assert found == encoder.tokenizer.encode(text, add_special_tokens=False).ids[: len(found)]
