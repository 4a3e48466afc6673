"""The one encoder: training, evaluation and chat all ask the model through it, byte for byte the same.

With a chat template, the owner is the assistant and everyone else the user; without one, DialoGPT's form: what the
tokenizer itself puts before a text, then each turn followed by the end-of-text token. What people wrote is always
encoded as text: a message that spells out a control token never becomes one. Where a text and the template meet, the
tokens are those that the tokenizer gives for the whole conversation at once. Neither torch nor a model is needed:
loading them would take longer than the encoding.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jaegpt.dialogue.chat_template import compiled, read_template, render
from jaegpt.dialogue.text_tokens import control_tokens, leading_tokens, splits_at_spaces, text_tokenizer
from jaegpt.errors import JaegptError
from jaegpt.model_files import check_tokenizer, loading, read_json

_PROBE = "x"  # a text that is one token nearly everywhere, to see what is put before it

Turn = tuple[bool, str]  # (is_owner, text)
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What stands around the texts of a history, as token ids, for one sequence of roles.

    Attributes:
        before: (closing, opening) of each text: what ends the turn before it, and what begins its own.
        spaced: of each text, whether a space before it belongs to its first token.
        after: (closing, opening) after the last text: what ends its turn, and what begins the owner's reply.
        skipped: leading turns left out: 1 where the owner spoke first and the template must begin with someone else.
    """

    before: tuple[tuple[Ids, Ids], ...]
    spaced: tuple[bool, ...]
    after: tuple[Ids, Ids]
    skipped: int = 0


class Encoder:
    """Turns and replies -> token ids.

    Args:
        folder: holds tokenizer.json, tokenizer_config.json and, for a chat model, chat_template.jinja, as
            `save_pretrained` writes them.
        joint: what stands between neighbouring turns of one role, as between the messages of a turn.

    Raises:
        JaegptError: a file is missing, the tokenizer has neither a chat template nor an end-of-text token, or its
            template cannot be used.

    Attributes:
        tokenizer: the model's own.
        texts: a copy of it for what people wrote, see `text_tokenizer`.
        controls: tokens that no text becomes.
        end_of_turn: what closes a turn; its last token stops generation.
        reply_opening, reply_spaced: what a reply begins with after a history, and whether with a space.
    """

    def __init__(self, folder: str | Path, joint: str = " ") -> None:
        folder = Path(folder)
        self.joint = joint
        if not (folder / "tokenizer.json").is_file():
            raise JaegptError(f"{folder}: no tokenizer.json here. Run `dvc repro`.")
        check_tokenizer(folder / "tokenizer.json")
        with loading(folder / "tokenizer.json", "Run `dvc repro --force base_model train`."):
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = False
        self._added = frozenset(self.tokenizer.get_added_tokens_decoder())
        self.texts = text_tokenizer(self.tokenizer)
        self.controls = control_tokens(self.tokenizer, self.texts)
        self.splits_at_spaces = splits_at_spaces(self.texts)
        config = folder / "tokenizer_config.json"
        self._config: dict[str, Any] = read_json(config) if config.is_file() else {}
        template = folder / "chat_template.jinja"
        self.template = compiled(read_template(template)) if template.is_file() else None
        self._layouts: dict[tuple[bool, ...], Layout] = {}
        if self.template:
            self.end_of_turn = self._template_end_of_turn()
            self.reply_opening, self.reply_spaced = self._template_reply()
        else:
            self.end_of_turn = self._end_of_text()
            self.reply_opening, self.reply_spaced = (), self._before_text(self._spelled(self.end_of_turn), True)[1]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Plain text to ids; control tokens spelled out in a text stay text."""
        return [encoded.ids for encoded in self.texts.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens spelled out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def layout(self, owners: tuple[bool, ...]) -> Layout:
        """What stands around the texts of turns by these (alternating) speakers.

        Raises:
            JaegptError: the template refuses the roles, or does not write each turn's text exactly once, unchanged.
        """
        if not owners and owners not in self._layouts:
            self._layouts[owners] = self._nothing_said()
        if owners not in self._layouts:
            skipped = int(bool(self.template) and len(owners) > 1 and owners[0] and not self._takes(owners))
            shown = owners[skipped:]
            pieces, spaced = self._template_pieces(shown) if self.template else self._plain_pieces(len(shown))
            *before, after = [((), pieces[0]), *map(self._split, pieces[1:])]
            self._layouts[owners] = Layout(tuple(before), spaced, after, skipped)
        return self._layouts[owners]

    def _nothing_said(self) -> Layout:
        """Before the owner's first words: what the template puts before a conversation that its assistant begins.

        One that must begin with someone else is shown an empty message; where there is no template, and the tokenizer
        puts nothing before a text, what ends a text stands there, since the first token must come after something.
        """
        if not self.template:
            return Layout((), (), ((), leading_tokens(self.tokenizer) or self.end_of_turn))
        if not self._takes((True,)):
            asked = self.layout((False,))
            return Layout((), (), ((), sum((*asked.before[0], *asked.after), ())))
        opening = self._template_pieces((True,))[0][0]
        reply = len(self.reply_opening)
        if reply and opening[-reply:] == self.reply_opening:
            opening = opening[:-reply]
        return Layout((), (), ((), opening or self.end_of_turn))

    def _takes(self, owners: tuple[bool, ...]) -> bool:
        try:
            self._template_pieces(owners)
        except JaegptError:
            return False
        return True

    def _split(self, piece: Ids) -> tuple[Ids, Ids]:
        """A piece between two texts into what closes the one and opens the other: `<end> \n <start> user \n`."""
        closing = len(self.end_of_turn) if piece[: len(self.end_of_turn)] == self.end_of_turn else 0
        return piece[:closing], piece[closing:]

    def _plain_pieces(self, count: int) -> tuple[list[Ids], tuple[bool, ...]]:
        """As `_template_pieces`, where there is no template: for `count` texts."""
        spaced = (self._before_text("", False)[1], *[self.reply_spaced] * (count - 1))[:count]
        return [leading_tokens(self.tokenizer), *[self.end_of_turn] * count], spaced

    def _template_pieces(self, owners: tuple[bool, ...]) -> tuple[list[Ids], tuple[bool, ...]]:
        """The template's own tokens before each text and after the last, and whether each text has a space before it.

        There is one more piece than texts.
        """
        marks = [_mark(index) for index in range(len(owners))]
        messages = [
            {"role": "assistant" if is_owner else "user", "content": mark}
            for is_owner, mark in zip(owners, marks, strict=True)
        ]
        texts = _taken_apart(self._render(messages, add_generation_prompt=True), marks)
        met = [self._before_text(text, place > 0) for place, text in enumerate(texts)]
        # A reply begins where the prompt ends, unless the template puts something between the two.
        last = texts[-1] if self.reply_opening or not self.reply_spaced else met[-1][0]
        shown = [*[text for text, _ in met[:-1]], last]
        pieces = [self._control(text, place > 0) for place, text in enumerate(shown)]
        return pieces, tuple(spaced for _, spaced in met[:-1])

    def _template_end_of_turn(self) -> Ids:
        """What the template writes after the assistant's text, up to and with its first control token."""
        ids = self._control(self._exchange()[1], True)
        for index, token in enumerate(ids):
            if token in self._added:
                return ids[: index + 1]
        return self._end_of_text()

    def _template_reply(self) -> tuple[Ids, bool]:
        """What the template puts between a prompt and the reply in a finished exchange; whether a reply has a space.

        Llama 2's prompt ends in "[/INST]", and the reply after it has a space before it.
        """
        finished = self._exchange()[0]
        (_, prompt) = _taken_apart(
            self._render([{"role": "user", "content": _mark(0)}], add_generation_prompt=True), [_mark(0)]
        )
        if not finished.startswith(prompt):
            finished = prompt  # the template begins a reply in one way and shows it in another
        shown, spaced = self._before_text(finished, True)
        before, ids = self._control(prompt, True), self._control(shown, True)
        return (ids[len(before) :] if ids[: len(before)] == before else ()), spaced

    def _exchange(self) -> tuple[str, str]:
        """The template's text between a message and the reply to it, and after the reply."""
        marks = [_mark(0), _mark(1)]
        messages = [{"role": role, "content": mark} for role, mark in zip(("user", "assistant"), marks, strict=True)]
        _, between, after = _taken_apart(self._render(messages, add_generation_prompt=False), marks)
        return between, after

    def _end_of_text(self) -> Ids:
        token = self._special_tokens().get("eos_token")
        number = None if token is None else self.tokenizer.token_to_id(token)
        if number is None:
            raise JaegptError("model: its tokenizer has neither a chat template that ends turns nor an eos_token.")
        return (number,)

    def _spelled(self, ids: Ids) -> str:
        return "".join(self.tokenizer.id_to_token(token) or "" for token in ids)

    def _special_tokens(self) -> dict[str, str]:
        """The configured tokens by name, such as {"eos_token": "</s>"}; templates refer to them."""
        named = {key: value for key, value in self._config.items() if key.endswith("_token")}
        texts = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items()}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        assert self.template is not None
        return render(self.template, messages, add_generation_prompt, self._special_tokens())

    def _control(self, text: str, continues: bool) -> Ids:
        """The template's own text to ids: here control tokens are meant.

        continues: whether it goes on after other text, so that no space is put before it, as before a beginning.
        """
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        if not continues:
            return tuple(encoded.ids)
        first = next((place for place, token in enumerate(encoded.ids) if token in self._added), None)
        if first is None:
            return tuple(self.texts.encode(text, add_special_tokens=False).ids)
        before = self.texts.encode(text[: encoded.offsets[first][0]], add_special_tokens=False).ids
        return (*before, *encoded.ids[first:])

    def _before_text(self, piece: str, continues: bool) -> tuple[str, bool]:
        """How `piece` and a text after it meet in the tokenizer's own encoding of both together.

        Returns:
            (the piece, less a space at its end that is part of the text's first token; whether the text has a space
            before it). "USER: " + "hi" are the tokens "USER", ":", " hi" -> ("USER:", True).
        """
        # Try it: encode both together, then look which way of encoding them apart gives the same tokens.
        whole = self._control(piece + _PROBE, continues)
        ways = [(piece[:-1], True)] if piece.endswith(" ") else []
        for shown, spaced in [*ways, (piece, True)]:
            if whole == (*self._control(shown, continues), *self.tokenize([" " * spaced + _PROBE])[0]):
                return shown, spaced
        return piece, False


def _taken_apart(text: str, marks: Sequence[str]) -> list[str]:
    """What a template writes before each mark and after the last: "<s>", mark 0, "</s>" -> ["<s>", "</s>"].

    Raises:
        JaegptError: it does not write each mark once, in their order.
    """
    if any(text.count(mark) > 1 for mark in marks):
        raise JaegptError("model: its chat template says a turn's text twice. Choose another base model.")
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            raise JaegptError("model: its chat template changes or hides what a turn says. Choose another base model.")
        pieces.append(piece)
    return [*pieces, text]


def _mark(index: int) -> str:
    """A word no template holds, that stands for the text of turn `index` while the template is taken apart."""
    return "x" + hashlib.sha256(f"turn {index}".encode()).hexdigest()
