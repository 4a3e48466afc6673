"""The command `jaegpt turing`: its arguments, and where its contexts and replies come from."""

import argparse
from pathlib import Path
from typing import Any

from jaegpt.chat.commands import add_root_path

FOLDER = Path("data/turing")  # below data/, which Git never tracks


def add_command(commands: Any) -> None:
    """Add the command to an argument parser's subparsers."""
    turing = commands.add_parser(
        "turing",
        help="a page to find out whether anyone can tell the model from the person",
        description="Show contexts with two replies each, one real and one the model's, on a page for this machine "
        f"alone. Each game is saved as CSV in {FOLDER}. Run it after `dvc repro`.",
        epilog="example: jaegpt turing --rounds 30",
    )
    turing.add_argument("--rounds", type=int, default=20, help="rounds per game, at least 20 (20)")
    turing.add_argument("--port", type=int, default=7861, help="port to listen on (7861)")
    add_root_path(turing)
    turing.add_argument(
        "--sheet", action="store_true", help="write a sheet to print, and its key, instead of serving a page"
    )
    turing.set_defaults(run=_turing)


def _turing(arguments: argparse.Namespace) -> None:
    """Serve the page, or write the sheet.

    Raises:
        JaegptError: the pipeline has not run since the model changed, or has too few contexts for so many rounds.
    """
    from jaegpt.evaluation.config import FidelityConfig
    from jaegpt.evaluation.contexts import choose_contexts, read_replies
    from jaegpt.params import Params
    from jaegpt.tables import read_table
    from jaegpt.turing.rounds import make_rounds, write_sheet

    params = Params()
    seed = params.value("seed")
    count = params.field("fidelity.contexts", FidelityConfig)
    contexts = choose_contexts(read_table("data/examples", "examples"), count, seed)
    generated = read_replies("data/replies_tuned", contexts)
    check_model()
    if arguments.sheet:
        sheet, key = write_sheet(FOLDER, make_rounds(contexts, generated, arguments.rounds, (seed, 0)))
        print(f"{sheet}: print it, or open it in a browser. It holds real messages: mind who gets it.")
        print(f"{key}: the key")
        return
    from jaegpt.chat.access import bind, choose_token
    from jaegpt.chat.connections import serve
    from jaegpt.chat.pages import checked_prefix, outermost
    from jaegpt.turing.page import Games, make_page

    root_path = checked_prefix(arguments.root_path)
    listener = bind("127.0.0.1", arguments.port)
    app = make_page(Games(contexts, generated, arguments.rounds, seed, FOLDER))
    token = choose_token("127.0.0.1")  # on a machine that others use, JAEGPT_TOKEN keeps them out
    address = f"http://127.0.0.1:{listener.getsockname()[1]}{root_path}/{f'?token={token}' if token else ''}"
    serve(outermost(app, token, root_path, local=True), listener, f"Open {address} in a browser; Ctrl-C ends.")


def check_model() -> None:
    """Make sure that the replies are those of models/jaegpt: `dvc exp apply` brings another model, but not its replies.

    Raises:
        JaegptError: they are not, or DVC cannot say.
    """
    if not Path("dvc.lock").is_file():
        return
    from jaegpt.dvc_status import changed_since
    from jaegpt.errors import JaegptError

    changed = changed_since(Path("."), ["fidelity"])["fidelity"]
    found = [path for path in ("models/jaegpt", "data/replies_tuned") if path in changed]
    if found:
        raise JaegptError(
            f"turing: {' and '.join(found)} changed since the replies were made, so they may be another model's. "
            "Run `dvc repro fidelity`."
        )
