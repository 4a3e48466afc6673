"""The command `jaegpt`. Each subcommand loads its own modules, so that `jaegpt inspect` need not wait for PyTorch."""

import argparse
import sys

from jaegpt.chat import commands as chat
from jaegpt.errors import run
from jaegpt.runs import commands as runs
from jaegpt.sweep import command as sweep
from jaegpt.turing import command as turing
from jaegpt.use import command as use


def main() -> None:
    """Entry of the console script: what the user can mend is one `error: ...` line and exit code 1."""
    run(_main)


def _main() -> None:
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a pipe may hold anything
    arguments = _parser().parse_args()
    arguments.run(arguments)  # each command's parser names the function that runs it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaegpt", description="Your own chat export -> a small language model that answers the way you do."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect",
        help="what is in a download, before anything is run",
        description="Read chat exports of any messenger in docs/exports.md and say what they hold. Nothing is sent.",
        epilog="example: jaegpt inspect ~/Downloads/facebook-download.zip",
    )
    inspect.add_argument("path", nargs="+", metavar="PATH", help="a folder, zip or file; several are one export")
    inspect.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    inspect.set_defaults(run=_inspect)
    use.add_command(commands)
    chat.add_commands(commands)
    turing.add_command(commands)
    runs.add_commands(commands)
    sweep.add_command(commands)
    return parser


def _inspect(arguments: argparse.Namespace) -> None:
    from jaegpt.inspection import inspect_export

    print(inspect_export(arguments.path, as_json=arguments.json))


if __name__ == "__main__":
    main()
