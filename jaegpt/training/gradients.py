"""Whether the two tasks pull the decoder the same way: norms of their gradients and the cosine between them."""

from collections.abc import Sequence

import torch

from jaegpt.training.heads import DoubleHeads, TensorBatch
from jaegpt.training.packing import Example, Plan, subset
from jaegpt.training.runtime import Runtime

GRADIENT_EXAMPLES = 8


def probe_batch(examples: Sequence[Example], seed: int, runtime: Runtime) -> TensorBatch:
    """A few training examples, the same at each probe."""
    chosen = subset(examples, GRADIENT_EXAMPLES, seed)
    (packed,) = Plan.once(chosen, GRADIENT_EXAMPLES, runtime.rows).parts(0)
    return runtime.place_batch(packed)


def compare_gradients(model: DoubleHeads, probe: TensorBatch) -> tuple[float, float, float]:
    """Norms of the two tasks' gradients (unweighted) over the decoder's trained weights, and their cosine."""
    model.eval()
    losses = model(probe, 1.0, 1.0)
    weights = [weight for weight in model.lm.parameters() if weight.requires_grad]
    of_lm = torch.autograd.grad(losses.lm, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
    of_mc = torch.autograd.grad(losses.mc, weights, materialize_grads=True, allow_unused=True)
    model.train()
    products = [
        torch.stack([(a.float() * b.float()).sum() for a, b in zip(*pair, strict=True)])
        for pair in ((of_lm, of_lm), (of_mc, of_mc), (of_lm, of_mc))
    ]
    # [3, weights]: one copy to the host instead of three per weight.
    square_lm, square_mc, dot = map(sum, torch.stack(products).tolist())
    norms = square_lm**0.5, square_mc**0.5
    return norms[0], norms[1], dot / max(norms[0] * norms[1], 1e-30)
