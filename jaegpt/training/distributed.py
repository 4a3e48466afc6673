"""Several processes, one for each GPU, started by torchrun: the same loop, each on its share of a step's rows."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's number among `count`."""

    rank: int = 0
    count: int = 1


ALONE = Processes()


def join_processes(backend: str) -> Processes:
    """Join the processes torchrun started (it says so in the environment); alone where there are none.

    Args:
        backend: nccl for GPUs, gloo for CPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    if not distributed.is_initialized():
        distributed.init_process_group(backend)
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())


def total(values: Tensor, processes: Processes) -> Tensor:
    """Sum `values` over the processes, each of which counted its own share; they are on the processes' device."""
    if processes.count > 1:
        distributed.all_reduce(values)
    return values


class Parallel:
    """Gradients averaged over the processes while the backward pass runs (torch's DistributedDataParallel).

    Without other processes it is the model itself.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        self.count = processes.count
        # A loss without weight leaves the classification head unused. Buffers never change: they are frequencies and
        # packed weights.
        self.model = model
        if self.count > 1:
            self.model = DistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the sum of the processes' losses: torch takes their mean, so each loss is scaled up."""
        (loss * self.count if self.count > 1 else loss).backward()

    def waiting(self, last: bool) -> AbstractContextManager[None]:
        """Keep the gradients of all but a step's last part in this process, so that they are averaged only once."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()
