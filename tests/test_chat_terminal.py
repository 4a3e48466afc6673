"""`jaegpt chat`: commands, saved conversations, one-shot use, and what is typed wrong."""

import json
import subprocess
from pathlib import Path

import pytest
from helpers.chat_models import CONFIG, save_base, save_tuned, speaker
from helpers.clones import set_params
from helpers.commands import environment
from helpers.paths import ROOT

from jaegpt.chat.conversation import Conversation
from jaegpt.chat.terminal import Chat, chat_once
from jaegpt.errors import JaegptError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models and parameters that the command reads."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").mkdir()
    base = save_base(folder / "data/base_model")
    save_tuned(folder / "models/jaegpt", base)
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    set_params(folder, session__separator="space")
    return folder


@pytest.fixture
def chat(project: Path, tmp_path: Path) -> tuple[Chat, list[str]]:
    written: list[str] = []
    speakers = {"jaegpt": speaker(project / "models/jaegpt"), "base": speaker(project / "data/base_model")}
    return Chat(speakers, CONFIG, 7, tmp_path / "conversations", written.append), written


def said(written: list[str]) -> str:
    """What was written since the last call."""
    text = "".join(written)
    written.clear()
    return text


def test_both_models_answer_with_their_own_history(chat: tuple[Chat, list[str]]) -> None:
    one, written = chat
    assert one.take("hello")
    lines = said(written).splitlines()
    assert [line.split(":")[0] for line in lines] == ["jaegpt", "base"]
    assert len(written) == 0
    assert one.take("and then?")
    first, second = one.conversation.exchanges
    assert one.conversation.history("base", "x") == [
        (False, "hello"),
        (True, first.replies["base"]),
        (False, "and then?"),
        (True, second.replies["base"]),
        (False, "x"),
    ]
    history = [*one.conversation.history("jaegpt", "and then?")[:2], (False, "and then?")]
    assert second.replies["jaegpt"] == one.speakers["jaegpt"].replies([history], CONFIG, 7)[0].text


def test_the_same_seed_repeats_and_retry_does_not(chat: tuple[Chat, list[str]]) -> None:
    one, written = chat
    one.take("hello")
    first = said(written)
    one.take("/retry")
    second = said(written)
    assert second != first
    assert len(one.conversation.exchanges) == 1
    one.take("/retry")
    assert said(written) not in (first, second)
    one.take("/reset")
    assert said(written) == "(forgotten)\n"
    one.take("hello")
    assert said(written) == first
    one.take("/set seed 8")
    one.take("/reset")
    said(written)
    one.take("hello")
    assert said(written) != first


def test_undo_takes_the_last_message_back(chat: tuple[Chat, list[str]]) -> None:
    one, written = chat
    one.take("first")
    one.take("second")
    one.take("/undo")
    assert said(written).endswith("(taken back: second)\n")
    assert [exchange.text for exchange in one.conversation.exchanges] == ["first"]
    one.take("/undo")
    said(written)
    for command in ("/undo", "/retry"):
        assert one.take(command)
        assert said(written) == f"error: {command}: nothing has been said yet.\n"


def test_save_never_replaces_and_load_brings_it_back(
    chat: tuple[Chat, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, written = chat
    one.take("hello 😀 שלום")
    said(written)
    one.take("/save talk")
    path = one.folder / "talk.json"
    assert said(written) == f"(saved: {path})\n"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["settings"]["top_p"] == CONFIG.top_p
    assert content["settings"]["seed"] == 7
    assert [turn["role"] for turn in content["logs"]["base"]] == ["user", "assistant"]
    assert content["logs"]["jaegpt"][0]["content"] == "hello 😀 שלום"

    before = path.read_bytes()
    one.take("more")
    said(written)
    one.take("save talk")  # as the original's program has it
    assert said(written) == f"error: {path} exists and is not replaced. Choose another name.\n"
    assert path.read_bytes() == before
    assert [file.name for file in one.folder.iterdir()] == ["talk.json"]

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
        one.take("/save other")
    assert said(written) == f"error: {one.folder / 'other.json'}: cannot be saved (Operation not permitted).\n"
    assert [file.name for file in one.folder.iterdir()] == ["talk.json"]

    exchanges = one.conversation.exchanges[:1]
    one.take("/reset")
    one.take("/load talk")
    assert [(e.text, e.replies) for e in one.conversation.exchanges] == [(e.text, e.replies) for e in exchanges]


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/b", ".hidden", "", "x" * 200, "a b"])
def test_names_that_are_no_file_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(JaegptError, match="cannot be a conversation's name"):
        Conversation().save(tmp_path / "folder", name, {})
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"format": "jaegpt conversation 1", "settings": {}, "logs": {"jaegpt": [], "base": 3}}',
        b'{"format": "jaegpt conversation 2", "settings": {}, "logs": {"jaegpt": [], "base": []}}',
        b'{"format": "jaegpt conversation 1", "settings": {}, "logs": {"jaegpt": [], "base": [{"role": "user"}]}}',
        b'{"format": "jaegpt conversation 1", "settings": [], "logs": {"jaegpt": [], "base": []}}',
        b"[" * 100_000,
    ],
)
def test_other_files_are_not_conversations(content: bytes) -> None:
    with pytest.raises(JaegptError, match="not a saved conversation"):
        Conversation.from_json(content)


def test_loaded_texts_are_cleaned_as_typed_ones_are() -> None:
    def saved(user: str, reply: str) -> str:
        log = [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
        return json.dumps(
            {"format": "jaegpt conversation 1", "settings": {}, "logs": dict.fromkeys(("jaegpt", "base"), log)}
        )

    conversation, _ = Conversation.from_json(saved("hi\ud83d\x1b[2J", "\x07ok"))
    (exchange,) = conversation.exchanges
    assert exchange.text == "hi\ufffd[2J"
    assert exchange.replies == {"jaegpt": "ok", "base": "ok"}
    with pytest.raises(JaegptError, match="not a saved conversation"):
        Conversation.from_json(saved("\x1b", "ok"))


def test_settings_are_shown_and_set(chat: tuple[Chat, list[str]]) -> None:
    one, written = chat
    one.take("/set")
    assert "top_p = 0.9\n" in said(written)
    one.take("/set top_p 0.25")
    one.take("/set candidates 3")
    one.take("/set guidance 1.5")
    one.take("/set min_p 0.1")
    assert (one.config.top_p, one.config.candidates, one.config.guidance, one.config.min_p) == (0.25, 3, 1.5, 0.1)
    said(written)
    one.take("hello")
    assert "error: generate: guidance 1.5 compares replies with first words, and this model never" in said(written)
    one.take("/set guidance 1")
    said(written)
    one.take("hello")
    assert said(written).startswith("jaegpt: ")
    for line, error in (
        ("/set top_p 2", "/set top_p is a probability, above 0 and at most 1, found 2."),
        ("/set top_k 1.5", "/set top_k: needs a number, found '1.5'."),
        ("/set candidates many", "/set candidates: needs a number, found 'many'."),
        ("/set rerank best", "/set rerank must be one of none, head, fit, found best."),
        ("/set rerank none", "/set rerank is none, so nothing chooses among 3 candidates."),
        ("/set color red", "/set: no setting 'color'. There are: seed, top_p"),
        ("/set seed -1", "/set seed: must be between"),
        ("/set top_p nan", "/set top_p is a probability"),
        ("/fly", "/fly is no command in this form. /help lists them."),
        ("/save", "/save is no command in this form."),
        ("/load nothing", "nothing.json: no such conversation."),
    ):
        assert one.take(line)
        assert error in said(written)
    one.take("/set max_tokens 127")
    one.take("/reset")
    said(written)
    one.take("hello")
    assert "error: generate.max_tokens" in said(written)
    assert one.conversation.exchanges == []
    one.take("/help")
    assert "/save NAME" in said(written)
    assert not one.take("/quit")


@pytest.mark.parametrize("text", ["", "   ", "\x00\x07"])
def test_an_empty_message_is_not_answered(chat: tuple[Chat, list[str]], text: str) -> None:
    one, written = chat
    assert one.take(text)
    assert said(written) == "(nothing to answer: the message is empty)\n"
    with pytest.raises(JaegptError, match="the message is empty"):
        chat_once(one, text, as_json=False)


def test_a_very_long_message_is_answered_with_a_notice(chat: tuple[Chat, list[str]]) -> None:
    one, written = chat
    one.take("words " * 20_000)
    assert said(written).count("only its end counts") == 2


def test_an_interrupted_reply_is_taken_back(chat: tuple[Chat, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    one, written = chat
    one.take("hello")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(one.speakers["base"], "stream", interrupt)
    said(written)
    assert one.take("again")
    assert said(written).endswith("(stopped; the conversation is as it was before)\n")
    assert one.take("/retry")
    assert [exchange.text for exchange in one.conversation.exchanges] == ["hello"]


def call(folder: Path, *arguments: str, stdin: str = "", expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["jaegpt", *arguments],
        cwd=folder,
        input=stdin,
        env={**environment("jaegpt"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_once_is_one_json_object_and_repeatable(project: Path) -> None:
    first = call(project, "chat", "--once", "how are you? 😀", "--json").stdout
    content = json.loads(first)
    assert set(content) == {"reply", "base_reply", "settings"}
    assert content["settings"]["top_p"] == 0.98, "what auto means where nothing was measured"
    assert content["settings"]["seed"] == 1337
    assert content["reply"]
    assert call(project, "chat", "--once", "how are you? 😀", "--json").stdout == first
    assert first.count("\n") == 1


def test_a_pipe_is_a_conversation(project: Path) -> None:
    output = call(project, "chat", stdin="hello\n\n/set top_p 0.9\nand you?\n/save piped\n/quit\nnever said\n").stdout
    assert output.splitlines()[0] == "> hello"
    assert output.count("\njaegpt: ") == 2
    assert output.count("\nbase: ") == 2
    assert "never said" not in output
    saved = json.loads((project / "data/conversations/piped.json").read_text(encoding="utf-8"))
    assert [turn["content"] for turn in saved["logs"]["jaegpt"][0::2]] == ["hello", "and you?"]


def test_what_is_missing_is_named(project: Path, tmp_path: Path) -> None:
    said = call(tmp_path, "chat", "--once", "hi", expect=1).stderr
    assert said == "error: no trained model yet: models/jaegpt is not here. Run `dvc repro` in the project's folder.\n"
    assert "--json goes with --once" in call(project, "chat", "--json", expect=1).stderr

    head = project / "models/jaegpt/classification_head.safetensors"
    content = head.read_bytes()
    head.unlink()
    try:
        assert "no classification_head.safetensors here" in call(project, "chat", "--once", "hi", expect=1).stderr
    finally:
        head.write_bytes(content)

    path = project / "params.yaml"
    original = path.read_bytes()
    set_params(project, generate__top_p=7)
    try:
        assert "generate.top_p is a probability" in call(project, "chat", "--once", "hi", expect=1).stderr
    finally:
        path.write_bytes(original)
