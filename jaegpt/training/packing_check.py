"""Whether a decoder can be trained packed, and by which attention: tried on the model itself."""

import jaegpt.environment  # noqa: F401

import json
from pathlib import Path

import numpy as np
import torch

from jaegpt.errors import JaegptError
from jaegpt.files import write_text
from jaegpt.training.heads import ATTENTION_KEY, DoubleHeads, cross_entropy, set_attention, to_tensors
from jaegpt.training.model_folder import load_base
from jaegpt.training.packing import Example, Plan

# How far apart two float32 results may be that differ in the order of summation alone; a decoder that ignores the
# packing is off by far more. A share of their norm, so that small weights hide nothing.
TOLERANCE = 1e-3
# Of a distractor. A decoder that masks for itself may look only so far back in a row (GPT-Neo: 256 tokens), whatever
# lies between a history and the reply.
_FAR = 300
_HISTORY = 5
_SHORT, _LONG = (2, 4), (_FAR, 4)
_CARRIES = "its layers carry a state from each token to the next, also from one example to its neighbour"
_PLACES = "its attention counts the places between two tokens of a row, not of a text"
# What is known of families that fail, by model_type: why, and what to take instead.
_KNOWN = {
    "bloom": (_PLACES, "Qwen 3"),
    "falcon with ALiBi": (_PLACES, "a Falcon with rotary positions, or Falcon 3 (Llama)"),
    "falcon_h1": (_CARRIES, "Falcon 3 (Llama)"),
    "gpt_neo": ("its local attention looks 256 places of a row back", "GPT-2 or Pythia (GPT-NeoX)"),
    "granitemoehybrid": (_CARRIES, "Granite 3, or Granite 4 micro without the H"),
    "jamba": (_CARRIES, "Mistral or Llama 3"),
    "lfm2": ("its short convolutions reach from one example into its neighbour", "SmolLM 2 or 3, or Qwen 3"),
    "llama4": ("its trunk cannot be called without its head", "Llama 3"),
    "mamba": (_CARRIES, "Pythia (GPT-NeoX)"),
    "mamba2": (_CARRIES, "Pythia (GPT-NeoX)"),
    "minimax": (_CARRIES, "Mixtral"),
    "mpt": (_PLACES, "Pythia (GPT-NeoX)"),
    "nemotron_h": (_CARRIES, "Nemotron without the H, or Llama 3"),
    "qwen3_5": (_CARRIES, "Qwen 3"),
    "qwen3_next": (_CARRIES, "Qwen 3 MoE"),
    "recurrent_gemma": (_CARRIES, "Gemma 2 or 3"),
    "rwkv": (_CARRIES, "Pythia (GPT-NeoX)"),
}


def check_base(folder: str | Path, token_types: bool, lora_rank: int) -> bool:
    """Refuse the base model in `folder` where it cannot be trained as asked, before any work is done for it.

    A decoder that needs a dense mask gets that written into its config.json.

    Returns:
        Whether it needs one, and so will be slower.

    Raises:
        JaegptError: it cannot.
    """
    path = Path(folder) / "config.json"
    try:
        model = load_base(folder, 0, token_types)
        if lora_rank > 0:
            from jaegpt.training.lora import add_adapters  # peft takes a second to load

            add_adapters(model, lora_rank, 0)
    except JaegptError:
        raise
    except Exception as error:  # code of an unknown decoder may raise anything
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type", "unknown")
        raise JaegptError(_refusal(kind, f"{type(error).__name__}: {error}")) from error
    before = model.dense
    check_decoder(model)
    if model.dense and not before:
        config = json.loads(path.read_text(encoding="utf-8")) | {ATTENTION_KEY: "dense"}
        write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it
    return model.dense


def check_decoder(model: DoubleHeads) -> None:
    """Compare two packed examples with the decoder's own logits, scores and losses, one candidate at a time.

    Where they differ, they are compared again with attention over a dense mask; where that is right, `model` and its
    configuration are set to use it.

    Args:
        model: in float32 on the CPU, with its adapters where it is to be trained with some.

    Raises:
        JaegptError: they differ both ways: the decoder has attention, positions or an output of its own kind.
    """
    if model.dense:
        problem = _problem(model, _LONG)
    elif (problem := _problem(model, _SHORT)) is not None:
        model.dense = True
        if _problem(model, _LONG) is None:
            setattr(model.lm.config, ATTENTION_KEY, "dense")
            return
        model.dense = False
    if problem is not None:
        config = model.lm.config
        kind = f"{config.model_type} with ALiBi" if getattr(config, "alibi", False) else config.model_type
        raise JaegptError(_refusal(kind, problem))


@torch.no_grad()
def _problem(model: DoubleHeads, lengths: tuple[int, ...]) -> str | None:
    """What differs, or the error on the way there; None where all is equal. lengths: of one example's candidates."""
    rng, config = np.random.default_rng(0), model.lm.config.get_text_config()
    # A sliding window is lifted by the mask; that it is not shorter than a block is checked elsewhere.
    seen = min(getattr(config, name, None) or _FAR for name in ("max_position_embeddings", "sliding_window"))
    lengths = tuple(min(length, max(1, seen - _HISTORY)) for length in lengths)
    shapes = ((_HISTORY, lengths), (3, (3, 1)))
    examples = [_example(rng, config.vocab_size, history, of) for history, of in shapes]
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
        set_attention(model.lm, "eager")
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
        return f"{type(error).__name__}: {error}"
    finally:
        model.train(was_training)
    return f"its packed {' and '.join(differing)} differ from its own" if differing else None


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
    known, instead = _KNOWN.get(kind.removesuffix("_text"), (None, None))
    reason = known or " ".join(why.split())[:200]
    choice = f"Take {instead} in its place" if instead else "Choose one of a family that can"
    return (
        f"model: a decoder of type {kind} cannot be trained packed ({reason}). {choice} (docs/families.md lists them)."
    )
