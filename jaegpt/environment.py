"""What must be settled before torch and transformers are imported; every module that imports one imports this first.

- USE_TORCH_XLA=0 keeps transformers from loading torch_xla, which takes over the process, on CPU and CUDA runs.
- Freed memory is kept, in huge pages where Linux allows it: a training step allocates the same large tensors each time,
  and getting them back from the system costs an eighth of the step.
- CUBLAS_WORKSPACE_CONFIG, where JAEGPT_DETERMINISTIC=1 asks for the same bytes from the same run: CUDA reads it at its
  first call.
- The package `kernels` is out of reach, if somebody has it: bitsandbytes (when a newer CPU imports it) and transformers
  would have it fetch code from a hub and run it. What bitsandbytes says of it is not for the user.
- PYTORCH_ENABLE_MPS_FALLBACK=1 lets the CPU compute what torch has no kernel for on an Apple GPU.
"""

import ctypes
import logging
import os
import sys

os.environ.setdefault("USE_TORCH_XLA", "0")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own switch
if os.environ.get("JAEGPT_DETERMINISTIC") == "1":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # one of the two settings that torch accepts

sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

if sys.platform == "darwin":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
if sys.platform == "linux":
    _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h; other C libraries ignore or lack the call
    _libc = ctypes.CDLL(None)
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
        _libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
