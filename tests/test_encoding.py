"""The one encoder: template and plain form, turns that spell control tokens, and rows equal to single calls."""

from pathlib import Path

import pyarrow as pa
import pytest
from helpers import encoding_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Sequence
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer

from jaegpt.dialogue import chat_template, pieces, text_tokens
from jaegpt.dialogue.encode_table import encode_candidate, encode_examples, encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALTERNATING = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('must start with user') }}{% endif %}" + CHATML
TURNS = [(False, "hey"), (False, "you there?"), (True, "yes <|im_end|> é"), (False, "good")]


def chat_folder(tiny: Path, folder: Path, template: str) -> Path:
    """The tiny tokenizer with ChatML's control tokens and a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def plain(tiny: Path) -> Encoder:
    return Encoder(tiny)


@pytest.fixture
def chat(tiny: Path, tmp_path: Path) -> Encoder:
    return Encoder(chat_folder(tiny, tmp_path, CHATML))


def test_the_plain_form_ends_each_turn_with_the_end_of_text_token(plain: Encoder) -> None:
    ids, roles = encode_history(plain, TURNS)
    end = "<|endoftext|>"
    assert plain.decode(ids) == f"hey you there?{end}yes <|im_end|> é{end}good{end}"
    first, second = len("hey you there?") + 1, len("yes <|im_end|> é".encode()) + 1
    assert roles == [0] * first + [1] * second + [0] * 5
    assert ids.count(plain.tokenizer.token_to_id("<|endoftext|>")) == 3
    assert encode_candidate(plain, "ok")[-1] == plain.tokenizer.token_to_id("<|endoftext|>")


def test_the_chat_template_makes_the_owner_the_assistant(chat: Encoder) -> None:
    ids, roles = encode_history(chat, TURNS)
    assert chat.decode(ids) == (
        "<|im_start|>user\nhey you there?<|im_end|>\n<|im_start|>assistant\nyes <|im_end|> é<|im_end|>\n"
        "<|im_start|>user\ngood<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(ids) == len(roles)
    start, end = map(chat.tokenizer.token_to_id, ("<|im_start|>", "<|im_end|>"))
    assert (ids.count(start), ids.count(end)) == (4, 3), "what a person wrote never becomes a control token"
    assert encode_candidate(chat, "ok") == [*chat.tokenize(["ok"])[0], end]


def test_a_trained_row_is_what_transformers_would_render(chat: Encoder, tmp_path: Path) -> None:
    """History and reply, end to end, are the template's own rendering of the conversation, up to the reply's end."""
    turns = [(False, "hey"), (True, "yes?"), (False, "good")]
    messages = [{"role": "assistant" if owner else "user", "content": text} for owner, text in turns]
    messages.append({"role": "assistant", "content": "fine"})
    whole = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(messages, tokenize=True)["input_ids"]
    row = encode_history(chat, turns)[0] + encode_candidate(chat, "fine")
    assert row == whole[: len(row)]
    assert chat.decode(whole[len(row) :]) == "\n"


TEMPLATES = {
    "chatml": CHATML,
    "alternating": ALTERNATING,
    "tokens": "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}: {{ m.content | trim }}{{ eos_token }}"
    "{% endfor %}",
    "blocks": "{% for m in messages %}\n    {% if loop.index > 2 %}{% break %}{% endif %}\n  {{ m.content }}\n"
    "{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson }}{{ [m.role, 'é<'] | tojson(indent=2) }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0, d=dict(a=1)) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}"
    "{{ ns.d.a }}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}",
    "absent": "{% if tools is none and documents is none and not x is defined %}{{ messages[-1].content }}{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_transformers_renders_them(name: str, tiny: Path, tmp_path: Path) -> None:
    encoder = Encoder(chat_folder(tiny, tmp_path, CHATML))
    encoder.template = chat_template.compiled(TEMPLATES[name])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = TEMPLATES[name]
    messages = [{"role": role, "content": f" {role} é<b> "} for role in ("user", "assistant", "user")]
    for prompt in (True, False):
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert expected
        assert encoder._render(messages, add_generation_prompt=prompt) == expected


@pytest.mark.parametrize(
    "template", ["{% for m in messages %}", "{{ messages[0].__class__.__mro__ }}", "{{ 1 + 'a' }}"]
)
def test_a_template_that_cannot_be_used_is_a_clear_error(template: str, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match="chat template"):
        encode_history(Encoder(chat_folder(tiny, tmp_path, template)), [(False, "hey")])


LETTERS = "ab 1'!s\n\t\u00a0\u3000\x85\0é안😂"
TEXTS = st.one_of(st.text(alphabet=LETTERS, max_size=12), st.sampled_from(["<|im_end|>", "a <|endoftext|>"]))


@pytest.fixture(scope="module")
def merging() -> Encoder:
    """The tiny tokenizer's like, but with merges, learnt from texts in which spaces run on."""
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = ByteLevel(add_prefix_space=False)
    texts = ["a b  ab   ab 's !! a!b a\n\nb  \n  s's 11 1 ab1 aa bb", "é 안 😂😂 ab ab ab"] * 50
    trainer = BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=ByteLevel.alphabet())
    trained.train_from_iterator(texts, trainer)
    encoder = Encoder.__new__(Encoder)
    encoder.texts = text_tokens.text_tokenizer(trained)
    encoder.splits_at_spaces = text_tokens.splits_at_spaces(encoder.texts)
    return encoder


@settings(max_examples=400, deadline=None)
@given(texts=st.lists(TEXTS, max_size=12))
def test_words_encoded_one_by_one_give_the_tokens_of_the_text(merging: Encoder, texts: list[str]) -> None:
    assert merging.splits_at_spaces
    found = pieces.tokenized(pa.array(texts, pa.string()), merging)
    expected = merging.tokenize(texts)
    assert found.lengths.tolist() == list(map(len, expected))
    assert found.flat.tolist() == [token for row in expected for token in row]


def test_words_are_taken_apart_only_where_tokens_end_at_spaces(plain: Encoder) -> None:
    content = plain.tokenizer.to_str()
    same, prefixed = Tokenizer.from_str(content), Tokenizer.from_str(content)
    same.add_tokens(["a b"])
    prefixed.pre_tokenizer = ByteLevel(add_prefix_space=True)
    assert all(text_tokens.splits_at_spaces(text_tokens.text_tokenizer(each)) for each in (same, prefixed))
    others = [Tokenizer.from_str(content) for _ in range(4)]
    others[0].pre_tokenizer = Metaspace()
    others[1].pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    others[2].pre_tokenizer = Sequence([ByteLevel(add_prefix_space=False)])
    others[3].normalizer = NFC()
    assert not any(text_tokens.splits_at_spaces(text_tokens.text_tokenizer(each)) for each in others)


def examples_table(rows: list[dict]) -> pa.Table:
    """A part of `examples` with these histories, replies and distractors."""
    count = len(rows)
    return pa.table(
        {
            "example_id": [str(index) for index in range(count)],
            "thread_id": ["t"] * count,
            "session_index": list(range(count)),
            "split": ["train", "valid", "train"][:count],
            "replied_at": list(range(count)),
            "history": [[{"is_owner": owner, "text": text} for owner, text in row["history"]] for row in rows],
            "reply": [row["reply"] for row in rows],
            "distractors": [row["distractors"] for row in rows],
        },
        schema=SCHEMAS["examples"],
    )


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_columns_are_encoded_as_turns_one_by_one(form: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(form)
    rows = [
        {"history": TURNS, "reply": "sure", "distractors": ["no", "good", ""]},
        {"history": TURNS[-1:], "reply": "<|endoftext|>", "distractors": []},
        {"history": [*TURNS[2:], (False, "and?")], "reply": "good", "distractors": ["yes <|im_end|> é"]},
    ]
    table = examples_table(rows)
    encoded = encode_examples(table, encoder).to_pylist()
    assert len(encoded) == 3
    for found, row in zip(encoded, rows, strict=True):
        ids, roles = encoding_reference.history(encoder, row["history"])
        assert found["history_ids"] == ids
        assert found["history_roles"] == roles
        texts = [*row["distractors"], row["reply"]]
        assert found["candidate_ids"] == [encoding_reference.candidate(encoder, text) for text in texts]
        assert encode_history(encoder, row["history"]) == (ids, roles), "the chat's way, which is the same"
        assert [encode_candidate(encoder, text) for text in texts] == found["candidate_ids"]
    assert [row["split"] for row in encoded] == ["train", "valid", "train"]
    assert encode_examples(table.slice(0, 0), encoder).num_rows == 0


def test_a_template_that_must_begin_with_the_other_side_leaves_the_owners_first_turn_out(
    tiny: Path, tmp_path: Path
) -> None:
    encoder = Encoder(chat_folder(tiny, tmp_path, ALTERNATING))
    turns = [(True, "me first"), (False, "hey"), (True, "yes"), (False, "so?")]
    assert encode_history(encoder, turns) == encode_history(encoder, turns[1:])
    table = examples_table([{"history": turns, "reply": "ok", "distractors": ["no"]}])
    assert encode_examples(table, encoder)["history_ids"].to_pylist() == [encode_history(encoder, turns)[0]]


def test_a_template_that_refuses_is_a_clear_error(tiny: Path, tmp_path: Path) -> None:
    encoder = Encoder(chat_folder(tiny, tmp_path, ALTERNATING))
    with pytest.raises(JaegptError, match="refuses the roles assistant"):
        encode_history(encoder, [(True, "me first")])
    for template, why in (("| upper }}", "changes or hides"), ("* 2 }}", "text twice")):
        shout = (
            CHATML.replace("m['content'] + ", "")
            + "{% for m in messages %}{{ m['content'] "
            + template
            + "{% endfor %}"
        )
        with pytest.raises(JaegptError, match=f"chat template .*{why}.* Choose another"):
            encode_history(Encoder(chat_folder(tiny, tmp_path, shout)), [(False, "hey")])


def test_a_template_with_todays_date_does_not_depend_on_the_day(tiny: Path, tmp_path: Path) -> None:
    encoder = Encoder(chat_folder(tiny, tmp_path, "{{ strftime_now('%d %b %Y') }}" + CHATML))
    assert encoder.decode(encode_history(encoder, [(False, "hey")])[0]).startswith("01 Jan 2024")


def test_the_templates_own_tokens_are_at_hand(tiny: Path, tmp_path: Path) -> None:
    encoder = Encoder(chat_folder(tiny, tmp_path, "{{ bos_token }}" + CHATML))
    assert encoder.decode(encode_history(encoder, [(False, "hey")])[0]).startswith("<|endoftext|><|im_start|>user")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match=r"no tokenizer.json here. Run `dvc repro`"):
        Encoder(tmp_path)
