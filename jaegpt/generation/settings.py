"""How replies are drawn: the concrete settings, section `generate` of params.yaml, and what `calibrate` found."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jaegpt.errors import JaegptError

MOST_CANDIDATES = 32
TO_CHOOSE_FROM = 4  # candidates where `rerank` is given and they are not
FOUND = Path("models/generation_config.json")  # written by stage `calibrate`, beside the model's folder

Rerank = Literal["none", "head", "fit"]
Auto = Literal["auto"]
RERANKS: tuple[Rerank, ...] = get_args(Rerank)


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How replies are sampled.

    top_p: draw from the fewest tokens that together have this probability; 1: from all.
    top_k: and from the k likeliest at most; 0: any number.
    min_p: and from those at least this many times as probable as the likeliest (Nguyen et al., arXiv 2407.01082);
        0: from all.
    temperature: logits are divided by it; 0: always the likeliest token.
    guidance: logits are free + guidance * (in context - free), where `free` are those of the same reply after an empty
        history (Sanchez et al., arXiv 2306.17806); 1: as the model has them, above 1: closer to the context.
    no_repeat_ngram: no n tokens in a row occur twice in a reply; 0: they may.
    max_tokens: a reply's tokens at most, without what ends its turn.
    candidates: how many replies are drawn to choose from; 1: no choice.
    rerank: which of them is taken. head: the classification head's favourite. fit: the one that its context makes
        likelier by most, log p(reply | context) - log p(reply | no context) (Li et al., arXiv 1510.03055, with their
        weight at 1). none: there is but one.
    """

    top_p: float
    top_k: int
    min_p: float = 0.0
    temperature: float
    guidance: float = 1.0
    no_repeat_ngram: int
    max_tokens: int
    candidates: int
    rerank: Rerank = "none"

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is a probability, above 0 and at most 1, found {self.top_p:g}.")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, found {self.min_p:g}.")
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature must be from 0 to 100, found {self.temperature:g}.")
        if not 0 <= self.guidance <= 10:
            raise ValueError(f"guidance must be from 0 to 10, found {self.guidance:g}. 1 turns it off.")
        for name in ("top_k", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative, found {getattr(self, name)}. 0 turns it off.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, found {self.max_tokens}.")
        if not 1 <= self.candidates <= MOST_CANDIDATES:
            raise ValueError(f"candidates must be from 1 to {MOST_CANDIDATES}, found {self.candidates}.")
        if self.rerank not in RERANKS:
            raise ValueError(f"rerank must be one of {', '.join(RERANKS)}, found {self.rerank}.")
        if self.rerank == "none" and self.candidates > 1:
            raise ValueError(
                f"rerank is none, so nothing chooses among {self.candidates} candidates. Set it to head or fit, or "
                "candidates to 1."
            )

    @property
    def needs_free(self) -> bool:
        """Whether each reply is also computed after an empty history, in a row of its own."""
        return self.guidance != 1 or (self.rerank == "fit" and self.candidates > 1)


# What `auto` means before `calibrate` has measured anything.
DEFAULT = GenerateConfig(top_p=0.98, top_k=0, temperature=0.95, no_repeat_ngram=3, max_tokens=60, candidates=1)


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """Section `generate` of params.yaml: each field of GenerateConfig, or `auto` for what `calibrate` found."""

    top_p: float | Auto
    top_k: int | Auto
    min_p: float | Auto
    temperature: float | Auto
    guidance: float | Auto
    no_repeat_ngram: int | Auto
    max_tokens: int | Auto
    candidates: int | Auto
    rerank: Rerank | Auto

    def __post_init__(self) -> None:
        # Each given value by itself: whether candidates and rerank go together is known once both are.
        GenerateConfig(**{**dataclasses.asdict(DEFAULT), "rerank": "head", **self._given()})

    def resolved(self, found: Mapping[str, Any] | None) -> GenerateConfig:
        """The settings to draw with.

        Args:
            found: what `found_settings` read; None before there is anything.

        Raises:
            JaegptError: a given value does not go with one that was found.
        """
        values = {**(dataclasses.asdict(DEFAULT) if found is None else found), **self._given()}
        if self.candidates == "auto" and self.rerank != "auto":
            values["candidates"] = 1 if self.rerank == "none" else max(values["candidates"], TO_CHOOSE_FROM)
        try:
            return GenerateConfig(**values)
        except ValueError as error:
            raise JaegptError(f"generate.{error}") from None

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value != "auto"}


def found_settings(path: str | Path = FOUND) -> Mapping[str, Any] | None:
    """The settings that `calibrate` chose, a value for each field of GenerateConfig; None where it has not run.

    Raises:
        JaegptError: the file is there and does not hold them.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["jaegpt"]
        kinds = {field.name: str if field.name == "rerank" else field.type for field in dataclasses.fields(DEFAULT)}
        wrong = [name for name, kind in kinds.items() if not _fits(found[name], kind)]
        if wrong or set(found) != set(kinds):
            raise ValueError(", ".join(wrong or sorted(set(found) - set(kinds))))
        return dataclasses.asdict(GenerateConfig(**found))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise JaegptError(
            f"{path}: does not hold the settings that `calibrate` writes ({why}). Run `dvc repro --force calibrate`."
        ) from None


def _fits(value: Any, kind: Any) -> bool:
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def generation_config(chosen: GenerateConfig, without_guidance: GenerateConfig) -> dict[str, Any]:
    """The content of models/generation_config.json, which transformers, vLLM and others read beside a model.

    Args:
        chosen: what chat, page, server and fidelity draw with; it stands under `jaegpt`, which others ignore.
        without_guidance: the best settings for programs that have no guidance and draw a single reply.
    """
    plain = without_guidance
    sampling = {"temperature": plain.temperature, "top_p": plain.top_p, "top_k": plain.top_k, "min_p": plain.min_p}
    return {
        "do_sample": plain.temperature > 0,
        # transformers warns of settings of a draw where nothing is drawn.
        **(sampling if plain.temperature > 0 else {}),
        "no_repeat_ngram_size": plain.no_repeat_ngram,
        "max_new_tokens": plain.max_tokens,
        "jaegpt": dataclasses.asdict(chosen),
    }
