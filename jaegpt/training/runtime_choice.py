"""Which runtime a device has."""

from jaegpt.training.cuda import CudaRuntime
from jaegpt.training.cuda_adamw import CudaAdamW
from jaegpt.training.devices import Device
from jaegpt.training.runtime import Runtime


class MpsRuntime(Runtime):
    """Apple GPUs: as the CPU, but with an update made of plain operations, as `MasterAdamW` relies on a fused one."""

    adamw = CudaAdamW


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
