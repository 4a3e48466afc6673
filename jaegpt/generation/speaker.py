"""Replies from a model folder: one history or many, k candidates each, chosen by the classification head."""

import jaegpt.environment  # noqa: F401

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from jaegpt.dialogue.encode_table import encode_candidate, encode_history
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.dialogue.separators import JOINTS, Separator
from jaegpt.errors import JaegptError
from jaegpt.generation.decoding import decode
from jaegpt.generation.prompts import Prompt, clean_text, make_prompt
from jaegpt.generation.sampling import sample, uniform_draws
from jaegpt.model_files import check_numbers
from jaegpt.training.config import Learn
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.heads import DoubleHeads, round_weights, to_tensors
from jaegpt.training.model_folder import HEAD_FILE, load_base, load_tuned
from jaegpt.training.packing import Example, Plan

BATCH_ROWS = 64  # candidates decoded side by side
MOST_CANDIDATES = 32


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Section `generate` of params.yaml: how replies are sampled.

    top_p: draw from the fewest tokens that together have this probability; 1: from all.
    top_k: and from the k likeliest at most; 0: any number.
    temperature: logits are divided by it; 0: always the likeliest token.
    no_repeat_ngram: no n tokens in a row occur twice in a reply; 0: they may.
    max_tokens: a reply's tokens at most, without what ends its turn.
    candidates: how many replies are drawn for the classification head to choose from; 1: no choice.
    """

    top_p: float
    top_k: int
    temperature: float
    no_repeat_ngram: int
    max_tokens: int
    candidates: int

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is a probability, above 0 and at most 1, found {self.top_p:g}.")
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature must be from 0 to 100, found {self.temperature:g}.")
        for name in ("top_k", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative, found {getattr(self, name)}. 0 turns it off.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, found {self.max_tokens}.")
        if not 1 <= self.candidates <= MOST_CANDIDATES:
            raise ValueError(f"candidates must be from 1 to {MOST_CANDIDATES}, found {self.candidates}.")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply, and how it was made.

    score: the classification head's, where it chose among several candidates; else None.
    num_tokens: of the chosen candidate, without what ends its turn. prompt_tokens: of the history.
    finished: whether the model ended its turn itself; otherwise it was cut off at max_tokens.
    shortened: whether the last turn was too long for the model, which then read only its end.
    """

    text: str
    score: float | None
    num_tokens: int
    prompt_tokens: int
    finished: bool
    shortened: bool


class Speaker:
    """A model folder that talks: the fine-tuned model (with its classification head) or an untouched base model.

    Args:
        folder: models/jaegpt or data/base_model.
        num_history: turns of a history that the model is shown, `dataset.num_history`.
        block_size: tokens of a history and its reply together, at most; `block_size`.
        token_types: whether the model was trained with the seed's token types, `train.token_types`.
        learn: what it learned from, `dataset.learn`; first words are learned from sessions alone.
        separator: what keeps a turn's messages apart, `session.separator`.
        device: where it runs, not XLA; by default as JAEGPT_DEVICE says.

    Raises:
        JaegptError: the folder holds no model that can be loaded.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_history: int = 4,
        block_size: int = 128,
        token_types: bool = False,
        learn: Learn = "replies",
        separator: Separator = "space",
        device: Device | None = None,
    ) -> None:
        self.device = device or choose_device("auto", eager=True)
        assert self.device.kind != "xla", "it would compile a program for the shapes of every token"
        self.model, self.has_head = _load_model(Path(folder), self.device, token_types)
        self.encoder = Encoder(folder, JOINTS[separator])
        self.learn, self.separator = learn, separator
        numbers = self.encoder.tokenizer.get_vocab(with_added_tokens=True).values()
        check_numbers(folder, self.model.lm, max(numbers, default=-1) + 1)
        self.num_history = num_history
        self.block_size = block_size
        self._stop = self.encoder.end_of_turn[-1]
        self._never = torch.tensor(sorted(self.encoder.controls - {self._stop}), device=self._at, dtype=torch.long)

    @property
    def _at(self) -> torch.device:
        return self.device.torch_device

    @property
    def view(self) -> dict[str, Any]:
        """What the replies depend on beside the settings and the messages."""
        shown = {"num_history": self.num_history, "block_size": self.block_size}
        return {**shown, "learn": self.learn, "separator": self.separator}

    def replies(self, histories: Sequence[Sequence[Turn]], config: GenerateConfig, seed: int) -> list[Reply]:
        """One reply for each history, in their order.

        A history's random numbers depend on `seed` and its own tokens alone, not on the others of the call; in bf16
        the logits themselves still vary in their last digits with the size of the batch.

        Args:
            histories: turns (is_owner, text), oldest first.

        Raises:
            JaegptError: a history is empty, or `config.max_tokens` leaves no room for one.
        """
        prompts = [self.prompt(history, config) for history in histories]
        # Prompts of like length are decoded together, because shorter ones are padded to the longest of their batch.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
        size = max(1, BATCH_ROWS // config.candidates)
        replies: dict[int, Reply] = {}
        for first in range(0, len(order), size):
            part = order[first : first + size]
            events = self.converse([prompts[index] for index in part], config, [seed] * len(part))
            replies |= {part[place]: event for place, event in events if isinstance(event, Reply)}
        return [replies[index] for index in range(len(prompts))]

    def stream(self, history: Sequence[Turn], config: GenerateConfig, seed: int) -> Iterator[str]:
        """The reply that `replies` would give, in pieces as they come; among several candidates, in one."""
        for _, event in self.converse([self.prompt(history, config)], config, [seed]):
            if isinstance(event, str):
                yield event

    def score(self, history: Sequence[Turn], replies: Sequence[str], config: GenerateConfig) -> list[float]:
        """The classification head's score of each reply to the history: the higher, the likelier the owner's.

        Raises:
            JaegptError: the folder has no classification head.
        """
        prompt = self.prompt(history, config)
        return self._scores([prompt], [list(replies)])[0]

    def prompt(self, history: Sequence[Turn], config: GenerateConfig) -> Prompt:
        """The last turns of a history as training encoded them, cut so that a reply still fits the block.

        After no turns the model speaks first, if it has learned to.

        Raises:
            JaegptError: it has not, or there is no room.
        """
        if not history:
            return self._first_words()
        room = self.block_size - config.max_tokens - len(self.encoder.end_of_turn)
        return make_prompt(self.encoder, history, self.num_history, room)

    def _first_words(self) -> Prompt:
        if self.learn != "sessions":
            raise JaegptError(
                "there is nothing to reply to: the conversation is empty, and this model never learned to speak first. "
                "Set dataset.learn to sessions and run `dvc repro`, or say something."
            )
        ids, roles = encode_history(self.encoder, [])
        return Prompt(ids=ids, roles=roles, shortened=False)

    @torch.inference_mode()
    def converse(
        self, prompts: Sequence[Prompt], config: GenerateConfig, seeds: Sequence[int]
    ) -> Iterator[tuple[int, str | Reply]]:
        """Reply to all prompts side by side.

        Yields:
            (number of the prompt, a piece of its reply's text) as they come, and (number, Reply) at each one's end.
        """
        k = config.candidates if self.has_head else 1  # without a head there is nothing to choose by
        written: list[list[int]] = [[] for _ in range(len(prompts) * k)]
        ended = [False] * len(written)
        said = [""] * len(prompts)
        draws = np.concatenate(
            [uniform_draws(prompt.ids, seed, k, config.max_tokens) for prompt, seed in zip(prompts, seeds, strict=True)]
        )
        for row, token in decode(self.model, prompts, draws, partial(self._draw, config), self._stop):
            if token == self._stop:
                ended[row] = True
            else:
                written[row].append(token)
            if k > 1:  # nothing to show yet: which candidate it will be is known when all have ended
                continue
            text = self._text(written[row])
            if len(text) > len(said[row]):
                yield row, text[len(said[row]) :]
                said[row] = text
            if ended[row] or len(written[row]) == config.max_tokens:
                yield row, self._reply(prompts[row], written[row], ended[row], None)
        if k > 1:
            yield from self._choose(prompts, written, ended, k)

    def _choose(
        self, prompts: Sequence[Prompt], written: list[list[int]], ended: list[bool], k: int
    ) -> Iterator[tuple[int, str | Reply]]:
        """Each prompt's candidate that the classification head likes best."""
        candidates = [[self._text(ids) for ids in written[first : first + k]] for first in range(0, len(written), k)]
        for number, (prompt, scores) in enumerate(zip(prompts, self._scores(prompts, candidates), strict=True)):
            best = int(np.argmax(scores))
            row = number * k + best
            reply = self._reply(prompt, written[row], ended[row], scores[best])
            yield number, reply.text
            yield number, reply

    def _reply(self, prompt: Prompt, ids: list[int], ended: bool, score: float | None) -> Reply:
        return Reply(
            text=self._text(ids),
            score=score,
            num_tokens=len(ids),
            prompt_tokens=len(prompt.ids),
            finished=ended,
            shortened=prompt.shortened,
        )

    def _text(self, ids: list[int]) -> str:
        """The text so far. A character whose last bytes are still to come is left out, so that texts only grow."""
        return clean_text(self.encoder.tokenizer.decode(ids, skip_special_tokens=True).replace("\ufffd", ""))

    def _draw(self, config: GenerateConfig, logits: Tensor, written: Tensor, draws: Tensor) -> Tensor:
        """The next token of each row: logits [rows, vocabulary], written [rows, step], draws [rows] -> [rows]."""
        logits = logits.float()
        logits[:, self._never] = -torch.inf
        if not written.shape[1]:
            logits[:, self._stop] = -torch.inf  # a reply has at least one token
        if config.no_repeat_ngram:
            logits = NoRepeatNGramLogitsProcessor(config.no_repeat_ngram)(written, logits)
        return sample(logits, draws, top_p=config.top_p, top_k=config.top_k, temperature=config.temperature)

    def _scores(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """The classification head's scores, from packed rows as in training: one row per prompt."""
        if not self.has_head:
            raise JaegptError("this model has no classification head, so it cannot score replies.")
        examples = [
            Example(
                example_id="",
                history=np.array(prompt.ids),
                roles=np.array(prompt.roles),
                candidates=[np.array(encode_candidate(self.encoder, text)) for text in texts],
            )
            for prompt, texts in zip(prompts, candidates, strict=True)
        ]
        (packed,) = Plan(examples, [[[number] for number in range(len(examples))]]).parts(0)
        batch = to_tensors(packed, self._at, self.device.dtype, fixed_shapes=True)
        with torch.inference_mode():
            scores = self.model.scores(self.model.trunk(batch), batch)[:, 0]  # [prompts, candidates]
        return [row[: len(texts)] for row, texts in zip(scores.tolist(), candidates, strict=True)]


def _load_model(folder: Path, device: Device, token_types: bool) -> tuple[DoubleHeads, bool]:
    """The model in the device's precision, ready to speak, and whether the folder brought a classification head.

    Raises:
        JaegptError: there is no model, or it is not one that this version can read.
    """
    if not (folder / "config.json").is_file():
        raise JaegptError(f"{folder}: no trained model yet. Run `dvc repro`.")
    has_head = (folder / HEAD_FILE).is_file()
    # A base model's head is drawn at random and never asked.
    model = load_tuned(folder, token_types) if has_head else load_base(folder, 0, token_types)
    round_weights(model, device.dtype)
    return model.to(device.torch_device).eval(), has_head
