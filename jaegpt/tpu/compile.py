"""The real TPU compiler without a TPU: libtpu, reached through jax. Run by `tpu_report` in processes of its own, since
libtpu reads its settings when it is loaded:

    python -m jaegpt.tpu.compile v5e:2x2 v6e:2x2       devices and memory of slices
    python -m jaegpt.tpu.compile v5e:2x2 step.mlir     memory, operations and bytes of a program

Each prints one JSON object on its last line. A slice that the compiler does not know, or a program that it refuses, is
an answer (`message`), not an error.
"""

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

# libtpu would ask Google's metadata server which TPU this is, and jax would look for one to run on.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# Four arguments of 64 GiB: more than any chip has, so that the compiler says how much it may use.
_HUGE = "tensor<16x1024x1024x1024xf32>"
_TOO_BIG = f"""module @huge {{ func.func @main(%a: {_HUGE}, %b: {_HUGE}, %c: {_HUGE}, %d: {_HUGE}) -> {_HUGE} {{
  %0 = stablehlo.add %a, %b : {_HUGE}
  %1 = stablehlo.add %c, %d : {_HUGE}
  %2 = stablehlo.add %0, %1 : {_HUGE}
  return %2 : {_HUGE} }} }}"""
_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4,
               "f64": 8, "s64": 8, "u64": 8}  # fmt: skip
_MOVES_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "slice-done", "copy-done", "custom-call",
}  # fmt: skip


def describe(name: str) -> dict[str, Any]:
    """Devices of a slice and the memory (bytes) that the compiler may use on each; or the message that refuses it."""
    try:
        devices = _devices(name)
    except Exception as error:  # the compiler's own, of a private class
        return {"message": _one_line(error)}
    try:
        _compile(_TOO_BIG.encode(), devices[:1])
    except Exception as error:
        limit = re.search(r"of ([\d.]+)G hbm", str(error))
        return {"devices": len(devices), "hbm_available_bytes": round(float(limit[1]) * 2**30) if limit else None}
    return {"devices": len(devices), "hbm_available_bytes": None}


def compile_step(name: str, program: Path) -> dict[str, Any]:
    """What one device of the slice needs for a lowered training step; or the message that refuses it."""
    try:
        executable = _compile(_with_donation(program), _devices(name))
    except Exception as error:
        return {"message": _one_line(error)}
    memory, cost = executable.get_compiled_memory_stats(), executable.cost_analysis()
    return {
        "hbm_needed_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes,
        "flops": int((cost if isinstance(cost, dict) else cost[0])["flops"]),
        "bytes_accessed": hbm_traffic(executable.hlo_modules()[0].to_string()),
    }


def hbm_traffic(module: str) -> int:
    """Bytes that a compiled, scheduled HLO module moves to and from HBM: operands read and results written, once each.

    The compiler's own figure ("bytes accessed") also counts what fusions read from the chip's own memory, into which
    operands are copied ahead of their use; that memory is marked S(1) in a layout, as in f32[8,128]{1,0:T(8,128)S(1)}.
    An asynchronous copy has HBM on one side, so it counts once, by what arrives.
    """
    shapes: dict[str, list[tuple[int, bool]]] = {}  # of each instruction's results: bytes, and whether in HBM
    total = 0
    for line in module[module.index("\nENTRY") :].splitlines():
        found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)", line)
        if not found:
            continue
        name, result, operation, rest = found.groups()
        shapes[name] = [
            (_ITEM_BYTES.get(kind, 0) * math.prod(int(size) for size in sizes.split(",") if size), "S(" not in layout)
            for kind, sizes, layout in re.findall(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?", result)
        ]
        if operation in ("slice-start", "copy-start"):
            total += shapes[name][1 if operation == "slice-start" else 0][0]
        elif operation not in _MOVES_NOTHING:
            operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
            touched = [shapes[name], *(shapes.get(operand, []) for operand in operands)]
            total += sum(size for parts in touched for size, in_hbm in parts if in_hbm)
    return total


def _devices(name: str) -> list[Any]:
    from jax.experimental import topologies

    # A host has 2x2 chips unless `chips_per_host_bounds` says otherwise; a slice of a single chip is less than that.
    sides = name.partition(":")[2]
    single = {"chips_per_host_bounds": (1, 1, 1)} if set(sides.split("x")) == {"1"} else {}
    return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **single).devices)


def _compile(program: bytes, devices: list[Any]) -> Any:
    """Compile one program that is partitioned over all `devices` by the shardings it carries."""
    import numpy as np
    from jax._src.lib import xla_client

    options = xla_client.CompileOptions()
    build = options.executable_build_options
    options.num_replicas = build.num_replicas = 1
    options.num_partitions = build.num_partitions = len(devices)
    build.use_spmd_partitioning = len(devices) > 1
    build.device_assignment = xla_client.DeviceAssignment.create(np.arange(len(devices)).reshape(1, -1))
    return devices[0].client.compile(program, xla_client.DeviceList(tuple(devices)), options)


def _with_donation(program: Path) -> bytes:
    """The program with all its arguments given away: a step overwrites weights and optimizer state, as torch_xla does
    it when it runs one."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir

    with mlir.make_ir_context():
        module = ir.Module.parse(program.read_text(encoding="utf-8"))
        function = next(iter(module.body.operations))
        donated = {"jax.buffer_donor": ir.BoolAttr.get(True)}
        function.attributes["arg_attrs"] = ir.ArrayAttr.get(
            [
                ir.DictAttr.get({**{entry.name: entry.attr for entry in attributes}, **donated})
                for attributes in ir.ArrayAttr(function.attributes["arg_attrs"])
            ]
        )
        return mlir.module_to_bytecode(module)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())[:500]


def main(first: str, *others: str) -> None:
    os.environ.update(SETTINGS)
    if others and others[-1].endswith(".mlir"):
        print(json.dumps(compile_step(first, Path(others[-1]))))
    else:
        print(json.dumps({name: describe(name) for name in (first, *others)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
