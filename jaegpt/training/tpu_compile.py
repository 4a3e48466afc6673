"""Compile StableHLO with the real TPU compiler (libtpu, through jax), which runs without a TPU.

Run by `tpu_report` in a process of its own, since libtpu reads its settings when it is loaded:
python -m jaegpt.training.tpu_compile SLICE STABLEHLO_FILE. Prints one JSON object: the compiler's figures.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

ACCELERATOR_TYPES = {"v2": "v2-8", "v3": "v3-8", "v4": "v4-8", "v5e": "v5litepod-4", "v5p": "v5p-8", "v6e": "v6e-4"}


def main() -> None:
    """Errors of the compiler go into the object as `message`."""
    name, path = sys.argv[1:3]
    # Without these libtpu asks the cloud's metadata server which TPU this machine is.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ["TPU_ACCELERATOR_TYPE"] = ACCELERATOR_TYPES.get(name.split(":")[0], "")
    from jax.errors import JaxRuntimeError

    try:
        print(json.dumps(compile_for(name, Path(path).read_text(encoding="utf-8"))))
    except (JaxRuntimeError, ValueError, RuntimeError, NotImplementedError) as error:
        print(json.dumps({"message": " ".join(str(error).split())[:500]}))


def compile_for(name: str, stablehlo: str) -> dict[str, Any]:
    """Figures of one device's program for the slice `name`, such as v5e:2x2."""
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir
    from jax.experimental import topologies

    alone = {"chips_per_host_bounds": (1, 1, 1)} if name.endswith(":1x1") else {}
    devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **alone).devices
    with mlir.make_ir_context():
        bytecode = io.BytesIO()
        ir.Module.parse(stablehlo).operation.write_bytecode(file=bytecode)
    options = xla_client.CompileOptions()
    build = options.executable_build_options
    options.num_replicas = build.num_replicas = 1
    options.num_partitions = build.num_partitions = len(devices)
    build.use_spmd_partitioning = len(devices) > 1
    build.device_assignment = xla_client.DeviceAssignment.create(np.arange(len(devices)).reshape(1, -1))
    program = devices[0].client.compile(bytecode.getvalue(), xla_client.DeviceList(tuple(devices)), options)
    memory, cost = program.get_compiled_memory_stats(), program.cost_analysis()
    cost = cost if isinstance(cost, dict) else cost[0]
    return {
        "devices": len(devices),
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "all_reduces": program.hlo_modules()[0].to_string().count(" all-reduce"),
    }


if __name__ == "__main__":
    main()
