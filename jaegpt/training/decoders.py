"""Whether a decoder can be trained packed: asked of the model itself, since nothing in its configuration tells."""

import numpy as np
import torch

from jaegpt.errors import JaegptError
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.packing import Example, pack, shape_of

TOLERANCE = (
    1e-3  # of float32 logits between two orders of summation; a decoder that ignores the packing is off by far more
)


@torch.no_grad()
def check_decoder(model: DoubleHeads, block_size: int) -> None:
    """Compare packed logits of two short examples with the decoder's own, one candidate at a time.

    Args:
        model: in float32 on the CPU.

    Raises:
        JaegptError: they differ (the decoder has attention, positions or an output of its own kind), or the decoder
            cannot see a whole block.
    """
    config = model.lm.config
    kind = config.model_type
    positions = getattr(config, "max_position_embeddings", None) or block_size
    if block_size > positions:
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model has {positions:,} positions. Lower it.")
    window = getattr(config, "sliding_window", None)
    if window and window < block_size and getattr(config, "use_sliding_window", True):
        raise JaegptError(f"block_size: {block_size:,} tokens, but the model sees only {window:,} back. Lower it.")
    rng = np.random.default_rng(0)
    examples = [_example(rng, config.vocab_size, history, lengths) for history, lengths in ((5, (2, 4)), (3, (3, 1)))]
    packed = pack([[0, 1]], examples, shape_of([[[0, 1]]], examples))
    was_training = model.training
    model.eval()
    try:
        batch = to_tensors(packed, torch.device("cpu"), torch.float32)
        found = model.logits(model.trunk(batch), batch)[batch.label != -100]
        model.lm.set_attn_implementation("eager")
        expected = torch.cat([_plain_logits(model, example) for example in examples])
        same = found.shape == expected.shape and torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    except Exception as error:  # whatever a decoder of another build trips over
        raise JaegptError(_refusal(kind, f"{type(error).__name__}: {error}")) from error
    finally:
        model.train(was_training)
    if not same:
        raise JaegptError(_refusal(kind, "its packed logits differ from its own"))


def _example(rng: np.random.Generator, vocabulary: int, history: int, lengths: tuple[int, ...]) -> Example:
    return Example(
        example_id="check",
        history=rng.integers(0, vocabulary, history),
        roles=np.zeros(history, np.int64),
        candidates=[rng.integers(0, vocabulary, length) for length in lengths],
    )


def _plain_logits(model: DoubleHeads, example: Example) -> torch.Tensor:
    """The decoder's own logits for the reply alone after its history: [reply tokens, vocabulary]."""
    ids = torch.from_numpy(np.concatenate([example.history, example.candidates[-1]]))[None]
    extra = {}
    if model.token_types:
        types = np.concatenate([example.roles, np.ones(len(example.candidates[-1]), np.int64)])
        extra["token_type_ids"] = torch.from_numpy(types)[None]
    logits: torch.Tensor = model.lm(input_ids=ids, use_cache=False, **extra).logits
    return logits[0, len(example.history) - 1 : -1]


def _refusal(kind: str, why: str) -> str:
    return (
        f"model: a decoder of type {kind} cannot be trained packed ({' '.join(why.split())[:200]}). "
        "Choose one of the GPT-2, Llama, Mistral, Qwen, Gemma 1, Phi, OLMo or OPT families."
    )
