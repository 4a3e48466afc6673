"""Ollama's Modelfile: its template writes the very prompt of the chat, and the rest of it is what calibrate found."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jinja2
import pytest
from gguf import GGUFReader
from helpers.chat_models import CHATML, VIEW, save_base, save_chat_base, save_tuned
from helpers.models import save_tiny
from test_generate_settings import CHOSEN
from transformers import AutoTokenizer

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.errors import JaegptError
from jaegpt.files import write_json
from jaegpt.generation.ollama import export_ollama, go_template, take_apart
from jaegpt.generation.settings import DEFAULT, generation_config
from jaegpt.training.model_card import NOTICE

LLAMA_3 = (
    "{{ '<|im_start|>' }}{% for m in messages %}{{ '<|im_end|>' + m['role'] + '\"{{\\n\\n' + m['content'] | trim + "
    "'<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_end|>assistant\"{{\\n\\n' }}{% endif %}"
)
USER_FIRST = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user speaks first') }}{% endif %}" + CHATML
THINKING = CHATML.replace("assistant\n' }}", "assistant\n<think>\n\n</think>\n\n' }}")
BY_PLACE = CHATML.replace("m['content']", "'%d ' % loop.index + m['content']")
TEMPLATES = {"none": None, "chatml": CHATML, "llama 3": LLAMA_3, "user first": USER_FIRST, "thinking": THINKING}
TEXTS = ["hey, how was it?", "good\nyou?", "it's 2024 \u2014 ça va 😀", "ok {{ .System }}", "no", "what?", "{% raw %}"]


def save_model(folder: Path, template: str | None) -> Path:
    if template is None:
        return save_tiny(folder)
    save_chat_base(folder, save_tiny(folder.with_name("for_chat")))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def conversations() -> list[list[Turn]]:
    return [
        [((turn % 2 == 0) == owner_first, text) for turn, text in enumerate(TEXTS[:length])]
        for length in range(1, len(TEXTS) + 1)
        for owner_first in (False, True)
    ]


def rendered(template: str, turns: list[Turn]) -> str:
    """What Go makes of a template: each construct that ours use, as Jinja's of the same meaning."""
    meanings = {
        r'\$last := ""': "{% set its = namespace(last='') %}",
        r"range \$index, \$message := \.Messages": "{% for message in messages %}",
        r"\$message\.Content": "{{ message.content }}",
        r'\$last = ("\w+")': r"{% set its.last = \1 %}",
        r'(else )?if eq \$last ("\w*")': r"{% \1if its.last == \2 %}",
        r'(else )?if eq \$message\.Role ("\w+")': r"{% \1if message.role == \2 %}",
        r'(else )?if and \(eq \$message\.Role ("\w+")\) \(ne \$last ""\)':
        r"{% \1if message.role == \2 and its.last %}",
        r"if le \(len \(slice \$\.Messages \$index\)\) (\d+)": r"{% if messages | length - loop.index0 <= \1 %}",
        r"else": "{% else %}",
        r"(\".*\")": r"{{ \1 }}",
        r"end": "{% end %}",
    }  # fmt: skip
    parts: list[str] = []
    opened: list[str] = []
    for text, action in re.findall(r"(.*?)(?:\{\{ (.*?) \}\}|\Z)", template, flags=re.DOTALL):
        parts.append("{{ " + repr(text) + " }}" if text else "")
        if not action:
            continue
        (meaning,) = (
            re.sub(pattern, meant, action) for pattern, meant in meanings.items() if re.fullmatch(pattern, action)
        )
        meaning = meaning.replace("else if", "elif")
        if meaning.startswith(("{% for", "{% if")):
            opened.append(meaning.split()[1])
        parts.append(meaning if action != "end" else f"{{% end{opened.pop()} %}}")
    assert not opened
    messages = [{"role": "assistant" if is_owner else "user", "content": text} for is_owner, text in turns]
    return jinja2.Environment(autoescape=False).from_string("".join(parts)).render(messages=messages)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_writes_the_chats_own_prompt(name: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", TEMPLATES[name])
    encoder, tokenizer = Encoder(folder), AutoTokenizer.from_pretrained(folder)
    pieces = take_apart(encoder)
    checked = 0
    for turns in conversations():
        wanted = turns[1:] if name == "user first" and turns[0][0] else turns
        text = rendered(go_template(pieces, None), turns)
        assert text == pieces.render(turns)
        if not wanted:
            assert text == ""
            continue
        if name == "none":
            assert text == "".join(f"{said}<|endoftext|>" for _, said in wanted)
        else:
            messages = [{"role": "assistant" if mine else "user", "content": said} for mine, said in wanted]
            assert text == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert tokenizer(text, add_special_tokens=False).input_ids == encode_history(encoder, turns)[0]
        for shown in (1, 4):
            assert rendered(go_template(pieces, shown), turns) == pieces.render(turns[-shown:])
        checked += 1
    assert checked >= 2 * len(TEXTS) - 1
    # A system message between two of one role, which Ollama leaves apart: they are joined as messages of a turn are.
    apart = pieces.render([(False, "a"), (False, "b"), (True, "c"), (True, "d"), (False, "e")])
    assert (
        encode_history(encoder, [(False, "a b"), (True, "c d"), (False, "e")])[0]
        == encoder.tokenizer.encode(apart, add_special_tokens=False).ids
    )


def test_what_depends_on_the_place_of_a_turn_is_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", BY_PLACE)
    with pytest.raises(JaegptError, match="--ollama: the model's chat template writes a turn in another way"):
        export_ollama(folder, tmp_path / "out", tmp_path / "nothing.json")
    assert not (tmp_path / "out").exists()


def commands(path: Path) -> list[tuple[str, str]]:
    """A Modelfile as Ollama's parser.go takes it apart: what is in three quotes may have several lines."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"))
    found = re.findall(r'^([A-Z]+(?: [a-z_]+(?= ))?) (""".*?"""|[^\n]*)$', text, flags=re.DOTALL | re.MULTILINE)
    assert "\n".join(f"{name} {value}" for name, value in found) + "\n" == text, "all of it"
    return [(name, value.removeprefix('""').removesuffix('""').strip('"')) for name, value in found]


def test_the_modelfile_says_all_that_ollama_needs(tmp_path: Path) -> None:
    tuned = save_tuned(tmp_path / "tuned", save_chat_base(tmp_path / "base", save_tiny(tmp_path / "tiny")))
    (tuned / "LICENSE").write_text('Free\n\nfor all, """as is"""\n', encoding="utf-8")
    found = tmp_path / "generation_config.json"
    write_json(found, generation_config(CHOSEN, dataclasses.replace(DEFAULT, min_p=0.02, max_tokens=9)))
    path = export_ollama(tuned, tmp_path / "out/ollama", found)
    said = commands(path)
    assert said[0] == ("FROM", "./jaegpt-f16.gguf")
    assert said[1] == ("TEMPLATE", go_template(take_apart(Encoder(tuned)), VIEW["num_history"]))
    assert [value for name, value in said if name == "PARAMETER stop"] == ["<|im_end|>", "<|im_start|>"]
    settings = {name.split()[1]: json.loads(value) for name, value in said[2:] if name.startswith("PARAMETER ")
                and "stop" not in name}  # fmt: skip
    assert settings == {
        "num_ctx": 1024, "num_predict": 9, "temperature": 0.95, "top_p": 0.98, "top_k": 0, "min_p": 0.02,
        "repeat_penalty": 1.0,
    }  # fmt: skip
    assert [value for name, value in said if name == "LICENSE"] == ["Free\n\nfor all, '''as is'''", NOTICE]
    assert NOTICE.startswith("**This is a model of a person")
    assert GGUFReader(path.parent / "jaegpt-f16.gguf").fields["general.name"].contents() == "jaegpt"
    before = (path.parent / "jaegpt-f16.gguf").read_bytes()

    assert export_ollama(tuned, path.parent, tmp_path / "nothing.json", "q8_0") == path
    assert sorted(file.name for file in path.parent.iterdir()) == ["Modelfile", "jaegpt-f16.gguf", "jaegpt-q8_0.gguf"]
    assert (path.parent / "jaegpt-f16.gguf").read_bytes() == before
    again = commands(path)
    assert again[0] == ("FROM", "./jaegpt-q8_0.gguf")
    assert {name for name, _ in again} == {"FROM", "TEMPLATE", "PARAMETER stop", "PARAMETER num_ctx", "LICENSE"}


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    tuned = save_tuned(tmp_path / "tuned", save_base(tmp_path / "base"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(JaegptError, match="file is a file"):
        export_ollama(tuned, tmp_path / "file")
    with pytest.raises(JaegptError, match="no trained model yet"):
        export_ollama(tmp_path / "nowhere", tmp_path / "out")
    damaged = tmp_path / "damaged"
    shutil.copytree(tuned, damaged)
    config: dict[str, Any] = json.loads((damaged / "config.json").read_text(encoding="utf-8"))
    for changes, said in (({"jaegpt": {"separator": "tab"}}, "cannot be written as .*tab"), (
        {"model_type": "from_the_future"}, "cannot be written as .*from_the_future")):  # fmt: skip
        (damaged / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        with pytest.raises(JaegptError, match=said):
            export_ollama(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()
