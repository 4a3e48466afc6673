"""The commands that talk: `jaegpt chat`, `web`, `serve` and `export`. What is heavy is imported once a command runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaegpt.generation.gguf import Precision
    from jaegpt.generation.settings import GenerateConfig
    from jaegpt.generation.speaker import Speaker

TUNED_FOLDER = Path("models/jaegpt")
BASE_FOLDER = Path("data/base_model")
CONVERSATIONS = Path("data/conversations")  # below data/, which Git never tracks


def add_commands(commands: Any) -> None:
    """Add the commands to an argument parser's subparsers."""
    chat = commands.add_parser(
        "chat",
        help="talk to the fine-tuned model beside the base model",
        description="Talk to the fine-tuned model beside the untouched base model. /help lists what else can be typed.",
        epilog="example: jaegpt chat --once 'how was your weekend?' --json",
    )
    chat.add_argument("--once", metavar="TEXT", help="answer this message and end")
    chat.add_argument("--json", action="store_true", help="with --once: print one JSON object")
    chat.add_argument("--first", action="store_true", help="let the models speak first")
    chat.set_defaults(run=_chat)
    web = commands.add_parser(
        "web",
        help="a page for talking to both models",
        description="Serve a page for talking to both models. It loads nothing from other machines.",
        epilog="example: jaegpt web",
    )
    serve = commands.add_parser(
        "serve",
        help="an OpenAI-compatible server, for other programs",
        description="Serve /v1/chat/completions and /v1/models, with the models `jaegpt` and `base`.",
        epilog="example: jaegpt serve, then OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none YOUR_PROGRAM",
    )
    for parser, port in ((web, 7860), (serve, 8000)):
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            help="address to listen on (127.0.0.1, this machine alone); any other asks for a token, see JAEGPT_TOKEN",
        )
        parser.add_argument("--port", type=int, default=port, help=f"port to listen on ({port})")
        parser.set_defaults(run=_listen)
    serve.add_argument(
        "--allow-origin",
        metavar="URL",
        action="append",
        default=[],
        help="let scripts of pages from URL, like http://localhost:3000, ask the server; can be given several times",
    )
    add_root_path(web)
    export = commands.add_parser(
        "export",
        help="write the fine-tuned model in another program's format",
        description="Write the fine-tuned model for other programs, with the settings that suit it: as a GGUF file for "
        "llama.cpp, without its second head, the same with a Modelfile for Ollama, or as a folder for transformers, "
        "vLLM and the like.",
        epilog="example: jaegpt export --ollama models/ollama",
    )
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--gguf", metavar="FILE", help="the GGUF file to write")
    form.add_argument("--ollama", metavar="DIR", help="the folder for Ollama's Modelfile and its GGUF file")
    form.add_argument("--folder", metavar="FOLDER", help="the new folder to write")
    export.add_argument(
        "--precision", choices=("f16", "q8_0"), help="of a GGUF file: f16, or q8_0, which is half as large (f16)"
    )
    export.set_defaults(run=_export)


def add_root_path(parser: argparse.ArgumentParser) -> None:
    """Add the option of a page that stands behind a reverse proxy."""
    parser.add_argument(
        "--root-path", metavar="PATH", default="", help="path under which a reverse proxy shows the page, e.g. /jaegpt"
    )


def _export(arguments: argparse.Namespace) -> None:
    if arguments.folder is not None:
        from jaegpt.errors import JaegptError
        from jaegpt.generation.model_export import export_folder

        if arguments.precision is not None:
            raise JaegptError(
                "--precision goes with --gguf and --ollama. The folder's weights are as they were trained."
            )
        print(export_folder(TUNED_FOLDER, Path(arguments.folder)))
        return
    precision: Precision = arguments.precision or "f16"
    if arguments.ollama is not None:
        from jaegpt.generation.ollama import NAME, export_ollama

        path = export_ollama(TUNED_FOLDER, Path(arguments.ollama), precision=precision)
        print(f"ollama create {NAME} -f {shlex.quote(str(path))}")
        print(f"ollama run {NAME}")
        return
    from jaegpt.generation.gguf import export_gguf

    path = export_gguf(TUNED_FOLDER, Path(arguments.gguf), precision=precision)
    print(f"{path}: {path.stat().st_size / 1e6:,.0f} MB")


def _chat(arguments: argparse.Namespace) -> None:
    from jaegpt.errors import JaegptError

    if arguments.json and arguments.once is None:
        raise JaegptError("--json goes with --once.")
    if arguments.first and arguments.once is not None:
        raise JaegptError("--first begins a conversation, --once answers a message. Give one of them.")
    from jaegpt.chat.terminal import Chat, chat_once, run_terminal

    speakers, config, seed = load_speakers()

    def write(text: str) -> None:
        print(text, end="", flush=True)

    chat = Chat(speakers, config, seed, CONVERSATIONS, write)
    if arguments.once is not None:
        print(chat_once(chat, arguments.once, arguments.json))
        return
    print(f"{speakers['jaegpt'].device.reason}", file=sys.stderr)
    print("This is a model of a person, not the person. /help lists the commands, Ctrl-D leaves.", file=sys.stderr)
    if arguments.first:
        chat.begin()
    run_terminal(chat)


def _listen(arguments: argparse.Namespace) -> None:
    from jaegpt.chat.access import Guard, bind, choose_token
    from jaegpt.chat.connections import serve
    from jaegpt.chat.origins import is_loopback, opened_origins
    from jaegpt.chat.pages import checked_prefix, outermost
    from jaegpt.chat.worker import Worker

    origins = opened_origins(arguments.allow_origin) if arguments.command == "serve" else None
    root_path = checked_prefix(arguments.root_path) if arguments.command == "web" else ""
    listener = bind(arguments.host, arguments.port)  # before the models, which take a while
    speakers, config, seed = load_speakers()
    block_size = speakers["jaegpt"].block_size
    token, local = choose_token(arguments.host), is_loopback(arguments.host.lower())
    with Worker(speakers) as worker:
        app: Any
        if arguments.command == "web":
            from jaegpt.chat.web import Page, make_page

            app = outermost(make_page(Page(worker, config, seed, speakers["jaegpt"].view)), token, root_path, local)
        else:
            from jaegpt.chat.server import make_app

            app = Guard(make_app(worker, config, seed, block_size), token, local=local, origins=origins)
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        address = f"http://{host}:{listener.getsockname()[1]}"
        if arguments.command == "web":
            ready = f"Open {address}{root_path}/{f'?token={token}' if token else ''} in a browser; Ctrl-C ends."
        else:
            ready = f"Listening on {address}/v1{f', API key {token}' if token else ''}; Ctrl-C ends."
        serve(app, listener, ready)


def load_speakers() -> tuple[dict[str, Speaker], GenerateConfig, int]:
    """The fine-tuned and the base model by name, the sampling settings and the seed, as params.yaml says.

    Raises:
        JaegptError: there is no trained model yet, or a parameter is wrong.
    """
    from jaegpt.params import Params

    if not Path("params.yaml").is_file() or not TUNED_FOLDER.is_dir():
        from jaegpt.errors import JaegptError

        raise JaegptError(f"no trained model yet: {TUNED_FOLDER} is not here. Run `dvc repro` in the project's folder.")
    from jaegpt.chat.conversation import BASE, TUNED
    from jaegpt.dialogue.examples import DatasetConfig
    from jaegpt.dialogue.session_gaps import SessionConfig
    from jaegpt.errors import JaegptError
    from jaegpt.generation.settings import GenerateSettings, found_settings
    from jaegpt.generation.speaker import Speaker
    from jaegpt.training.config import TrainConfig
    from jaegpt.training.devices import choose_device
    from jaegpt.training.model_folder import HEAD_FILE

    params = Params()
    config = params.section("generate", GenerateSettings).resolved(found_settings())
    training, dataset = params.section("train", TrainConfig), params.section("dataset", DatasetConfig)
    view = {
        "num_history": dataset.num_history,
        "block_size": params.value("block_size"),
        "token_types": training.token_types,
        "learn": dataset.learn,
        "separator": params.section("session", SessionConfig).separator,
    }
    view = trained_view(view, TUNED_FOLDER)
    device = choose_device(training.precision, eager=True)  # as the stages that measure what it says
    tuned = Speaker(TUNED_FOLDER, **view, device=device)
    if not tuned.has_head:
        raise JaegptError(
            f"{TUNED_FOLDER}: no {HEAD_FILE} here, so this model is of another version, or none of jaegpt's. "
            "Run `dvc repro --force train`."
        )
    return {TUNED: tuned, BASE: Speaker(BASE_FOLDER, **view, device=device)}, config, params.value("seed")


def trained_view(wanted: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The parameters `wanted` as the model in `folder` was trained with them; as given where it does not say.

    Raises:
        JaegptError: the folder does not hold what training writes, or messages stood apart in another way: then what
            is typed and shown as several messages would be one to the model, or the reverse.
    """
    from jaegpt.errors import JaegptError
    from jaegpt.model_files import read_json
    from jaegpt.training.model_folder import ORIGINAL

    config = folder / "config.json"
    said = read_json(config).get("jaegpt", {}) if config.is_file() else {}
    trained = {**ORIGINAL, **said} if config.is_file() and isinstance(said, dict) else {}
    if not isinstance(said, dict) or any(
        type(trained.get(key, value)) is not type(value) for key, value in wanted.items()
    ):
        raise JaegptError(f"{config}: `jaegpt` does not hold what training wrote there. Run `dvc repro --force train`.")
    separator = trained.get("separator", wanted.get("separator"))
    if separator != wanted.get("separator", separator):
        raise JaegptError(
            f"session.separator is {wanted['separator']} in params.yaml, but the model in {folder} was trained with "
            f"{separator}. Run `dvc repro`, or set session.separator to {separator}."
        )
    for key, value in wanted.items():
        if trained.get(key, value) != value:
            print(
                f"{key} is {value} in params.yaml, but the model was trained with {trained[key]}, which it is given "
                "here; `dvc repro` trains it again.",
                file=sys.stderr,
            )
    return {key: trained.get(key, value) for key, value in wanted.items()}
