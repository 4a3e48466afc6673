"""The one encoder: training, evaluation and chat all ask the model through it, byte for byte the same.

With a chat template, the owner is the assistant and everyone else the user; without one, DialoGPT's form: each turn
followed by the end-of-text token. What people wrote is always encoded as text: a message that spells out a control
token never becomes one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from jinja2 import TemplateError

from jaegpt.errors import JaegptError
from jaegpt.tables import SCHEMAS

Turn = tuple[bool, str]  # (is_owner, text)


@dataclass(frozen=True)
class _Layout:
    """What the template puts before each turn's text and after the last, as token ids, for one sequence of roles."""

    before: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]


class Encoder:
    """Turns and replies -> token ids.

    Args:
        tokenizer: a fast Hugging Face tokenizer, such as `AutoTokenizer.from_pretrained` gives.

    Raises:
        JaegptError: the tokenizer has neither a chat template nor an end-of-text token, or its template cannot be used.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._layouts: dict[tuple[bool, ...], _Layout] = {}
        if not tokenizer.chat_template:
            if tokenizer.eos_token_id is None:
                raise JaegptError("model: its tokenizer has neither a chat template nor an end-of-text token.")
            self.end_of_turn: tuple[int, ...] = (tokenizer.eos_token_id,)
        else:
            self.end_of_turn = self._template_end_of_turn()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Plain text to ids; special tokens spelled out in the text stay text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )
        return list(encoded["input_ids"])

    def history(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        """Context turns -> ids up to where the owner's reply begins, and as many roles (1 = owner, 0 = other)."""
        joined = _join_neighbours(turns)
        return self._assemble(joined, self.tokenize([text for _, text in joined]))

    def candidate(self, text: str) -> list[int]:
        """A reply -> ids, closed by the end-of-turn token, so that the model learns to stop."""
        return [*self.tokenize([text])[0], *self.end_of_turn]

    def _assemble(self, turns: Sequence[Turn], contents: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        owners = tuple(is_owner for is_owner, _ in turns)
        layout = self._layout(owners)
        ids: list[int] = []
        roles: list[int] = []
        previous = False
        for is_owner, before, content in zip(
            [*owners, True], [*layout.before, layout.after], [*contents, ()], strict=True
        ):
            # What closes a turn belongs to the turn it closes: `hi <eos> yo <eos>` has roles 0 0 1 1.
            closing = len(self.end_of_turn) if ids and before[: len(self.end_of_turn)] == self.end_of_turn else 0
            ids += [*before, *content]
            roles += [int(previous)] * closing + [int(is_owner)] * (len(before) - closing + len(content))
            previous = is_owner
        return ids, roles

    def _layout(self, owners: tuple[bool, ...]) -> _Layout:
        if owners not in self._layouts:
            self._layouts[owners] = (
                self._template_layout(owners) if self.tokenizer.chat_template else self._plain(owners)
            )
        return self._layouts[owners]

    def _plain(self, owners: tuple[bool, ...]) -> _Layout:
        """`a <eos> b <eos>`: nothing before the first text, the end-of-text token before each next, and at the end."""
        return _Layout(before=((), *[self.end_of_turn] * (len(owners) - 1)), after=self.end_of_turn)

    def _template_layout(self, owners: tuple[bool, ...]) -> _Layout:
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
            pieces.append(piece)
        return _Layout(before=tuple(tuple(self._control(piece)) for piece in pieces), after=tuple(self._control(text)))

    def _template_end_of_turn(self) -> tuple[int, ...]:
        """What the template writes after the assistant's text, up to and with its first special token."""
        mark = _mark(0)
        messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": mark}]
        ids = self._control(self._render(messages, add_generation_prompt=False).partition(mark)[2])
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        for index, token in enumerate(ids):
            if token in special:
                return tuple(ids[: index + 1])
        if self.tokenizer.eos_token_id is None:
            raise JaegptError("model: nothing in its chat template ends a turn, and it has no end-of-text token.")
        return (self.tokenizer.eos_token_id,)

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise JaegptError(f"model: its chat template refuses the roles {roles} ({error}).") from None

    def _control(self, text: str) -> list[int]:
        """The template's own text to ids: here special tokens are meant."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_examples(examples: pa.Table, encoder: Encoder) -> pa.Table:
    """A part of the table `examples` -> the same part of `tokens`: row for row, nothing dropped.

    Each distinct text is tokenized once, whichever histories and candidates it occurs in.
    """
    histories = [
        _join_neighbours([(turn["is_owner"], turn["text"]) for turn in turns])
        for turns in examples.column("history").to_pylist()
    ]
    candidates = [
        [*distractors, reply]
        for distractors, reply in zip(
            examples.column("distractors").to_pylist(), examples.column("reply").to_pylist(), strict=True
        )
    ]
    texts = sorted({text for turns in histories for _, text in turns} | {text for row in candidates for text in row})
    ids = dict(zip(texts, encoder.tokenize(texts), strict=True))
    encoded = [encoder._assemble(turns, [ids[text] for _, text in turns]) for turns in histories]
    columns = {
        "example_id": examples.column("example_id"),
        "split": examples.column("split"),
        "history_ids": [row for row, _ in encoded],
        "history_roles": [roles for _, roles in encoded],
        "candidate_ids": [[[*ids[text], *encoder.end_of_turn] for text in row] for row in candidates],
    }
    return pa.table(columns, schema=SCHEMAS["tokens"])


def _join_neighbours(turns: Sequence[Turn]) -> list[Turn]:
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
