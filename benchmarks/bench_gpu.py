"""On a GPU: training packed and padded, launched and recorded; replies by plain and recorded steps; speed, memory, MFU.

Run: make bench-gpu (at most 8 minutes). Each case is one JSON line as soon as it is measured. Cases of one model and
batch size run in a process of their own, so that one that crashes or takes too long loses only itself; a table comes
last. `--device cpu --tiny` runs every path on small shapes without a GPU.

    new              the recorded step (jaegpt.training.cuda): fixed shapes, compiled layers, one graph
    graph            the same without compiling
    today            packed rows lined up for batched products, every kernel launched by the host
    padded           a row per candidate, padded to the batch's longest; logits at every place
    padded128        the same, padded to a block of 128
    padded compiled  that with compiled layers
    plain            replies: each kernel of a token's step launched by the host
    recorded         replies: the step recorded as a graph (jaegpt.generation.recorded)

Weights are random and lengths drawn like the sample's, so nothing of the project's data is needed. `mfu` counts what
the examples need, packed (6 operations per trained weight and token, 4 per frozen one, logits at the reply's tokens
alone), against the rate of one large bf16 matrix product measured on the same card, for padded runs as well.
"""

import jaegpt.environment  # noqa: F401

import argparse
import json
import os

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to look for a card must not open it before a fork

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from benchmarks.gpu_cases import GROUPS, Group, run_group


def main() -> None:
    """Run the groups one after the other within the time given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, few steps")
    parser.add_argument("--seconds", type=float, default=450, help="for everything; what does not fit is left out")
    parser.add_argument("--only", default="", help="groups whose name contains one of these, separated by commas")
    parser.add_argument("--out", type=Path, default=None, help="a file that gets the lines as well")
    parser.add_argument("--lines", type=int, default=None, help=argparse.SUPPRESS)  # the pipe, in a group's own process
    options = parser.parse_args()
    if options.lines is not None:
        write_lines(GROUPS[int(options.only)], options, options.lines, time.monotonic() + options.seconds)
        return
    ends = time.monotonic() + options.seconds
    wanted = [name for name in options.only.split(",") if name]
    groups = [group for group in GROUPS if not wanted or any(name in group.name for name in wanted)]
    forks = options.device == "cpu" or can_fork()
    lines: list[dict[str, Any]] = []
    for group in groups:
        left = ends - time.monotonic()
        if left < group.least:
            lines.append(show({"group": group.name, "left_out": f"{left:.0f} s left"}, options.out))
            continue
        lines += in_process(group, options, forks, min(left, group.seconds))
    print_table(lines)


def in_process(group: Group, options: argparse.Namespace, forks: bool, seconds: float) -> Iterator[dict[str, Any]]:
    """The group's lines, from a process that ends within `seconds`; a forked one need not import everything again."""
    began = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.setpgid(0, 0)
        if not forks:
            os.set_inheritable(writing, True)
            numbers = {"--only": GROUPS.index(group), "--seconds": seconds, "--lines": writing}
            asked = [text for name, number in numbers.items() for text in (name, str(number))]
            asked += ["--device", options.device, *["--tiny"] * options.tiny]
            os.execv(sys.executable, [sys.executable, "-m", "benchmarks.bench_gpu", *asked])
        ending(lambda: write_lines(group, options, writing, began + seconds))
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds + 5)
    with open(reading, encoding="utf-8") as lines:
        for text in lines:
            yield show(json.loads(text), options.out)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    end = {"group": group.name, "took_s": round(time.monotonic() - began, 1)}
    code = os.waitstatus_to_exitcode(status)
    yield show(end | ({"failed": f"ended with {code}"} if code else {}), options.out)


def write_lines(group: Group, options: argparse.Namespace, pipe: int, ends: float) -> None:
    """Measure a group, and write its lines into the pipe."""
    with open(pipe, "w", encoding="utf-8", buffering=1) as lines:
        for line in run_group(group, options.device, options.tiny, ends):
            lines.write(json.dumps(line) + "\n")


def can_fork() -> bool:
    """Whether a forked process gets the card: not where a library has opened it already while it was imported."""
    child = os.fork()
    if not child:
        ending(lambda: torch.zeros(1, device="cuda"))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def ending(work: Callable[[], Any]) -> NoReturn:
    """Do the work of a forked process, and end it."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def show(line: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Print a line at once, and append it to the file."""
    print(json.dumps(line), flush=True)
    if out:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return line


def print_table(lines: list[dict[str, Any]]) -> None:
    """One row per case."""
    columns = (
        "examples/s",
        "tokens/s",
        "mfu",
        "step_ms",
        "card_ms",
        "peak_gb",
        "load_gb",
        "ready_s",
        "tflops",
        "packed",
        "padded",
        "token",
    )
    print(f"{'case':<30}" + "".join(f"{name:>11}" for name in columns))
    for line in lines:
        if "case" in line:
            values = [line.get(name) for name in columns]
            cells = "".join(f"{'' if value is None else format(value, ','):>11}" for value in values)
            print(f"{line['case']:<30}{cells}{'  ' + line['failed'][:60] if 'failed' in line else ''}")
        elif "failed" in line or "left_out" in line:
            print(f"{line['group']:<30}  {line.get('failed') or line.get('left_out')}")


if __name__ == "__main__":
    main()
