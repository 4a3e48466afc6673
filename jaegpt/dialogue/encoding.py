"""The one encoder: training, evaluation and chat all ask the model through it, byte for byte the same.

With a chat template, the owner is the assistant and everyone else the user; without one, DialoGPT's form: each turn
followed by the end-of-text token. What people wrote is always encoded as text: a message that spells out a control
token never becomes one. Neither torch nor a model is needed: loading them would take longer than the encoding.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from jaegpt.dialogue.bounded import WorkFailed, bounded
from jaegpt.errors import JaegptError
from jaegpt.model_files import loading, read_json

# Some templates print today's date, which would make the tokens depend on the clock, and chat on the day.
_FIXED_DATE = "01 Jan 2024"

Turn = tuple[bool, str]  # (is_owner, text)
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What stands around the texts of a history, as token ids, for one sequence of roles.

    Attributes:
        before: (closing, opening) of each text: what ends the turn before it, and what begins its own.
        after: (closing, opening) after the last text: what ends its turn, and what begins the owner's reply.
        skipped: leading turns left out: 1 where the owner spoke first and the template must begin with someone else.
    """

    before: tuple[tuple[Ids, Ids], ...]
    after: tuple[Ids, Ids]
    skipped: int = 0


class Encoder:
    """Turns and replies -> token ids.

    Args:
        folder: holds tokenizer.json, tokenizer_config.json and, for a chat model, chat_template.jinja, as
            `save_pretrained` writes them.

    Raises:
        JaegptError: a file is missing, the tokenizer has neither a chat template nor an end-of-text token, or its
            template cannot be used.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            raise JaegptError(f"{folder}: no tokenizer.json here. Run `dvc repro`.")
        read_json(folder / "tokenizer.json")
        with loading(folder / "tokenizer.json", "Run `dvc repro --force base_model train`."):
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        config = folder / "tokenizer_config.json"
        self._config: dict[str, Any] = read_json(config) if config.is_file() else {}
        template = folder / "chat_template.jinja"
        self.template = _compiled(template.read_text(encoding="utf-8")) if template.is_file() else None
        self._layouts: dict[tuple[bool, ...], Layout] = {}
        self.splits_at_spaces = _splits_at_spaces(self.tokenizer)
        self.end_of_turn = self._template_end_of_turn() if self.template else self._end_of_text()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Plain text to ids; special tokens spelled out in a text stay text."""
        self.tokenizer.encode_special_tokens = True
        return [encoded.ids for encoded in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens spelled out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def history(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        """Context turns -> ids up to where the owner's reply begins, and as many roles (1 = owner, 0 = other)."""
        joined = join_neighbours(turns)
        layout = self.layout(tuple(is_owner for is_owner, _ in joined))
        joined = joined[layout.skipped :]
        ids: list[int] = []
        roles: list[int] = []
        role = 0
        for (closing, opening), (is_owner, _), content in zip(
            layout.before, joined, self.tokenize([text for _, text in joined]), strict=True
        ):
            ids += [*closing, *opening, *content]
            roles += [role] * len(closing) + [int(is_owner)] * (len(opening) + len(content))
            role = int(is_owner)
        closing, opening = layout.after
        return [*ids, *closing, *opening], [*roles, *[role] * len(closing), *[1] * len(opening)]

    def candidate(self, text: str) -> list[int]:
        """A reply -> ids, closed by the end-of-turn token, so that the model learns to stop."""
        return [*self.tokenize([text])[0], *self.end_of_turn]

    def layout(self, owners: tuple[bool, ...]) -> Layout:
        """What stands around the texts of turns by these (alternating) speakers.

        Raises:
            JaegptError: the template refuses the roles, or changes what a turn says.
        """
        if owners not in self._layouts:
            skipped = int(bool(self.template) and len(owners) > 1 and owners[0] and not self._takes(owners))
            shown = owners[skipped:]
            pieces = self._template_pieces(shown) if self.template else [(), *[self.end_of_turn] * len(shown)]
            *before, after = [((), pieces[0]), *map(self._split, pieces[1:])]
            self._layouts[owners] = Layout(tuple(before), after, skipped)
        return self._layouts[owners]

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

    def _template_pieces(self, owners: tuple[bool, ...]) -> list[Ids]:
        """The template's own tokens before each text and after the last: one more piece than texts."""
        marks = [_mark(index) for index in range(len(owners))]
        messages = [
            {"role": "assistant" if is_owner else "user", "content": mark}
            for is_owner, mark in zip(owners, marks, strict=True)
        ]
        text = self._render(messages, add_generation_prompt=True)
        pieces = []
        for mark in marks:
            piece, found, text = text.partition(mark)
            if not found:
                raise JaegptError(
                    "model: its chat template changes or hides what a turn says. Choose another base model."
                )
            pieces.append(self._control(piece))
        return [*pieces, self._control(text)]

    def _template_end_of_turn(self) -> Ids:
        """What the template writes after the assistant's text, up to and with its first special token."""
        messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": _mark(0)}]
        ids = self._control(self._render(messages, add_generation_prompt=False).partition(_mark(0))[2])
        special = self.tokenizer.get_added_tokens_decoder()
        for index, token in enumerate(ids):
            if token in special:
                return ids[: index + 1]
        return self._end_of_text()

    def _end_of_text(self) -> Ids:
        token = self._special_tokens().get("eos_token")
        number = None if token is None else self.tokenizer.token_to_id(token)
        if number is None:
            raise JaegptError("model: its tokenizer has neither a chat template that ends turns nor an eos_token.")
        return (number,)

    def _special_tokens(self) -> dict[str, str]:
        """The configured tokens by name, such as {"eos_token": "</s>"}; templates refer to them."""
        named = {key: value for key, value in self._config.items() if key.endswith("_token")}
        texts = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items()}
        return {key: text for key, text in texts.items() if isinstance(text, str)}

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        assert self.template is not None
        try:
            return bounded(
                partial(
                    self.template.render,
                    messages=messages,
                    tools=None,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                    **self._special_tokens(),
                )
            )
        except WorkFailed as error:
            roles = ", ".join(message["role"] for message in messages)
            raise JaegptError(
                f"model: its chat template refuses the roles {roles} ({error}). Choose another base model."
            ) from None

    def _control(self, text: str) -> Ids:
        """The template's own text to ids: here special tokens are meant."""
        self.tokenizer.encode_special_tokens = False
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a token never reaches over a single space between two other characters, so that words can be encoded
    one by one: "so what" = "so" + " what". It is so where text is first split as GPT-2 splits it, and nothing before
    or after looks further.
    """
    split = json.loads(tokenizer.pre_tokenizer.__getstate__()) if tokenizer.pre_tokenizer else {}
    return (
        split.get("type") == "ByteLevel"
        and split["use_regex"]
        and not split["add_prefix_space"]
        and tokenizer.normalizer is None
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the model says, for who asks; here it is its content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compiled(template: str) -> Template:
    """A chat template with what transformers gives it; not through transformers, whose import takes a second.

    The sandbox matters: a template comes with a model from anywhere.

    Raises:
        JaegptError: it is no template.
    """

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda format: _FIXED_DATE}
    try:
        bounded(lambda: environment.compile(template) and "")  # jinja2 computes what is constant as it compiles
    except WorkFailed as error:
        raise JaegptError(f"model: its chat template cannot be read ({error}). Choose another base model.") from None
    return environment.from_string(template)


def join_neighbours(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbouring turns of one role become one: [(F, "a"), (F, "b"), (T, "c")] -> [(F, "a b"), (T, "c")]."""
    joined: list[Turn] = []
    for is_owner, text in turns:
        if joined and joined[-1][0] == is_owner:
            joined[-1] = (is_owner, f"{joined[-1][1]} {text}")
        else:
            joined.append((is_owner, text))
    return joined


def _mark(index: int) -> str:
    """A word no template holds, that stands for the text of turn `index` while the template is taken apart."""
    return "x" + hashlib.sha256(f"turn {index}".encode()).hexdigest()
