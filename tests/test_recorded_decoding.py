"""Decoding over recorded steps writes what plain decoding writes. The CPU cannot record: each replay runs it again."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from helpers.chat_models import config, save_base, save_tuned, speaker
from helpers.families import FAMILIES, HEADS, double_heads
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from jaegpt.generation.decoding import Drawn, ReadPrompts, decode, read_prompts
from jaegpt.generation.prompts import Prompt
from jaegpt.generation.recorded import SHARE, SHORTEST, Recordings
from jaegpt.generation.sampling import sample, without_repeats
from jaegpt.generation.speaker import Speaker
from jaegpt.training.cuda import asking_nothing, unrecorded
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads

HAS_GPU = torch.cuda.is_available()
VOCABULARY, STOP, FREE = 97, 3, Prompt(ids=[1, 2], roles=[0, 1])
GPT2, LLAMA = "GPT-2, DialoGPT", "Llama 1 to 3, TinyLlama, SmolLM 1 and 2, Yi"
COMMON = [GPT2, LLAMA, "Qwen 2, 2.5", "Qwen 3", "Gemma 3 270m, 1B"]
# Their layers keep a state, not keys; jaegpt does not train them, and their plain step needs another cache.
STATES = {
    "Falcon H1", "Granite 4 H", "Jamba", "LFM2", "Mamba", "Mamba 2", "MiniMax Text", "Nemotron H", "Qwen 3 Next",
    "Qwen 3.5", "RecurrentGemma",
}  # fmt: skip
OWN_CACHE = "RWKV 4"
ASKING = {"MPT", "XGLM"}  # on a GPU these are left to the plain step, with a warning
HISTORIES = [
    [(False, "hi")],
    [(False, "what did you do?"), (True, "slept"), (False, "all day long? I was out in the rain")],
    [(True, "me first"), (False, "ok é 😀")],
]


def model_of(name: str) -> DoubleHeads:
    return double_heads(FAMILIES[name])


def reading(
    model: DoubleHeads, count: int, seed: int = 1, longest: int = 30, free: Prompt | None = None
) -> ReadPrompts:
    """Prompts of random tokens and unequal lengths, read."""
    rng = np.random.default_rng(seed)
    lengths = [longest, *rng.integers(2, longest, count - 1).tolist()]
    prompts = [Prompt(ids=rng.integers(4, VOCABULARY, n).tolist(), roles=[0] * n) for n in lengths]
    with torch.inference_mode():
        return read_prompts(model, prompts, free)


class Seen:
    """A draw that keeps each row's logits under its random number, and stops more often than the model would."""

    def __init__(self) -> None:
        self.logits: dict[float, Tensor] = {}

    def __call__(self, logits: Tensor, written: Tensor, draws: Tensor) -> Tensor:
        self.logits |= zip(draws.tolist(), logits.clone(), strict=True)
        tokens = sample(logits.float(), draws, top_p=0.9, top_k=0, temperature=1.0)
        return tokens.where(draws < 0.85, STOP)


def written(
    model: DoubleHeads,
    read: ReadPrompts,
    begin: Any = None,
    k: int = 1,
    guidance: float | None = None,
    steps: int = 20,
    seed: int = 5,
    most: float = 1.0,
) -> tuple[list[Drawn], Seen]:
    """All that is drawn with random numbers below `most`, and the logits that it was drawn from."""
    draws = np.random.default_rng(seed).random((len(read) * k, steps)) * most
    seen = Seen()
    with torch.inference_mode():
        return list(decode(model, read, draws, seen, STOP, guidance, begin)), seen


def assert_same(found: tuple[list[Drawn], Seen], expected: tuple[list[Drawn], Seen], least: int = 8) -> None:
    """The same tokens of the same rows in the same order, from the same logits, and the same gains."""
    assert len(expected[0]) >= least
    assert [one[:2] for one in found[0]] == [one[:2] for one in expected[0]]
    assert [one.gain for one in found[0]] == pytest.approx([one.gain for one in expected[0]], abs=1e-4)
    for draw, logits in expected[1].logits.items():
        assert (found[1].logits[draw] - logits).abs().max() < 1e-5 * logits.abs().max().clamp(min=1)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written beside a progress bar."""
    lines: list[str] = []
    monkeypatch.setattr("jaegpt.generation.recorded.tqdm.write", lines.append)
    return lines


class Asked(TorchDispatchMode):
    """Notes operations for whose result a host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        masks = name == "aten.index.Tensor" and any(part is not None and part.dtype == torch.bool for part in args[1])
        if masks or any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in STATES])
def test_every_family_writes_the_same(name: str, warnings: list[str]) -> None:
    model = model_of(name)
    read, recordings = reading(model, 3), Recordings(model, unrecorded)
    assert_same(written(model, read, recordings.begin), written(model, read))
    assert warnings == []
    assert {rows for rows, _ in recordings._found} == (set() if name == OWN_CACHE else {4, 2, 1})
    for step in recordings._found.values():
        with Asked() as asked, torch.inference_mode():
            step(torch.full((1,), 7))
        assert bool(asked.found) == (name in ASKING), asked.found


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize(
    ("count", "k", "guidance"), [(1, 1, None), (5, 1, None), (3, 4, None), (3, 2, 1.5), (1, 1, 3.0)]
)
def test_rows_candidates_and_twins_write_the_same(name: str, count: int, k: int, guidance: float | None) -> None:
    model = model_of(name)
    recordings = Recordings(model, unrecorded)
    for seed in (1, 2):  # the second decoding finds all recorded
        read = reading(model, count, seed, free=FREE if guidance else None)
        expected = written(model, read, k=k, guidance=guidance, seed=seed + 4)
        assert_same(written(model, read, recordings.begin, k, guidance, seed=seed + 4), expected, least=2)
    widest = 1 << (count * k * (2 if guidance else 1) - 1).bit_length()
    assert max(rows for rows, _ in recordings._found) == widest


def test_rows_that_have_ended_write_on_until_half_are_left() -> None:
    model = model_of(LLAMA)
    read, recordings, widths = reading(model, 8), Recordings(model, unrecorded), []
    ends = [0, 1, 2, 3, 4, 5, 6, 8]  # the step at which each row draws the stop token
    draws = np.full((8, 9), 0.5)
    draws[range(8), ends] = 0.9

    def draw(logits: Tensor, before: Tensor, uniform: Tensor) -> Tensor:
        widths.append((len(logits), len(before), before.shape[1]))
        return torch.where(uniform < 0.85, 9, STOP)

    with torch.inference_mode():
        drawn = list(decode(model, read, draws, draw, STOP, None, recordings.begin))
    assert widths == [(width, width, step) for step, width in enumerate([8, 8, 8, 8, 4, 4, 2, 1, 1])]
    assert [[one.token for one in drawn if one.row == row] for row in range(8)] == [[9] * end + [STOP] for end in ends]


@pytest.mark.parametrize("guidance", [None, 1.5])
def test_a_step_asks_the_device_for_its_tokens_and_for_nothing_else(
    guidance: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(LLAMA)
    recordings, transfers, tolist = Recordings(model, unrecorded), [], Tensor.tolist
    read = reading(model, 3, free=FREE if guidance else None)
    draws = np.full((6, 12), 0.5)

    def greedy(logits: Tensor, before: Tensor, uniform: Tensor) -> Tensor:
        return logits.argmax(-1)

    def counted(tensor: Tensor) -> Any:
        transfers.append(tensor.shape)
        return tolist(tensor)

    with torch.inference_mode():
        first = list(decode(model, read, draws, greedy, STOP, guidance, recordings.begin))
        monkeypatch.setattr(Tensor, "tolist", counted)
        with Asked() as asked:
            again = list(decode(model, read, draws, greedy, STOP, guidance, recordings.begin))
    assert again == first
    steps = max(sum(one.row == row for one in first) for row in range(6))
    assert steps > 5
    assert len(transfers) == steps
    assert asked.found == []


@pytest.mark.parametrize("name", COMMON)
def test_the_next_message_finds_the_recordings_and_nothing_of_the_last_message(name: str) -> None:
    """Whatever lies in the memory, if it is a number at all, changes nothing."""
    model, recorded = model_of(name), []
    recordings = Recordings(model, lambda run: recorded.append(run) or run)
    first, second = reading(model, 4, 1, longest=60), reading(model, 3, 2)
    written(model, first, recordings.begin, k=2)
    places = [part.data_ptr() for memory in recordings._memory for part in memory]
    assert len(recorded) == 4
    for poison in (1e4, -1e4):
        with torch.inference_mode():
            for part in (part for memory in recordings._memory for part in memory):
                part.fill_(poison)
            for step in recordings._found.values():
                step.mask.fill_(1)
        assert_same(written(model, second, recordings.begin, k=2), written(model, second, k=2))
    assert len(recorded) == 4, "8, 4, 2 and 1 rows were recorded for the first message"
    assert [part.data_ptr() for memory in recordings._memory for part in memory] == places


def test_longer_prompts_get_more_memory_and_shorter_ones_use_it() -> None:
    model = model_of(GPT2)
    recordings = Recordings(model, unrecorded)
    for longest, lengths in ((20, {SHORTEST}), (2 * SHORTEST, {4 * SHORTEST}), (20, {SHORTEST, 4 * SHORTEST})):
        read = reading(model, 2, longest=longest)
        assert_same(written(model, read, recordings.begin), written(model, read))
        assert {length for _, length in recordings._found} == lengths


@pytest.mark.parametrize(("longest", "is_recorded"), [(50, True), (90, False)])
def test_a_sliding_window_is_kept_within_the_cache_or_left_to_the_plain_step(longest: int, is_recorded: bool) -> None:
    """50 tokens and the reply pass a window of 64 on the way; after 90 the plain pass has left keys out."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
    model = double_heads(t.Gemma3TextConfig(**HEADS, **layers))
    read, recordings = reading(model, 2, longest=longest), Recordings(model, unrecorded)
    found, expected = (written(model, read, begin, steps=40, most=0.8) for begin in (recordings.begin, None))
    assert_same(found, expected, least=50)
    assert bool(recordings._found) == is_recorded


def test_two_decodings_at_once_do_not_share_memory() -> None:
    model = model_of(LLAMA)
    reads, recordings = [reading(model, 2, seed) for seed in (1, 2)], Recordings(model, unrecorded)
    draws = np.full((2, 12), 0.5)

    def begun(read: ReadPrompts, begin: Any) -> Any:
        return decode(model, read, draws, Seen(), STOP, None, begin)

    with torch.inference_mode():
        expected = [list(begun(read, None)) for read in reads]
        pair = [begun(read, recordings.begin) for read in reads]
        found = list(zip(*pair, strict=True))
        assert [list(one) for one in zip(*found, strict=True)] == expected
        left = begun(reads[0], recordings.begin)
        next(left)
        assert recordings.begin(reads[0], torch.arange(2), 12) is None
        left.close()
        assert list(begun(reads[1], recordings.begin)) == expected[1]
        assert recordings.begin(reads[0], torch.arange(2), 12) is recordings, "what was given up midway is free again"


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError(), AttributeError()])
def test_what_cannot_be_recorded_is_decoded_plainly_with_one_warning(error: Exception, warnings: list[str]) -> None:
    def fail(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise error

    model = model_of(LLAMA)
    read, recordings = reading(model, 3), Recordings(model, fail)
    for seed in (1, 2):
        expected = written(model, read, k=2, seed=seed)
        assert_same(written(model, read, recordings.begin, k=2, seed=seed), expected)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: decoding cannot be recorded ({type(error).__name__}: {error}")
    assert recordings._memory == []


def test_a_cache_too_large_for_the_card_is_left_to_the_plain_step(
    monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    """Two layers of 2 heads of 8 floats: 256 bytes for a token's keys, and as many for its values."""
    model = model_of(LLAMA)
    recordings, read = Recordings(model, unrecorded), reading(model, 3)
    needed = 4 * SHORTEST * 2 * 2 * 2 * 8 * 4
    for free, is_recorded in ((SHARE * needed - 1, False), (SHARE * needed, True)):
        monkeypatch.setattr("jaegpt.generation.recorded._free", lambda device, free=free: free)
        assert_same(written(model, read, recordings.begin), written(model, read))
        assert bool(recordings.num_recorded) == is_recorded
    assert warnings == []
    assert sum(part.numel() * part.element_size() for memory in recordings._memory for part in memory) == needed


def test_what_waits_for_the_card_is_an_error_only_while_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int | str] = [1]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def wait() -> None:
        assert modes == [1, "error"]
        raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"), asking_nothing(torch.device("cuda")):
        wait()
    assert modes == [1, "error", 1]


def test_a_decoder_that_goes_by_the_caches_width_is_found_out(warnings: list[str]) -> None:
    """GPT-Neo's local layers count their window from the cache's last place, written or not."""
    model = double_heads(
        t.GPTNeoConfig(
            vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["local"], 2]], window_size=16,
            initializer_range=0.2, resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
        )
    )  # fmt: skip
    read, recordings = reading(model, 3), Recordings(model, unrecorded)
    assert_same(written(model, read, recordings.begin), written(model, read))
    assert len(warnings) == 1
    assert "of the probability moved to other tokens" in warnings[0]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_repeated_runs_are_those_of_transformers(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    banned = 0
    for length in range(20):
        logits = torch.randn(6, 12, generator=generator)
        logits[:, 3] = -torch.inf
        before = torch.randint(0, {1: 12, 5: 2}.get(size, 3), (6, length), generator=generator)
        expected = NoRepeatNGramLogitsProcessor(size)(before, logits.clone())
        banned += int((expected != logits).sum())
        without_repeats(logits, before, size)
        assert torch.equal(logits, expected)
    assert banned > 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = save_base(tmp_path_factory.mktemp("model") / "base")
    return save_tuned(base.parent / "tuned", base)


def said(one: Speaker) -> list[Any]:
    """Replies under several settings, one by one and side by side, streamed too."""
    guided = config(guidance=1.5, rerank="fit", candidates=3)
    found: list[Any] = [one.replies(HISTORIES, chosen, 3) for chosen in (config(), config(candidates=3), guided)]
    found += [list(one.stream(history, config(), seed)) for history in HISTORIES for seed in (1, 2)]
    return found


def assert_said_alike(found: Sequence[Any], expected: Sequence[Any]) -> None:
    for replies, others in zip(found[:3], expected[:3], strict=True):
        assert [reply.text for reply in replies] == [other.text for other in others]
        for reply, other in zip(replies, others, strict=True):
            assert reply.score == (None if other.score is None else pytest.approx(other.score, abs=1e-3))
    assert found[3:] == expected[3:]


def test_a_speaker_says_the_same(folder: Path, warnings: list[str]) -> None:
    one = speaker(folder, learn="sessions")
    assert one._begin is None, "on the CPU nothing is recorded"
    expected = said(one)
    recordings = Recordings(one.model, unrecorded)
    one._begin = recordings.begin
    assert_said_alike(said(one), expected)
    assert len(recordings._found) > 4
    assert warnings == []


@pytest.mark.skipif(HAS_GPU, reason="a GPU records")
def test_a_speaker_whose_card_records_nothing_says_the_same(folder: Path, warnings: list[str]) -> None:
    """What asks CUDA for a recording here gets an error, as there is none."""
    broken = Device(kind="cuda", torch_device=torch.device("cpu"), num_devices=1, dtype=torch.float32, reason="test")
    assert_said_alike(said(Speaker(folder, learn="sessions", device=broken)), said(speaker(folder, learn="sessions")))
    assert len(warnings) == 1


@pytest.mark.skipif(not HAS_GPU, reason="no CUDA GPU")
def test_on_a_gpu_a_speaker_says_the_same(folder: Path, warnings: list[str]) -> None:
    cuda = Device(kind="cuda", torch_device=torch.device("cuda"), num_devices=1, dtype=torch.float32, reason="test")
    one = Speaker(folder, learn="sessions", device=cuda)
    recordings = Recordings(one.model)
    one._begin = recordings.begin
    plain = copy.copy(one)
    plain._begin = None
    for _ in range(2):
        assert_said_alike(said(one), said(plain))
    assert recordings.num_recorded > 4
    assert warnings == []


@pytest.mark.skipif(not HAS_GPU, reason="no CUDA GPU")
@pytest.mark.parametrize("name", COMMON)
def test_on_a_gpu_replays_write_the_same(name: str, warnings: list[str]) -> None:
    model = model_of(name).to("cuda")
    recordings = Recordings(model)
    for seed in (1, 2):
        read = reading(model, 5, seed)
        found, expected = (written(model, read, begin, k=3, seed=seed)[0] for begin in (recordings.begin, None))
        assert len(expected) > 15
        assert found == expected
    assert warnings == []
    assert {rows for rows, _ in recordings._found} == {16, 8, 4, 2, 1}
