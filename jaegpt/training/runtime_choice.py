"""Which runtime a device has."""

from jaegpt.training.cuda import CudaRuntime
from jaegpt.training.devices import Device
from jaegpt.training.runtime import Runtime


def runtime_of(device: Device) -> Runtime:
    """The runtime of a device."""
    if device.kind == "cuda":
        return CudaRuntime(device)
    if device.kind != "xla":
        return Runtime(device)
    from jaegpt.training.xla import XlaRuntime  # torch_xla takes over the process, so only where it was chosen

    return XlaRuntime(device)
