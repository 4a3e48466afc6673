"""Which runtime a device has."""

from jaegpt.training.cuda import CudaAdamW, CudaRuntime
from jaegpt.training.devices import Device
from jaegpt.training.heads import DoubleHeads
from jaegpt.training.optimizer import MasterAdamW
from jaegpt.training.runtime import Runtime


class MpsRuntime(Runtime):
    """Apple GPUs: as the CPU, but with an update made of plain operations, as `MasterAdamW` relies on a fused one."""

    def optimizer(self, model: DoubleHeads, weight_decay: float, max_grad_norm: float) -> MasterAdamW:
        return CudaAdamW(model.to(self.device.torch_device), self.device.dtype, weight_decay, max_grad_norm)


def runtime_of(device: Device) -> Runtime:
    """The runtime of a device."""
    if device.kind == "cuda":
        return CudaRuntime(device)
    if device.kind == "mps":
        return MpsRuntime(device)
    if device.kind != "xla":
        return Runtime(device)
    from jaegpt.training.xla import XlaRuntime  # torch_xla takes over the process, so only where it was chosen

    return XlaRuntime(device)
