"""A model that learned from sessions speaks first; one that never did says so."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.chat_models import CONFIG, save_base, save_chat_base, save_tuned, speaker
from helpers.page_models import SEED, VIEW
from helpers.page_server import page_running
from test_chat_page import ask, events

from jaegpt.chat.conversation import Conversation, Exchange
from jaegpt.chat.terminal import Chat
from jaegpt.chat.web import Page, make_page
from jaegpt.chat.worker import Worker
from jaegpt.dialogue.encode_table import encode_history
from jaegpt.errors import JaegptError
from jaegpt.generation.speaker import Speaker


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = save_base(tmp_path_factory.mktemp("model") / "base")
    return {"jaegpt": save_tuned(base.parent / "tuned", base), "base": base}


def both(folders: dict[str, Path], learn: str) -> dict[str, Speaker]:
    return {name: speaker(folder, learn=learn) for name, folder in folders.items()}


def test_first_words_are_asked_for_as_they_were_learned(folders: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    one = speaker(folders["jaegpt"], learn="sessions")
    assert one.prompt([], CONFIG).ids == encode_history(one.encoder, [])[0]
    (reply,) = one.replies([[]], CONFIG, SEED)
    assert reply.text
    assert (reply.prompt_tokens, reply.shortened) == (1, False), "after the end of a text"
    chat = speaker(save_chat_base(tmp_path / "chat", tiny), learn="sessions")
    assert chat.encoder.decode(chat.prompt([], CONFIG).ids) == "<|im_start|>assistant\n"


def test_a_model_that_never_learned_any_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    written: list[str] = []
    chat = Chat(both(folders, "replies"), CONFIG, SEED, tmp_path, written.append)
    with pytest.raises(JaegptError, match=r"never learned to speak first\. Set dataset\.learn to sessions"):
        chat.begin()
    assert written == [], "and nothing else"
    chat.take("/first")
    assert "".join(written).startswith("error: there is nothing to reply to")


def test_the_terminal_lets_the_models_begin(folders: dict[str, Path], tmp_path: Path) -> None:
    written: list[str] = []
    chat = Chat(both(folders, "sessions"), CONFIG, SEED, tmp_path, written.append)
    chat.begin()
    assert "".join(written).startswith("jaegpt: ")
    (opening,) = chat.conversation.exchanges
    assert opening.text == ""
    assert opening.replies["jaegpt"] == chat.speakers["jaegpt"].replies([[]], CONFIG, SEED)[0].text
    assert chat.conversation.history("base", "and you?") == [(True, opening.replies["base"]), (False, "and you?")]
    chat.take("and you?")
    chat.take("/first")
    assert "".join(written).endswith("error: /first: the conversation has begun. /reset forgets it.\n")
    chat.take("/save talk")
    saved, _ = Conversation.load(tmp_path, "talk")
    assert saved == chat.conversation
    chat.take("/undo")
    chat.take("/retry")
    (again,) = chat.conversation.exchanges
    assert again.text == ""
    assert again.replies != opening.replies


def test_only_the_first_message_may_be_empty() -> None:
    exchanges = [Exchange(text=text, replies={"jaegpt": "a", "base": "b"}) for text in ("hey", "", "you")]
    with pytest.raises(JaegptError, match="not a saved conversation"):
        Conversation.from_json(Conversation(exchanges).to_json({}))
    begun = Conversation([exchanges[1], exchanges[0]])
    assert Conversation.from_json(begun.to_json({}))[0] == begun
    assert json.loads(begun.to_json({}))["logs"]["base"][0] == {"role": "user", "content": ""}


@pytest.mark.parametrize("learn", ["sessions", "replies"])
def test_the_page_begins_with_an_empty_message_where_first_words_were_learned(
    learn: str, folders: dict[str, Path]
) -> None:
    speakers = both(folders, learn)
    expected: dict[str, Any] = {}
    if learn == "sessions":
        expected = {name: one.replies([[]], CONFIG, SEED)[0].text for name, one in speakers.items()}
    page = Page(Worker(speakers), CONFIG, SEED, {**VIEW, "learn": learn})
    with page.worker, page_running(make_page(page), None, "") as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/begin", json={}).json()["first"] is bool(expected)
        answer = client.post("/reply", json=ask(""))
        if not expected:
            assert (answer.status_code, answer.json()) == (400, {"error": "Type a message first."})
            return
        found = events(answer)
        assert found[0] == {"text": ""}
        said = {
            name: "".join(event.get("piece", "") for event in found if event.get("model") == name) for name in expected
        }
        assert said == expected
        before = [{"text": "", "replies": said}]
        assert client.post("/reply", json=ask("", before=before)).status_code == 400, "it has begun"
        assert events(client.post("/reply", json=ask("hey", before=before)))[-1]["end"]
