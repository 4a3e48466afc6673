"""The command `jaegpt turing`: its arguments, and where its contexts and replies come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaegpt.chat.commands import TUNED_FOLDER, add_root_path

if TYPE_CHECKING:
    from jaegpt.evaluation.contexts import Context
    from jaegpt.params import Params

FOLDER = Path("data/turing")  # below data/, which Git never tracks
REPLIES = "data/replies_tuned"  # one to each context, by stage fidelity
# What that stage draws by, beside the model: files, and parameters or their sections.
DRAWN_BY = ("models/generation_config.json", "generate", "block_size", "train.", "session.", "dataset.")


def add_command(commands: Any) -> None:
    """Add the command to an argument parser's subparsers."""
    turing = commands.add_parser(
        "turing",
        help="a page to find out whether anyone can tell the model from the person",
        description="Show contexts with a few replies each, one real and the rest the model's, on a page for this "
        f"machine alone. Each game is saved as CSV in {FOLDER}. Run it after `dvc repro`.",
        epilog="example: jaegpt turing --rounds 30 --pool 2",
    )
    turing.add_argument("--rounds", type=int, default=20, help="rounds per game, at least 20 (20)")
    turing.add_argument(
        "--pool",
        metavar="K",
        type=int,
        default=4,
        help="replies to choose from, 2 to 8 (4); of the model's one is there, the others are drawn when this starts",
    )
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
    from jaegpt.chat.access import bind, choose_token
    from jaegpt.chat.connections import serve
    from jaegpt.chat.pages import checked_prefix, outermost
    from jaegpt.evaluation.config import FidelityConfig
    from jaegpt.evaluation.contexts import choose_contexts, read_replies
    from jaegpt.params import Params
    from jaegpt.tables import read_table
    from jaegpt.turing.page import Games, make_page
    from jaegpt.turing.rounds import check_numbers, make_rounds, write_sheet

    rounds, pool = arguments.rounds, arguments.pool
    check_numbers(rounds, pool)
    params = Params()
    seed = params.value("seed")
    count = params.field("fidelity.contexts", FidelityConfig)
    contexts = choose_contexts(read_table("data/examples", "examples"), count, seed)
    replies = [read_replies(REPLIES, contexts)]
    check_model(more=pool > 2)
    # Before anything is drawn: more replies can only leave fewer contexts.
    make_rounds(contexts, list(zip(*replies, strict=True)), rounds, (seed, 0))
    root_path = checked_prefix(arguments.root_path)
    listener = None if arguments.sheet else bind("127.0.0.1", arguments.port)
    if pool > 2:
        replies += draw_more(contexts, params, pool - 2)
    generated = list(zip(*replies, strict=True))  # [contexts] pool - 1 replies
    if listener is None:
        sheet, key = write_sheet(FOLDER, make_rounds(contexts, generated, rounds, (seed, 0)))
        print(f"{sheet}: print it, or open it in a browser. It holds real messages: mind who gets it.")
        print(f"{key}: the key")
        return
    app = make_page(Games(contexts, generated, rounds, seed, FOLDER))
    token = choose_token("127.0.0.1")  # on a machine that others use, JAEGPT_TOKEN keeps them out
    address = f"http://127.0.0.1:{listener.getsockname()[1]}{root_path}/{f'?token={token}' if token else ''}"
    serve(outermost(app, token, root_path, local=True), listener, f"Open {address} in a browser; Ctrl-C ends.")


def draw_more(contexts: Sequence[Context], params: Params, count: int) -> list[list[str]]:
    """[count][contexts] further replies, drawn as stage fidelity drew the first ones but for the seed.

    Raises:
        JaegptError: there is no model, or a parameter does not fit it.
    """
    from tqdm import tqdm

    from jaegpt.dialogue.separators import Separator
    from jaegpt.evaluation.contexts import answer_contexts, open_speaker
    from jaegpt.generation.settings import GenerateSettings, found_settings
    from jaegpt.training.config import Learn
    from jaegpt.training.devices import choose_device
    from jaegpt.training.precision import Precision

    config = params.section("generate", GenerateSettings).resolved(found_settings())
    speaker = open_speaker(
        TUNED_FOLDER,
        contexts,
        block_size=params.value("block_size"),
        token_types=params.field("train.token_types", bool),
        learn=params.field("dataset.learn", Learn),
        separator=params.field("session.separator", Separator),
        device=choose_device(params.field("train.precision", Precision), eager=True),
    )
    seed = params.value("seed")
    print(f"turing: the model writes {count} more replies to each of {len(contexts):,} contexts.", file=sys.stderr)
    steps = tqdm(range(1, count + 1), desc="drawing", unit="reply each", disable=None)
    return [answer_contexts(speaker, contexts, config, seed + number) for number in steps]


def check_model(more: bool = False) -> None:
    """Make sure that the replies are those of models/jaegpt: `dvc exp apply` brings another model, but not its replies.

    Args:
        more: further replies will be drawn, so the settings must be those that the first ones were drawn by.

    Raises:
        JaegptError: they are not, or DVC cannot say.
    """
    if not Path("dvc.lock").is_file():
        return
    from jaegpt.dvc_status import changed_since
    from jaegpt.errors import JaegptError

    changed = changed_since(Path("."), ["fidelity"])["fidelity"]
    made_of = (str(TUNED_FOLDER), REPLIES)
    found = [path for path in changed if path in made_of or (more and path.startswith(DRAWN_BY))]
    if found:
        raise JaegptError(
            f"turing: {' and '.join(found)} changed since the replies were made, so they may be another model's, or "
            "drawn in another way. Run `dvc repro fidelity`."
        )
