"""Replies from a model folder: one history or many, k candidates each, one of which is chosen."""

import jaegpt.environment  # noqa: F401

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jaegpt.dialogue.encode_table import encode_candidate, encode_history
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.dialogue.separators import JOINTS, Separator
from jaegpt.errors import JaegptError
from jaegpt.generation.decoding import ReadPrompts, decode, read_prompts
from jaegpt.generation.prompts import Prompt, clean_text, make_prompt
from jaegpt.generation.recorded import Recordings
from jaegpt.generation.sampling import sample, uniform_draws, without_repeats
from jaegpt.generation.settings import GenerateConfig
from jaegpt.model_files import check_numbers
from jaegpt.training.config import Learn
from jaegpt.training.devices import Device, choose_device
from jaegpt.training.heads import DoubleHeads, round_weights, to_tensors
from jaegpt.training.model_folder import HEAD_FILE, load_base, load_tuned
from jaegpt.training.packing import Example, Plan

BATCH_ROWS = 64  # decoded side by side; twice as many where guided settings are tried beside others
RECENT = 5  # of its own last turns that a reply is not to repeat
DRAWS = 3  # at most, until a reply repeats none


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply, and how it was made.

    score: what it was chosen by among several candidates, the classification head's score or its fit; else None.
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


@dataclass
class _Candidate:
    """A reply on its way. fit: how much likelier its context makes it, in nats. shown: characters given out."""

    ids: list[int] = dataclasses.field(default_factory=list)
    ended: bool = False
    fit: float = 0.0
    shown: int = 0

    def take(self, token: int, gain: float, stop: int) -> None:
        self.fit += gain
        if token == stop:
            self.ended = True
        else:
            self.ids.append(token)


def batch_size(config: GenerateConfig) -> int:
    """How many histories are replied to side by side."""
    return max(1, BATCH_ROWS // (config.candidates * (2 if config.needs_free else 1)))


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
        self._begin = Recordings(self.model).begin if self.device.kind == "cuda" else None
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
        return self.replies_under(histories, [config], seed)[0]

    @torch.inference_mode()
    def replies_under(
        self, histories: Sequence[Sequence[Turn]], configs: Sequence[GenerateConfig], seed: int
    ) -> list[list[Reply]]:
        """[configs][histories]: what `replies` gives under each of several settings; each history is read once.

        The settings have one `max_tokens`, on which it depends how much of a history is shown.
        """
        assert len({config.max_tokens for config in configs}) == 1
        prompts = [self.prompt(history, configs[0]) for history in histories]
        free = next(filter(None, map(self._free, configs)), None)
        # Prompts of like length are decoded together, because shorter ones are padded to the longest of their batch.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
        size = max(map(batch_size, configs))
        replies: list[dict[int, Reply]] = [{} for _ in configs]
        hidden = None if len(configs) > 1 else True  # None: shown on terminals
        for first in tqdm(range(0, len(order), size), desc="drawing", unit="batch", disable=hidden):
            part = order[first : first + size]
            asked = [prompts[index] for index in part]
            read = read_prompts(self.model, asked, free)
            for config, found in zip(configs, replies, strict=True):
                events = self.converse(asked, config, [seed] * len(part), read)
                found |= {part[place]: event for place, event in events if isinstance(event, Reply)}
        return [[found[index] for index in range(len(prompts))] for found in replies]

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
            JaegptError: it has not, or there is no room, or `config` needs first words for another reason.
        """
        self._free(config)
        if not history:
            return self._first_words(
                "there is nothing to reply to: the conversation is empty, and this model never learned to speak first. "
                "Set dataset.learn to sessions and run `dvc repro`, or say something."
            )
        room = self.block_size - config.max_tokens - len(self.encoder.end_of_turn)
        prompt = make_prompt(self.encoder, history, self.num_history, room)
        own = [text for is_owner, text in history if is_owner]
        return dataclasses.replace(prompt, recent=tuple(own[-RECENT:]))

    def _free(self, config: GenerateConfig) -> Prompt | None:
        """The empty history after which replies are computed a second time, where the settings need that."""
        if not config.needs_free:
            return None
        needs = "rerank fit" if config.guidance == 1 else f"guidance {config.guidance:g}"
        return self._first_words(
            f"generate: {needs} compares replies with first words, and this model never learned any. Set guidance to 1 "
            "and rerank to head or none, or dataset.learn to sessions and run `dvc repro`."
        )

    def _first_words(self, otherwise: str) -> Prompt:
        """After an empty history, as training encoded it; the error `otherwise` where training never did."""
        if self.learn != "sessions":
            raise JaegptError(otherwise)
        ids, roles = encode_history(self.encoder, [])
        return Prompt(ids=ids, roles=roles)

    @torch.inference_mode()
    def converse(
        self, prompts: Sequence[Prompt], config: GenerateConfig, seeds: Sequence[int], read: ReadPrompts | None = None
    ) -> Iterator[tuple[int, str | Reply]]:
        """Reply to all prompts side by side.

        A reply that equals one of the prompt's recent turns is drawn again, with random numbers of its own, and the
        last of DRAWS stands: what the model would nearly always say it may say again. Until a reply differs from all
        of them nothing of it is shown, so that what has been shown never changes.

        Args:
            read: the prompts, where they have been read already.

        Yields:
            (number of the prompt, a piece of its reply's text) as they come, and (number, Reply) at each one's end.
        """
        waiting = list(range(len(prompts)))
        for attempt in range(DRAWS):
            asked = [prompts[number] for number in waiting]
            if attempt + 1 == DRAWS:
                asked = [dataclasses.replace(prompt, recent=()) for prompt in asked]
            repeated = []
            if attempt or read is None:
                read = read_prompts(self.model, asked, self._free(config))
            for place, event in self._write(asked, config, [seeds[number] for number in waiting], attempt, read):
                if event is None:
                    repeated.append(waiting[place])
                else:
                    yield waiting[place], event
            if not repeated:
                return
            waiting = repeated

    def _write(
        self,
        prompts: Sequence[Prompt],
        config: GenerateConfig,
        seeds: Sequence[int],
        attempt: int,
        read: ReadPrompts,
    ) -> Iterator[tuple[int, str | Reply | None]]:
        """As `converse`, with None in the place of a reply that repeats a recent turn."""
        k = self._num_candidates(config)
        rows = [_Candidate() for _ in range(len(prompts) * k)]
        numbers = range(attempt * k, (attempt + 1) * k)
        draws = np.concatenate(
            [
                uniform_draws(prompt.ids, seed, numbers, config.max_tokens)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
        )
        draw, guidance = partial(self._draw, config), config.guidance if config.needs_free else None
        for number, token, gain in decode(self.model, read, draws, draw, self._stop, guidance, self._begin):
            row = rows[number]
            row.take(token, gain, self._stop)
            if k > 1:  # nothing to show yet: which candidate it will be is known when all have ended
                continue
            prompt, text = prompts[number], self._text(row.ids)
            if row.ended or len(row.ids) == config.max_tokens:
                yield from self._end(number, prompt, row, text, None)
            elif len(text) > row.shown and not any(said.startswith(text) for said in prompt.recent):
                yield number, text[row.shown :]
                row.shown = len(text)
        if k > 1:
            yield from self._choose(prompts, rows, config)

    def _num_candidates(self, config: GenerateConfig) -> int:
        """Without a classification head there is nothing to choose by, unless replies are chosen by their fit."""
        return 1 if config.rerank == "head" and not self.has_head else config.candidates

    def _choose(
        self, prompts: Sequence[Prompt], rows: Sequence["_Candidate"], config: GenerateConfig
    ) -> Iterator[tuple[int, str | Reply | None]]:
        """Each prompt's best candidate, of those that repeat no recent turn where there are any."""
        k = config.candidates
        of_prompts = [rows[first : first + k] for first in range(0, len(rows), k)]
        texts = [[self._text(row.ids) for row in candidates] for candidates in of_prompts]
        if config.rerank == "head":
            scores = self._scores(prompts, texts)
        else:
            scores = [[row.fit for row in candidates] for candidates in of_prompts]
        for number, prompt in enumerate(prompts):
            new = [text not in prompt.recent for text in texts[number]]
            best = max(range(k), key=lambda index: (new[index], scores[number][index]))
            yield from self._end(number, prompt, of_prompts[number][best], texts[number][best], scores[number][best])

    def _end(
        self, number: int, prompt: Prompt, row: "_Candidate", text: str, score: float | None
    ) -> Iterator[tuple[int, str | Reply | None]]:
        """The rest of a reply's text and the Reply, or None where it repeats a recent turn."""
        if text in prompt.recent:
            yield number, None
            return
        if len(text) > row.shown:
            yield number, text[row.shown :]
        yield (
            number,
            Reply(
                text=text,
                score=score,
                num_tokens=len(row.ids),
                prompt_tokens=len(prompt.ids),
                finished=row.ended,
                shortened=prompt.shortened,
            ),
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
            without_repeats(logits, written, config.no_repeat_ngram)
        return sample(
            logits,
            draws,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            temperature=config.temperature,
        )

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
