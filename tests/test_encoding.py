"""The one encoder: template and plain form, turns that spell control tokens, and rows equal to single calls."""

from pathlib import Path

import pyarrow as pa
import pytest
from models import save_tiny

from jaegpt.base_model import load_tokenizer
from jaegpt.dialogue.encoding import Encoder, encode_examples
from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALTERNATING = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('must start with user') }}{% endif %}" + CHATML
TURNS = [(False, "hey"), (False, "you there?"), (True, "yes <|im_end|> é"), (False, "good")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def plain(tiny: Path) -> Encoder:
    return Encoder(load_tokenizer(tiny))


@pytest.fixture
def chat(tiny: Path) -> Encoder:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return Encoder(tokenizer)


def test_the_plain_form_ends_each_turn_with_the_end_of_text_token(plain: Encoder) -> None:
    ids, roles = plain.history(TURNS)
    end = "<|endoftext|>"
    assert plain.tokenizer.decode(ids) == f"hey you there?{end}yes <|im_end|> é{end}good{end}"
    first, second = len("hey you there?") + 1, len("yes <|im_end|> é".encode()) + 1
    assert roles == [0] * first + [1] * second + [0] * 5
    assert ids.count(plain.tokenizer.eos_token_id) == 3
    assert plain.candidate("ok")[-1] == plain.tokenizer.eos_token_id


def test_the_chat_template_makes_the_owner_the_assistant(chat: Encoder) -> None:
    ids, roles = chat.history(TURNS)
    assert chat.tokenizer.decode(ids) == (
        "<|im_start|>user\nhey you there?<|im_end|>\n<|im_start|>assistant\nyes <|im_end|> é<|im_end|>\n"
        "<|im_start|>user\ngood<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(ids) == len(roles)
    start, end = chat.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (4, 3), "what a person wrote never becomes a control token"
    assert chat.candidate("ok") == [*chat.tokenize(["ok"])[0], end]


def test_a_trained_row_is_what_the_template_would_render(chat: Encoder) -> None:
    """History and reply, end to end, are the template's own rendering of the conversation, up to the reply's end."""
    turns = [(False, "hey"), (True, "yes?"), (False, "good")]
    messages = [{"role": "assistant" if owner else "user", "content": text} for owner, text in turns]
    messages.append({"role": "assistant", "content": "fine"})
    whole = chat.tokenizer.apply_chat_template(messages, tokenize=False)
    assert chat.tokenizer.decode(chat.history(turns)[0] + chat.candidate("fine")) + "\n" == whole


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_rows_of_a_table_are_encoded_as_single_calls_are(form: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(form)
    rows = [
        {"history": TURNS, "reply": "sure", "distractors": ["no", "good", ""]},
        {"history": TURNS[-1:], "reply": "<|endoftext|>", "distractors": []},
    ]
    table = pa.table(
        {
            "example_id": ["a", "b"],
            "thread_id": ["t", "t"],
            "session_index": [0, 1],
            "split": ["train", "valid"],
            "replied_at": [0, 1],
            "history": [[{"is_owner": owner, "text": text} for owner, text in row["history"]] for row in rows],
            "reply": [row["reply"] for row in rows],
            "distractors": [row["distractors"] for row in rows],
        },
        schema=SCHEMAS["examples"],
    )
    encoded = encode_examples(table, encoder).to_pylist()
    assert len(encoded) == 2
    for found, row in zip(encoded, rows, strict=True):
        ids, roles = encoder.history(row["history"])
        assert found["history_ids"] == ids
        assert found["history_roles"] == roles
        assert found["candidate_ids"] == [encoder.candidate(text) for text in [*row["distractors"], row["reply"]]]
    assert [row["split"] for row in encoded] == ["train", "valid"]


def test_a_template_that_refuses_is_a_clear_error(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    tokenizer.chat_template = ALTERNATING
    encoder = Encoder(tokenizer)
    with pytest.raises(JaegptError, match="refuses the roles assistant, user"):
        encoder.history([(True, "me first"), (False, "hey")])
    tokenizer.chat_template = "{{ messages[0]['content'] | upper }}"
    with pytest.raises(JaegptError, match="changes or hides what a turn says"):
        Encoder(tokenizer).history([(False, "hey")])
