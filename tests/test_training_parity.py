"""Packed training equals the seed's padded layout: losses and gradients, GPT-2 and Llama families."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.models import random_examples
from torch import nn
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.padded import padded
from jaegpt.training.attention import segment_attention, segments_of
from jaegpt.training.heads import DoubleHeads, TensorBatch, to_tensors
from jaegpt.training.packing import Example, Plan, plan_epoch

VOCABULARY, BLOCK = 97, 128
CPU = torch.device("cpu")


def make_examples(count: int, num_distractors: int, longest_history: int) -> list[Example]:
    return random_examples(count, num_distractors, longest_history, VOCABULARY)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=BLOCK, n_embd=24, n_layer=3, n_head=2, initializer_range=0.3,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, summary_first_dropout=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=BLOCK, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def double_heads(lm: torch.nn.Module, token_types: bool = False) -> DoubleHeads:
    return DoubleHeads(lm, torch.Generator().manual_seed(2), token_types).eval()


def packed(examples: list[Example], rows: int = 1, fixed_shapes: bool = False) -> TensorBatch:
    plan = plan_epoch([len(example) for example in examples], len(examples), rows, np.random.default_rng(0))
    (batch,) = Plan(examples, plan).parts(0)
    return to_tensors(batch, CPU, torch.float32, fixed_shapes)


def gradients(model: DoubleHeads, batch: TensorBatch, w_lm: float, w_mc: float) -> dict[str, torch.Tensor]:
    model.zero_grad()
    losses = model(batch, w_lm, w_mc)
    total = sum(w * loss for w, loss in ((w_lm, losses.lm), (w_mc, losses.mc)) if loss is not None)
    total.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], within: float = 1e-4) -> None:
    assert len(found) > 10
    for name, gradient in found.items():
        if name == "score.bias":  # a softmax does not change when all its scores move: this gradient is rounding noise
            assert max(gradient.abs(), expected[name].abs()) < 1e-6
            continue
        error = (gradient - expected[name]).norm() / expected[name].norm().clamp(min=1e-6)
        assert error < within, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("token_types", [False, True])
@pytest.mark.parametrize(
    ("num_distractors", "longest_history", "rows"), [(3, 60, 1), (3, 60, 2), (0, 30, 1), (1, 2, 1), (7, 90, 1)]
)
def test_packed_gpt2_equals_double_heads_on_the_seeds_padded_layout(
    token_types: bool, num_distractors: int, longest_history: int, rows: int
) -> None:
    examples = make_examples(6, num_distractors, longest_history)
    lm = gpt2()
    model = double_heads(copy.deepcopy(lm), token_types)
    reference = GPT2DoubleHeadsModel(lm.config).eval()
    reference.transformer.load_state_dict(lm.transformer.state_dict())
    reference.multiple_choice_head.summary.load_state_dict(model.score.state_dict())
    inputs = padded(examples, BLOCK)
    if not token_types:
        del inputs["token_type_ids"]

    expected = reference(**inputs)
    found = model(packed(examples, rows), 1.0, 1.0)
    assert found.lm.item() == pytest.approx(expected.loss.item(), abs=1e-5)
    assert found.mc.item() == pytest.approx(expected.mc_loss.item(), abs=1e-5)

    (0.7 * expected.loss + 1.3 * expected.mc_loss).backward()
    named = {name: weight.grad for name, weight in reference.named_parameters() if weight.grad is not None}
    renamed = {
        name.replace("transformer.", "lm.transformer.").replace("multiple_choice_head.summary", "score"): gradient
        for name, gradient in named.items()
    }
    assert_close(gradients(model, packed(examples, rows), 0.7, 1.3), renamed)


@pytest.mark.parametrize(("num_distractors", "longest_history"), [(3, 60), (0, 30), (7, 90)])
def test_packed_llama_equals_one_candidate_at_a_time(num_distractors: int, longest_history: int) -> None:
    examples = make_examples(5, num_distractors, longest_history)
    model = double_heads(llama())
    one_by_one = copy.deepcopy(model)
    one_by_one.lm.set_attn_implementation("eager")
    token_losses, choice_losses = [], []
    for example in examples:
        scores = []
        for candidate in example.candidates:
            ids = torch.from_numpy(np.concatenate([example.history, candidate]))[None]
            hidden = one_by_one.lm.base_model(input_ids=ids).last_hidden_state
            scores.append(one_by_one.score(hidden[0, -1])[0])
        logits = one_by_one.lm.lm_head(hidden)[0, len(example.history) - 1 : -1]
        reply = torch.from_numpy(example.candidates[-1])
        token_losses.append(torch.nn.functional.cross_entropy(logits, reply, reduction="none"))
        choice_losses.append(torch.nn.functional.cross_entropy(torch.stack(scores), torch.tensor(len(scores) - 1)))
    lm, mc = torch.cat(token_losses).mean(), torch.stack(choice_losses).mean()

    found = model(packed(examples), 1.0, 1.0)
    assert found.lm.item() == pytest.approx(lm.item(), abs=1e-5)
    assert found.mc.item() == pytest.approx(mc.item(), abs=1e-5)
    (lm + mc).backward()
    expected = {name: weight.grad for name, weight in one_by_one.named_parameters() if weight.grad is not None}
    found_gradients = gradients(model, packed(examples), 1.0, 1.0)
    if not num_distractors:  # one candidate: nothing to choose, so the head learns nothing
        assert not found_gradients.pop("score.weight").any()
        assert not expected.pop("score.weight").any()
    assert_close(found_gradients, expected)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("rows", [1, 3])
def test_lined_up_attention_equals_a_dense_block_mask(make, rows: int) -> None:
    examples = make_examples(7, 3, 50)
    model = double_heads(make())
    lined_up, dense = packed(examples, rows), packed(examples, rows, fixed_shapes=True)
    assert lined_up.segments is not None
    assert dense.segments is None
    assert_close(gradients(model, lined_up, 1.0, 0.5), gradients(model, dense, 1.0, 0.5))


@pytest.mark.parametrize(("biased", "most"), [(True, 0.02), (False, 10.0)])
def test_an_offset_that_all_keys_share_is_not_rounded_into_the_scores(biased: bool, most: float) -> None:
    """As in Qwen 2: with such offsets plain bf16 scores are far off (of which the second case makes sure)."""
    torch.manual_seed(3)
    (batch,) = Plan.once(make_examples(7, 3, 50), 7).parts(0)
    rows, width = batch.ids.shape
    query, key, value = (torch.randn(rows, heads, width, 32) for heads in (4, 2, 2))
    key += 60 * torch.randn(2, 1, 32)
    query, key, value = (states.bfloat16().float() for states in (query, key, value))  # what both begin with
    module = nn.Module().eval()
    module.k_proj = nn.Linear(8, 64, bias=biased)

    def attended(dtype: torch.dtype) -> torch.Tensor:
        states = (states.to(dtype) for states in (query, key, value))
        segments = segments_of(batch, dtype, torch.device("cpu"))
        return segment_attention(module, *states, None, segments)[0].float()

    exact, rounded = attended(torch.float64), attended(torch.bfloat16)
    error = float((rounded - exact).norm() / exact.norm())
    assert error < most
    assert biased or error > 0.05


def test_without_classification_weight_distractors_change_nothing_and_are_not_computed() -> None:
    examples = make_examples(6, 3, 40)
    model = double_heads(llama())
    short = [example.reply_only() for example in examples]
    assert sum(map(len, short)) < sum(map(len, examples))
    with_distractors, without = (model(packed(some), 1.0, 0.0) for some in (examples, short))
    assert without.mc is None
    assert without.lm.item() == pytest.approx(with_distractors.lm.item(), abs=1e-5)


def test_steps_hold_the_batch_size_and_rows_are_full() -> None:
    examples = make_examples(803, 3, 60)
    lengths = [len(example) for example in examples]
    plan = Plan.training(examples, batch_size=8, pack_width=0, seed=5, epochs=2)
    steps, shape = plan.steps, plan.shape
    assert len(steps) == 2 * 101
    for epoch in (steps[:101], steps[101:]):
        assert sorted(index for step in epoch for row in step for index in row) == list(range(803))
    sizes = sorted(len(row) for step in steps for row in step)
    assert sizes[-1] == 8
    assert sum(8 - size for size in sizes) == 2 * 5  # 803 examples leave 5 places of 808 empty
    assert plan.fill() == sum(lengths) * 2 / (len(steps) * shape.rows * shape.width) > 0.95
    assert all(sum(lengths[index] for index in row) <= shape.width for step in steps for row in step)
    assert steps[:101] != steps[101:], "each epoch is shuffled differently"


def test_a_wide_pack_width_splits_steps_into_rows() -> None:
    examples = make_examples(160, 3, 60)
    width = 2 * int(np.mean([len(example) for example in examples]))
    one, four = (Plan.training(examples, batch_size=8, pack_width=wanted, seed=5) for wanted in (0, width))
    assert (one.shape.rows, four.shape.rows) == (1, 4)
    assert four.row_width < one.row_width
    assert all(sum(map(len, step)) == 8 for step in four.steps)


def test_positions_go_on_where_the_history_ends() -> None:
    example = Example(
        example_id="a",
        history=np.array([5, 6, 7]),
        roles=np.array([0, 0, 1]),
        candidates=[np.array([8, 9]), np.array([10, 11, 12])],
    )
    (batch,) = Plan([example], [[[0]]]).parts(0)
    assert batch.ids.shape == (1, 16)
    assert batch.positions[0, :8].tolist() == [0, 1, 2, 3, 4, 3, 4, 5]
    assert batch.candidate[0, :8].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert batch.example[0].tolist() == [0] * 8 + [-1] * 8
    assert batch.label_at[0].tolist() == [2, 5, 6, 7]
    assert batch.label[0].tolist() == [10, 11, 12, -100]
    assert batch.label_self[0].tolist() == [-100, 10, 11, 12]
    assert batch.score_at[0, 0].tolist() == [4, 7]
    assert batch.reply[0].tolist() == [1]
    assert all(a < b for a, b in pairwise(batch.label_at[0].tolist()[1:]))
