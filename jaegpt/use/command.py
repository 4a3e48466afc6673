"""The command `jaegpt use`. What is heavy is imported once it runs."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add the command to an argument parser's subparsers."""
    use = commands.add_parser(
        "use",
        help="set params.yaml up for your own chats",
        description="Read chat exports as `jaegpt inspect` does; say what is used, how much there is to learn from, "
        "how long training takes on this machine and what memory and disk it needs; and write params.yaml, whose text "
        "before is kept in params.yaml.before. Nothing is sent.",
        epilog="example: jaegpt use ~/chats",
    )
    use.add_argument("path", nargs="+", metavar="PATH", help="a folder, zip or file; several are one export")
    use.add_argument("--yes", action="store_true", help="ask nothing and take what is proposed")
    use.set_defaults(run=_use)


def _use(arguments: argparse.Namespace) -> None:
    from jaegpt.use.steps import use_chats

    use_chats(arguments.path, takes_all=arguments.yes)
