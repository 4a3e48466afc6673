"""What training does to need less memory: the same gradients from less that is kept."""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.models import CPU, TRAIN_CONFIG, random_examples, recording_gradients, tiny_heads
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from jaegpt.errors import JaegptError
from jaegpt.training.config import Task
from jaegpt.training.heads import DoubleHeads, to_tensors
from jaegpt.training.loop import train
from jaegpt.training.lora import add_adapters
from jaegpt.training.packing import Plan
from jaegpt.training.recomputing import recompute_layers

TASK = Task(w_lm=1.0, w_mc=0.5, seed=7, train=random_examples(30), valid=random_examples(9, seed=4))
VOCABULARY, HIDDEN, LAYERS = 97, 32, 8


def llama() -> DoubleHeads:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    return DoubleHeads(LlamaForCausalLM(config), torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("lora_rank", "accumulation"), [(0, 1), (4, 1), (0, 3)])
def test_layers_computed_again_give_the_same_gradients(lora_rank: int, accumulation: int, tiny: Path) -> None:
    """To the bit, with dropout: what is drawn when a layer is computed again is what was drawn before."""
    logs, gradients = [], []
    for recomputing in (False, True):
        model = tiny_heads(tiny, dropout=True)
        if lora_rank:
            add_adapters(model, lora_rank, seed=7)
        config = dataclasses.replace(TRAIN_CONFIG, accumulation=accumulation, checkpoint_activations=recomputing)
        with pytest.MonkeyPatch.context() as patch:
            gradients.append(recording_gradients(patch, model))
            logs.append(train(model, TASK, config, CPU))
    assert len(gradients[0]) == len(gradients[1]) == 8
    assert logs[1].train == logs[0].train
    assert logs[1].valid == logs[0].valid
    assert logs[1].gradients == logs[0].gradients
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        assert len(found) >= 18
        assert found.keys() == expected.keys()
        assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())


def saved_bytes(model: DoubleHeads) -> tuple[int, int]:
    """Bytes that one step keeps for its backward pass, weights not counted, and tokens of the step."""
    (packed,) = Plan(TASK.train, [[list(range(8))]]).parts(0)
    batch = to_tensors(packed, CPU.torch_device, CPU.dtype)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(batch, 1.0, 0.5).weighted(1.0, 0.5)
    loss.backward()
    return sum(kept.values()), batch.ids.numel()


def test_of_layers_computed_again_only_what_goes_in_is_kept() -> None:
    plain, recomputed = llama(), llama()
    recompute_layers(recomputed.lm, "cpu")
    (before, tokens), (after, _) = saved_bytes(plain), saved_bytes(recomputed)
    # The hooks do not see the layers' inputs, which the checkpoints hold themselves.
    after += LAYERS * tokens * HIDDEN * 4
    layer = before / LAYERS
    assert tokens > 500
    assert layer > 10 * tokens * HIDDEN * 4
    assert after < 3 * layer, "the inputs, and what is kept outside of the layers"


def test_where_layers_cannot_be_computed_again_it_is_refused() -> None:
    with pytest.raises(JaegptError, match=r"train\.checkpoint_activations: .*no list of layers"):
        recompute_layers(torch.nn.Linear(2, 2), "cpu")
    with pytest.raises(JaegptError, match=r"train\.checkpoint_activations: not on XLA.*train\.accumulation"):
        recompute_layers(llama().lm, "xla")
