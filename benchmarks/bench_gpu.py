"""Training on a GPU: packed against padded, today's step against the recorded one, speed, memory and MFU.

Run: make bench-gpu (at most 8 minutes). Each case is one JSON line as soon as it is measured, in a process of its own
group, so that one that crashes or takes too long loses only itself; a table comes last. `--device cpu --tiny` runs every
path on small shapes without a GPU.

Weights are random and lengths drawn like the sample's, so nothing of the project's data is needed. `mfu` counts what the
examples need, packed (6 operations per trained weight and token, 4 per frozen one, logits at the reply's tokens alone),
against the rate of one large bf16 matrix product measured on the same card, for padded runs as well.
"""

import jaegpt.environment  # noqa: F401

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import GROUPS, Group, run_group



def main() -> None:
    """Run the groups one after the other within the time given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, few steps")
    parser.add_argument("--seconds", type=float, default=450, help="for everything; what does not fit is left out")
    parser.add_argument("--only", default="", help="groups whose name contains one of these, separated by commas")
    parser.add_argument("--out", type=Path, default=None, help="a file that gets the lines as well")
    options = parser.parse_args()
    ends = time.monotonic() + options.seconds
    wanted = [name for name in options.only.split(",") if name]
    groups = [group for group in GROUPS if not wanted or any(name in group.name for name in wanted)]
    lines: list[dict[str, Any]] = []
    for group in groups:
        left = ends - time.monotonic()
        if left < group.least:
            lines.append(show({"group": group.name, "left_out": f"{left:.0f} s left"}, options.out))
            continue
        lines += in_process(group, options, min(left, group.seconds))
    print_table(lines)


def in_process(group: Group, options: argparse.Namespace, seconds: float) -> Iterator[dict[str, Any]]:
    """The group's lines, from a forked process that ends with `seconds`: it need not import everything again."""
    began = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.setpgid(0, 0)
        try:
            with open(writing, "w", encoding="utf-8", buffering=1) as lines:
                for line in run_group(group, options.device, options.tiny, began + seconds):
                    lines.write(json.dumps(line) + "\n")
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
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


def show(line: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Print a line at once, and append it to the file."""
    print(json.dumps(line), flush=True)
    if out:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return line


def print_table(lines: list[dict[str, Any]]) -> None:
    """One row per case."""
    columns = ("examples_per_s", "tokens_per_s", "mfu", "step_ms", "card_ms", "peak_gb", "load_gb", "ready_s")
    print(f"{'case':<46}" + "".join(f"{name:>15}" for name in columns))
    for line in lines:
        if "case" in line:
            values = [line.get(name) for name in columns]
            cells = "".join(f"{'' if value is None else format(value, ','):>15}" for value in values)
            print(f"{line['case']:<46}{cells}{'  ' + line['failed'][:60] if 'failed' in line else ''}")
        elif "failed" in line or "left_out" in line:
            print(f"{line['group']:<46}  {line.get('failed') or line.get('left_out')}")


if __name__ == "__main__":
    main()
