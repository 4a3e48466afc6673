"""Whether a decoder can be trained packed: tried on the model itself, and read from its configuration where a trial
would not show it."""

import jaegpt.environment  # noqa: F401

import json
from pathlib import Path

import numpy as np
import torch

from jaegpt.errors import JaegptError
from jaegpt.training.heads import DoubleHeads, cross_entropy, to_tensors
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing import Example, Plan

# How far apart two float32 results may be that differ in the order of summation alone; a decoder that ignores the
# packing is off by far more. A share of their norm, so that small weights hide nothing.
TOLERANCE = 1e-3
_CAPS = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
)  # without effect on small logits, so no comparison sees them


def check_base(folder: str | Path, token_types: bool, lora_rank: int) -> None:
    """Refuse the base model in `folder` where it cannot be trained as asked, before any work is done for it.

    Raises:
        JaegptError: it cannot.
    """
    try:
        model = load_base(folder, 0, token_types)
        if lora_rank > 0:
            from jaegpt.training.lora import add_adapters  # peft takes a second to load

            add_adapters(model, lora_rank, 0)
    except JaegptError:
        raise
    except Exception as error:  # code of an unknown decoder may raise anything
        kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("model_type", "unknown")
        raise JaegptError(_refusal(kind, f"{type(error).__name__}: {error}")) from error
    check_decoder(model)


@torch.no_grad()
def check_decoder(model: DoubleHeads) -> None:
    """Compare two short packed examples with the decoder's own logits, scores and losses, one candidate at a time.

    Args:
        model: in float32 on the CPU, with its adapters where it is to be trained with some.

    Raises:
        JaegptError: they differ: the decoder has attention, positions or an output of its own kind.
    """
    config = model.lm.config.get_text_config()
    kind = model.lm.config.model_type
    caps = [name for name in _CAPS if getattr(config, name, None)]
    if caps:
        raise JaegptError(_refusal(kind, f"its configuration sets {caps[0]}"))
    rng = np.random.default_rng(0)
    examples = [_example(rng, config.vocab_size, history, lengths) for history, lengths in ((5, (2, 4)), (3, (3, 1)))]
    (packed,) = Plan(examples, [[[0, 1]]]).parts(0)
    was_training = model.training
    model.eval()
    try:
        batch = to_tensors(packed, torch.device("cpu"), torch.float32)
        hidden = model.trunk(batch)
        logits, scores = (
            model.logits(hidden, batch)[batch.label != -100],
            model.scores(hidden, batch)[batch.score_at >= 0],
        )
        losses = model(batch, 1.0, 1.0)
        model.lm.set_attn_implementation("eager")
        plain = [_plain(model, example) for example in examples]
        plain_logits, plain_scores = torch.cat([each[0] for each in plain]), torch.cat([each[1] for each in plain])
        replies = torch.tensor([len(example.candidates) - 1 for example in examples])
        plain_losses = torch.stack(
            [
                cross_entropy(plain_logits, torch.from_numpy(np.concatenate([e.candidates[-1] for e in examples]))),
                cross_entropy(torch.stack([each[1] for each in plain]), replies),
            ]
        )
        assert losses.lm is not None
        assert losses.mc is not None
        pairs = {
            "logits": (logits, plain_logits),
            "scores": (scores, plain_scores),
            "losses": (torch.stack([losses.lm, losses.mc]), plain_losses),
        }
        differing = [name for name, (found, expected) in pairs.items() if not _same(found, expected)]
    except Exception as error:  # code of an unknown decoder may raise anything
        raise JaegptError(_refusal(kind, f"{type(error).__name__}: {error}")) from error
    finally:
        model.train(was_training)
    if differing:
        raise JaegptError(_refusal(kind, f"its packed {' and '.join(differing)} differ from its own"))


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).norm() <= TOLERANCE * expected.norm())


def _example(rng: np.random.Generator, vocabulary: int, history: int, lengths: tuple[int, ...]) -> Example:
    return Example(
        example_id="check",
        history=rng.integers(0, vocabulary, history),
        roles=np.zeros(history, np.int64),
        candidates=[rng.integers(0, vocabulary, length) for length in lengths],
    )


def _plain(model: DoubleHeads, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """The decoder's own logits for the reply, [reply tokens, vocabulary], and each candidate's score, [candidates]."""
    scores = []
    for candidate in example.candidates:
        ids = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
        extra = {}
        if model.token_types:
            types = np.concatenate([example.roles, np.ones(len(candidate), np.int64)])
            extra["token_type_ids"] = torch.from_numpy(types)[None]
        hidden = model.lm.base_model(input_ids=ids, use_cache=False, **extra).last_hidden_state
        scores.append(model.score(hidden[0, -1])[0])
    logits: torch.Tensor = model.lm(input_ids=ids, use_cache=False, **extra).logits
    return logits[0, len(example.history) - 1 : -1], torch.stack(scores)


def _refusal(kind: str, why: str) -> str:
    return (
        f"model: a decoder of type {kind} cannot be trained packed ({' '.join(why.split())[:200]}). "
        "Choose one of a family that can: GPT-2, GPT-NeoX, OPT, Llama, SmolLM, Mistral, Mixtral, Qwen 2 and 3, Gemma 1 "
        "and 3, Phi, OLMo, Starcoder2, GLM-4."
    )
