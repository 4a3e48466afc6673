"""Training on CUDA: the step recorded once as a graph of kernels and replayed, so that the host launches none.

A step of a decoder is thousands of kernels, each of a few microseconds at the usual batch of eight examples: a host
that launches them one by one keeps the card waiting. So batches have one fixed shape, the decoder's layers are
compiled, and forward, backward and update are recorded together (a CUDA graph). Nothing within a step may ask for a
value: losses are fetched steps later, and a gradient that is not finite leaves the weights alone by arithmetic, not by
a branch.
"""

import jaegpt.environment  # noqa: F401

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from jaegpt.training.cuda_adamw import CudaAdamW, may_compile
from jaegpt.training.devices import Device
from jaegpt.training.heads import Counts, DoubleHeads, TensorBatch, decoder_layers
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.packing import Batch
from jaegpt.training.runtime import FETCH_EVERY, Runtime

WARM_UP = 3  # steps before the recording, in which libraries choose their kernels and ask for their memory
# Attention computes width x width scores of a row, so rows are kept about this narrow; matrix products see all rows.
ROW_TOKENS = 768

Made = TypeVar("Made")
Results = tuple[Tensor, Tensor]
Run = Callable[[], Results]
Step = Callable[[Sequence[TensorBatch], Any, Counts | None], Results]


class CudaRuntime(Runtime):
    """CUDA: fixed shapes, one copy per batch, and steps that are recorded and replayed.

    Several processes do not record: their gradients meet in the middle of the backward pass.

    Args:
        compiles: whether the decoder's layers are compiled before the recording.
        records: whether steps are recorded.
    """

    pack_width = ROW_TOKENS
    adamw = CudaAdamW

    def __init__(self, device: Device, compiles: bool | None = None, records: bool | None = None) -> None:
        super().__init__(device)
        alone = device.processes.count == 1
        self.compiles = may_compile() and alone if compiles is None else compiles
        self.records = alone and device.kind == "cuda" if records is None else records
        self.fetch_every = FETCH_EVERY if alone else 1
        self.recorded: list[Recorded] = []
        self._placing = threading.Lock()

    def place_batch(self, batch: Batch) -> TensorBatch:
        """The batch in one copy, out of memory that the card reads by itself while the host goes on."""
        with self._placing:  # not while a step is being recorded
            return to_device(batch, self.device.torch_device)

    def optimizer(self, model: DoubleHeads, weight_decay: float, max_grad_norm: float, bits: int = 32) -> MasterAdamW:
        """Frozen weights are rounded on the host: the card never holds them in float32."""
        for weight in model.parameters():
            if not weight.requires_grad:
                weight.data = weight.data.to(self.device.dtype)
        return super().optimizer(model, weight_decay, max_grad_norm, bits)

    def recording(self, step: Step, model: DoubleHeads) -> Step:
        if not self.records and not self.compiles:
            return step
        layers = decoder_layers(model.lm) if self.compiles else []
        recorded = Recorded(step, model, layers, self._placing, record if self.records else unrecorded)
        self.recorded.append(recorded)
        return recorded

    def compilations(self) -> int:
        return sum(recorded.recordings for recorded in self.recorded)


def to_device(batch: Batch, device: torch.device) -> TensorBatch:
    """All of a batch in one piece, every slot kept, attention left to a dense mask."""
    arrays = {name: torch.from_numpy(getattr(batch, name)) for name in TensorBatch._fields if name != "segments"}
    flat = torch.cat([array.flatten() for array in arrays.values()])
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    pieces = flat.split([array.numel() for array in arrays.values()])
    placed = {name: piece.view(array.shape) for (name, array), piece in zip(arrays.items(), pieces, strict=True)}
    return TensorBatch(**placed, segments=None)


class Recorded:
    """A step that is run as it is a few times, then recorded, then replayed on new inputs.

    A decoder that cannot be compiled or recorded (some ask for a value in the middle) is run as it is, with a warning.

    Args:
        step: losses and norm from a step's parts, learning rate and counts; its shapes never change.
        layers: modules of `model` to compile before the recording; all alike, so that one compilation serves them.
        lock: held while recording.
        record: makes a replay out of a function without arguments.
    """

    def __init__(
        self,
        step: Step,
        model: nn.Module,
        layers: Sequence[nn.Module],
        lock: threading.Lock,
        record: Callable[[Run], Run],
    ) -> None:
        self._step, self._model, self._layers, self._lock, self._record = step, model, layers, lock, record
        self._compiled: list[Any] = []
        self.recordings = self._calls = 0
        self._replay: Run | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, parts: Sequence[TensorBatch], rate: Any, counts: Counts | None) -> Results:
        inputs = [*(tensor for part in parts for tensor in part if isinstance(tensor, Tensor)), *(counts or ())]
        if not self._inputs:
            self._inputs = [torch.empty_like(tensor) for tensor in inputs]
            self._rate = torch.zeros((), device=inputs[0].device)
        found, expected = ([tuple(tensor.shape) for tensor in some] for some in (inputs, self._inputs))
        assert found == expected, (found, expected)
        torch._foreach_copy_(self._inputs, inputs)
        self._rate.fill_(rate)
        if self._replay is None:
            self._calls += 1
            if self._calls <= WARM_UP:
                return self._warm_up(parts, counts)
            self._replay = self._recording(parts, counts)
        losses, norm = self._replay()
        return losses.clone(), norm.clone()

    def _warm_up(self, parts: Sequence[TensorBatch], counts: Counts | None) -> Results:
        # The last one shows whether anything asks the device for a value: that would break the recording off in the
        # middle, and leave its stream and the generator of random numbers in a state that nothing brings back.
        tries = self._calls == WARM_UP and self._record is not unrecorded
        with beside(self._rate.device):
            try:
                with self._compiling(), self._asking_nothing() if tries else nullcontext():
                    return self._run(parts, counts)
            except Exception as error:
                if isinstance(error, torch.OutOfMemoryError) or not (tries or self._layers):
                    raise
                self._give_up("recorded" if tries else "compiled", error)
                if tries:
                    self._record = unrecorded
                else:
                    self._layers = []
                with self._compiling():
                    return self._run(parts, counts)

    @contextmanager
    def _asking_nothing(self) -> Iterator[None]:
        with self._lock, asking_nothing(self._rate.device):  # the device's mode is that of all threads
            yield

    def _recording(self, parts: Sequence[TensorBatch], counts: Counts | None) -> Run:
        def run() -> Results:
            with self._compiling():
                return self._run(parts, counts)

        try:
            with self._lock:
                replay = self._record(run)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self._give_up("recorded", error)
            return run
        self.recordings += 1
        return replay

    def _give_up(self, what: str, error: Exception) -> None:
        """Report it, and drop what the attempt left unfinished."""
        reason = " ".join(str(error).split())[:200]
        tqdm.write(f"warning: the step cannot be {what} ({type(error).__name__}: {reason}); it is slower as it is")
        for weight in self._model.parameters():
            weight.grad = None

    def _run(self, parts: Sequence[TensorBatch], counts: Counts | None) -> Results:
        """The step on the inputs' own memory."""
        kept = iter(self._inputs)
        own = [TensorBatch._make(next(kept) if isinstance(field, Tensor) else None for field in part) for part in parts]
        return self._step(own, self._rate, counts and Counts(next(kept), next(kept)))

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """The layers in their compiled form; outside of the step, validation has other shapes."""
        if not self._compiled:
            for layer in self._layers:
                layer.compile(dynamic=False)
            self._compiled = [layer._compiled_call_impl for layer in self._layers]
        for layer, form in zip(self._layers, self._compiled, strict=False):
            layer._compiled_call_impl = form
        try:
            yield
        finally:
            for layer in self._layers:
                layer._compiled_call_impl = None


def record(run: Callable[[], Made]) -> Callable[[], Made]:
    """`run`'s kernels as a CUDA graph; each replay fills the same results."""
    graph = torch.cuda.CUDAGraph()
    # The outer one brings the usual stream back where a recording breaks off.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = run()

    def replay() -> Made:
        graph.replay()
        return results

    return replay


def unrecorded(run: Callable[[], Made]) -> Callable[[], Made]:
    """For devices without graphs: each replay runs everything again."""
    return run


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """On CUDA a stream of its own, as recordings have: what is set up before one must not be bound to the usual one."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)


@contextmanager
def asking_nothing(device: torch.device) -> Iterator[None]:
    """On CUDA an error for whatever waits for a value of the device: found here, it breaks no recording off."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
